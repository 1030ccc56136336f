"""How the seedling is taught: what it reads, the trainer, the evaluation. Lies in the checkout and is not shipped.

Stands above `tools`, since every prompt is made by the house's own functions.
"""
