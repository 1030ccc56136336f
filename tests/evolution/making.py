"""Adapters and anchors for the tests of evolution: factors drawn from a fixed seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evolution import tensors
from evolution.adapter import Adapter, Pair
from evolution.anchor import anchor_id
from evolution.plastic import plastic_names


def adapter(name: str, base: Path, seed: int, *, rank: int = 8, size: float = 0.02, scale: float = 2.0) -> Adapter:
    """An adapter on all attention projections of `base`."""
    rng = np.random.default_rng(seed)
    every = tensors.places_of(base)
    pairs: dict[str, Pair] = {}
    for weight in plastic_names(every):
        out, into = every[weight].shape
        a = rng.normal(0, 1, (into, rank)).astype(np.float32) / np.float32(np.sqrt(into))
        pairs[weight.removesuffix(".weight")] = Pair(a, rng.normal(0, size, (rank, out)).astype(np.float32))
    return Adapter(name, pairs, scale, {"anchor": anchor_id(base), "sum": f"seed {seed}"})


def quiet(detail: str, share: float | None) -> None:
    """Progress that nobody looks at."""


def delta(one: Adapter, weight: str) -> tensors.Floats:
    """The change of a weight that the adapter is known to change."""
    found = one.delta(weight)
    assert found is not None
    return found
