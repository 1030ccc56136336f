"""The seedling: a small Llama-shaped model that the project makes itself, so that everything runs offline at once.

Its tokenizer was made of the project's own texts and lies here as `tokenizer.json`; its weights are drawn by `weights`
from a fixed seed on first use. Today it is untrained: its words mean nothing, and say so.
"""
