"""How far two generations lie apart, layer by layer: the norm of the difference over the norm of the former.

Knows plastic tensors only, since nothing else ever differs. Generation 0 is the anchor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from engine.errors import Conflict, InvalidInput
from evolution import tensors
from evolution.anchor import PLASTIC_FILE, find
from evolution.generations import Generations
from evolution.plastic import LAYER
from evolution.tensors import Place


def layers(home: Path, one: int, other: int) -> dict[str, float]:
    """The relative difference by layer, `layer 0 self_attn.q_proj` and so on, in the order of the model.

    Raises:
        NotFound: a generation does not exist.
        InvalidInput: both are the anchor.
        Conflict: they stand on different anchors.
    """
    generations = Generations(home)
    named = [generations.get(number) for number in (one, other) if number]
    if not named:
        raise InvalidInput("The anchor does not differ from itself.", "Name a generation.")
    if len({made.anchor for made in named}) > 1:
        raise Conflict("These generations stand on different anchors.", "Compare two of one anchor.")
    sides = [plastic_places(home, number, named[0].anchor) for number in (one, other)]
    squares: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name in sides[0].keys() | sides[1].keys():
        if name in sides[0] and name in sides[1]:
            former = tensors.read(sides[0][name])
            change = tensors.read(sides[1][name]) - former
            both = squares[name]
            both[0] += float(np.vdot(change, change))
            both[1] += float(np.vdot(former, former))
    found = {name: math.sqrt(change / norm) if norm else 0.0 for name, (change, norm) in squares.items()}
    return {_title(name): found[name] for name in sorted(found, key=_order)}


def plastic_places(home: Path, number: int, anchor: str) -> dict[str, Place]:
    """Where the tensors of a generation, or of the anchor it stands on, lie. Raises Conflict where that is gone."""
    if number:
        return tensors.places(Generations(home).folder(number) / PLASTIC_FILE)
    found = find(home, anchor, "all-linear") or find(home, anchor, "attention")
    if found is None:
        raise Conflict("The split anchor is gone.", "`soul integrate` splits it anew.")
    return found.plastic


def _order(name: str) -> tuple[int, str]:
    match = LAYER.match(name)
    return (int(match["layer"]), match["key"]) if match else (-1, name)


def _title(name: str) -> str:
    match = LAYER.match(name)
    return f"layer {match['layer']} {match['key'].removesuffix('.weight')}" if match else name
