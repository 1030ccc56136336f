"""Tokens in, tokens out: models, the one compute thread, KV caches, the memory budget.

Knows nothing of prose, databases or MCP.
"""
