"""A model of random weights, drawn from a fixed seed: for tests of what has nothing to do with what a model says.

`untrained` writes one that is marked as such; without a note it is a model like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.seedling.weights import CONFIG, describe, draw, tokenizer_bytes
from evolution import tensors

TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
NOTICE = "These words come from an untrained model: they mean nothing."


def drawn(folder: Path, dtype: str = "F32", **notes: Any) -> Path:
    """The model as a folder, in a dtype of choice; `notes` go into its soul.json."""
    folder.mkdir(parents=True)
    describe(folder, {**CONFIG, "torch_dtype": TYPES[dtype]}, {"name": folder.name, **notes}, tokenizer_bytes())
    arrays = draw()
    layout = {name: (dtype, tuple(array.shape)) for name, array in arrays.items()}
    tensors.write(folder / "model.safetensors", layout, (tensors.encoded(array, dtype) for array in arrays.values()))
    return folder


def untrained(models: Path) -> Path:
    """The model below `models`, named "drawn"."""
    return drawn(models / "drawn", trained=False, notice=NOTICE)
