"""KV caches that outlive the process: their form in memory, their files, and how they come back.

`form` says what a cache looks like, `sealed` and `attention` compute with it, `families` chooses a strategy per layer,
`tensors`, `journal`, `shelf` and `saving` keep it on disk. The format is written down in docs/kv-caches.md.
"""
