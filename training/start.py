# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# torch is in an extra that not every checkout has.
"""The weights that a run begins with: drawn ones, in which the first two layers can copy already.

A small model needs some tens of millions of tokens until an induction head forms (arXiv 2209.11895), and nothing that
is asked of the seedling can be learned before. What such a head is made of is known, so it is written down instead:
the first layer's heads look one and two tokens back, whatever stands there; the second layer's look for a place whose
tokens before are those that stand here, and say what stood there. Training goes on from there and may change it all.

Knows the model's weights; does not know what is taught.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

Matrix = NDArray[np.float64]

WORD = slice(1, 128)
"""Where in the residual stream the token itself stands; all tokens have the same at 0."""
BEFORE = (slice(128, 192), slice(192, 256))
"""Where the first layer writes the tokens one and two places before."""
CONSTANT, LENGTH = 0.5, 1.0
"""What all tokens have at 0, and the length of an embedding's other part."""
SHARPNESS, MATCH = 30.0, 14.0
"""Logits by which a look back stands out, and a match."""
STEADY = 2e-3
"""Pairs of a head that turn by less a token are the same at all distances: what is compared, is compared in them."""


def copying(model: LlamaForCausalLM, seed: int) -> None:
    """Writes the first two layers and the embedding; needs 4 heads of 64, 2 of keys and values, 256 wide."""
    import torch

    config: Any = model.config
    rng = np.random.default_rng(seed)
    size, width = int(config.head_dim), int(config.hidden_size)
    theta = config.rope_parameters["rope_theta"]
    turns = theta ** (-np.arange(size // 2) / (size // 2))

    embedding = np.zeros((config.vocab_size, width))
    embedding[:, WORD] = rng.normal(0, LENGTH / math.sqrt(127), (config.vocab_size, 127))
    embedding[:, 0] = CONSTANT
    seen = math.sqrt(width) / math.hypot(CONSTANT, LENGTH)  # by the norm of the first layer

    first: Any = model.model.layers[0].self_attn
    second: Any = model.model.layers[1].self_attn
    q, k, v, o = (_of(getattr(first, f"{name}_proj")) for name in "qkvo")
    weights = np.concatenate([[0.3, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.02], np.zeros(size // 2 - 8)])
    tall = np.sqrt(weights * SHARPNESS * math.sqrt(size)) / (seen * CONSTANT)
    look = _orthonormal(rng, size, 127)
    for kv in range(2):
        at = slice(kv * size, (kv + 1) * size)
        k[at, 0] = [*tall, *np.zeros(size // 2)]
    v[:size] = 0
    v[:size, WORD] = look * 0.35
    for head in range(4):
        at, back = slice(head * size, (head + 1) * size), head + 1
        q[at, 0] = [*(tall * np.cos(back * turns)), *(-tall * np.sin(back * turns))]
        if head < 2:
            o[:, at] = 0
            o[BEFORE[head], at] = np.eye(size) * 0.25
    _put(first, q, k, v, o)

    q, k, v, o = (_of(getattr(second, f"{name}_proj")) for name in "qkvo")
    pairs = np.flatnonzero(turns < STEADY)
    steady = np.concatenate([pairs, pairs + size // 2])
    written = 0.35 * 0.25 * seen * LENGTH * math.sqrt(size / 127)  # length of what the first layer writes
    norm = math.sqrt(width) / math.sqrt(CONSTANT**2 + LENGTH**2 + 2 * written**2)
    mine, theirs = LENGTH * math.sqrt(size / 127) * norm, written * norm
    tall = math.sqrt(MATCH * math.sqrt(size))
    for kv in range(2):
        turned = [_orthonormal(rng, len(steady), size) * math.sqrt(size / len(steady)) for _ in BEFORE]
        at = slice(kv * size, (kv + 1) * size)
        k[at] = v[at] = 0
        for mixed, place in zip(turned, BEFORE, strict=True):
            block = np.zeros((size, size))
            block[steady] = mixed * tall / theirs
            k[at, place] = block
        half = np.arange(1, 128)[kv * 64 : kv * 64 + 64]
        v[kv * size + np.arange(len(half)), half] = 0.5
        for head in (2 * kv, 2 * kv + 1):
            rows = slice(head * size, (head + 1) * size)
            q[rows] = 0
            block = np.zeros((size, 127))
            block[steady] = turned[0] @ look * tall / mine
            q[rows, WORD] = block
            if head % 2:
                block = np.zeros((size, size))
                block[steady] = turned[1] * tall / theirs
                q[rows, BEFORE[0]] = block
            o[:, rows] = 0
            o[half, head * size + np.arange(len(half))] = 0.35
    _put(second, q, k, v, o)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.from_numpy(embedding))


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Matrix:
    """Orthonormal rows, fewer than columns."""
    return np.linalg.qr(rng.normal(size=(columns, rows)))[0].T


def _of(layer: Any) -> Matrix:
    return layer.weight.detach().double().numpy().copy()


def _put(attention: Any, *weights: Matrix) -> None:
    import torch

    with torch.no_grad():
        for name, value in zip("qkvo", weights, strict=True):
            getattr(attention, f"{name}_proj").weight.copy_(torch.from_numpy(value))
