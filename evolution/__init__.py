"""Evolution: what was lived becomes adapters, adapters become generations, and every step can be undone.

The parts: `adapter`, `peft` and `joining` know low-rank adapters; `anchor` splits the base weights once; `ties` merges
one tensor; `integrate` makes a generation of anchor and adapters; `generations` keeps them and says which one is in
force; `gate` judges one by `probes`; `unlearning` finds what ate a memory; `heartbeat` runs the whole cycle. What
computes runs in the process of its command, never in the daemon. See docs/evolution.md.
"""
