"""Several adapters as one, exactly: their ranks are laid side by side and their coefficients folded in.

`Σ cᵢ·sᵢ·Aᵢ·Bᵢ = [A₁ … Aₙ] · [c₁s₁B₁; …; cₙsₙBₙ]`. Nothing is trimmed and nothing rounded to the base's precision, so
this is the way to serve deltas that are too small for a quantised base to carry. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import Conflict, InvalidInput
from evolution.adapter import Adapter, Pair

MOST_RANK = 4096


def joined(name: str, adapters: Sequence[Adapter], coefficients: Mapping[str, float] | None = None) -> Adapter:
    """One adapter that changes every weight by the weighted sum of what the others change it by.

    Args:
        coefficients: by name; without them each has `1 / n`, the mean.

    Raises:
        InvalidInput: none are given, or the ranks together are too large to serve.
        Conflict: they belong to different anchors.
    """
    if not adapters:
        raise InvalidInput("There are no adapters to join.", "`soul adapter list` shows the kept ones.")
    anchors = {str(one.manifest.get("anchor", "")) for one in adapters}
    if len(anchors) > 1:
        raise Conflict("These adapters belong to different anchors.", "Join adapters of one model only.")
    factors = {one.name: (coefficients or {}).get(one.name, 1.0 / len(adapters)) for one in adapters}
    modules = sorted({module for one in adapters for module in one.pairs})
    pairs: dict[str, Pair] = {}
    for module in modules:
        mine = [(one, one.pairs[module]) for one in adapters if module in one.pairs]
        a = np.concatenate([pair.a for _, pair in mine], axis=1)
        b = np.concatenate([pair.b * np.float32(factors[one.name] * one.scale) for one, pair in mine], axis=0)
        pairs[module] = Pair(a, b)
    whole = Adapter(
        name,
        pairs,
        1.0,
        {
            "anchor": anchors.pop(),
            "from": "joined",
            "of": {one.name: one.manifest.get("sum", "") for one in adapters},
            "coefficients": factors,
        },
    )
    if whole.rank > MOST_RANK:
        raise InvalidInput(
            f"The joined adapter would have rank {whole.rank}, and {MOST_RANK} is the most.",
            "Integrate them into a generation instead.",
        )
    return whole
