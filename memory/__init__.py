"""What the Soul remembers: sectors (self, notebook, window), packets, corpora, embedding, recall.

Knows nothing of MCP.
"""
