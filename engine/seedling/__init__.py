"""The seedling: a small Llama-shaped model that the project taught itself, so that everything runs offline at once.

`model/` is a folder that mlx_lm loads, with a card that says what the model can do; it was taught by `training/`.
"""
