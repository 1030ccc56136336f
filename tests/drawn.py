"""A model of random weights, drawn from a fixed seed: for tests of what has nothing to do with what a model says.

`untrained` writes one that is marked as such; without a note it is a model like any other.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.seedling import weights
from engine.seedling.weights import HEAD_DIM, HEADS, HIDDEN, INTERMEDIATE, KV_HEADS, VOCABULARY
from evolution import tensors

SEED, LAYERS, DEVIATION = 20_240_601, 6, 0.02
CONFIG: dict[str, Any] = {
    **weights.CONFIG,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 8192,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
NOTICE = "These words come from an untrained model: they mean nothing."


def drawn(folder: Path, dtype: str = "F32", **notes: Any) -> Path:
    """The model as a folder, in a dtype of choice; `notes` go into its soul.json."""
    weights.describe(folder, {**CONFIG, "torch_dtype": TYPES[dtype]}, {"name": folder.name, **notes})
    arrays = draw()
    layout = {name: (dtype, tuple(array.shape)) for name, array in arrays.items()}
    tensors.write(folder / "model.safetensors", layout, (tensors.encoded(array, dtype) for array in arrays.values()))
    return folder


def untrained(models: Path) -> Path:
    """The model below `models`, named "drawn"."""
    return drawn(models / "drawn", trained=False, notice=NOTICE)


def draw() -> dict[str, NDArray[np.float32]]:
    """All tensors by name, float32, in the order in which they are drawn."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{at}self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{at}self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{at}self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{at}mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{at}mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{at}mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            f"{at}input_layernorm.weight": (HIDDEN,),
            f"{at}post_attention_layernorm.weight": (HIDDEN,),
        }
    shapes |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    return {name: _tensor(rng, name, shape) for name, shape in shapes.items()}


def _tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Norms are ones; the rest is uniform with the deviation of GPT-2's start, less where it feeds the residual."""
    if "norm" in name:
        return np.ones(shape, np.float32)
    deviation = DEVIATION
    if "o_proj" in name or "down_proj" in name:
        deviation /= math.sqrt(2 * LAYERS)
    return rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(deviation * math.sqrt(3))
