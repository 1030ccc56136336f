"""TIES-merging of one tensor: trim, elect sign, merge (Yadav et al. 2023, arXiv:2306.01708), in float32.

`merged = base + λ · Σ w·δ·m / Σ w·m`, where δ are the trimmed task vectors and m keeps the entries whose sign is that
of their sum. Knows arrays; the element-for-element oracle is mergekit's `ties`. Half precision is never used inside: it
flips signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import InvalidInput
from evolution.tensors import Floats

DENSITY = 0.3
LAMBDA = 0.3
ALONE = 0.85
"""λ for one adapter alone, untrimmed: a dream that went on with all before it has nobody to disagree with. Measured in
`bench.evolution.stream`: the most that kept the anchor's perplexity within 1.05 times."""


@dataclass(frozen=True)
class Ties:
    """The numbers of a whole merge. See docs/evolution.md for what each one does."""

    lam: float = LAMBDA
    """λ: how far to go from the anchor. 0.3 is the `0.7 anchor + 0.3 soul` of the recipe."""
    normalize: bool = True
    """Divide by the weights that took part, so that ten adapters do not go ten times as far as one."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.lam <= 2.0:
            raise InvalidInput(f"A lambda of {self.lam} is out of range.", "It lies between 0 and 2; 0.3 is usual.")


@dataclass(frozen=True)
class Share:
    """What one adapter brings to a merge."""

    weight: float = 1.0
    density: float = DENSITY
    """Share of the task vector's entries, by magnitude and per tensor, that survive trimming."""

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            raise InvalidInput(f"A density of {self.density} is out of range.", "It lies above 0 and up to 1.")


def trim(delta: Floats, density: float) -> Floats:
    """`delta` with all but its largest entries set to zero, in place. Among equals the earlier ones stay.

    Keeps `max(1, ⌊density · n⌋)` entries.
    """
    if density >= 1 or delta.size == 0:
        return delta
    flat = delta.reshape(-1)
    keep = max(1, int(density * flat.size))
    size = np.abs(flat)
    border = np.partition(size, flat.size - keep)[flat.size - keep]
    drop = size < border
    equal = np.flatnonzero(size == border)
    room = keep - int(np.count_nonzero(size > border))
    drop[equal[room:]] = True
    flat[drop] = 0.0
    return delta


def merge(base: Floats, deltas: Sequence[Floats], shares: Sequence[Share], numbers: Ties) -> Floats:
    """One merged tensor. `deltas` are consumed: they are trimmed and scaled in place.

    A delta is taken as float32 weights would carry it, `(base + δ) - base`, which is what a merge of whole models
    sees: otherwise entries at the border of the trimming would differ from it.

    Args:
        base: the anchor's tensor.
        deltas: a task vector per adapter, of the same shape; none gives the base back.
        shares: one per delta.
    """
    if not deltas:
        return base
    for delta, share in zip(deltas, shares, strict=True):
        delta += base
        delta -= base
        trim(delta, share.density)
        delta *= np.float32(share.weight)
    total = np.zeros_like(base)
    for delta in deltas:
        total += delta
    up = total >= 0
    mixed, divisor = total, np.zeros_like(base)
    mixed[:] = 0
    for delta, share in zip(deltas, shares, strict=True):
        agrees = np.where(up, delta > 0, delta < 0)
        mixed += np.where(agrees, delta, np.float32(0))
        divisor += agrees * np.float32(share.weight)
    if numbers.normalize:
        divisor[divisor == 0] = 1
        mixed /= divisor
    mixed *= np.float32(numbers.lam)
    mixed += base
    return mixed
