"""The geological picture: how much each generation's own change weighs in the present soul, layer by layer.

The present change D = W - W₀ is the sum of the changes s from each generation of the lineage to the next, whatever way
they were merged; the weight of one is its part along D, ⟨s, D⟩ / ⟨D, D⟩. The weights of a layer add up to 1; a negative
one was undone since. Knows plastic tensors only; generation 0 is the anchor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from engine.errors import InvalidInput, MissingExtra
from evolution import tensors
from evolution.comparing import plastic_places
from evolution.generations import Generations
from evolution.plastic import LAYER


@dataclass(frozen=True)
class Layer:
    """One block of the model."""

    name: str
    change: float
    """Norm of D over the norm of the anchor's weights."""
    weights: Mapping[int, float]
    """By generation, oldest first; they add up to 1, or are all 0 where nothing changed."""


def lineage(home: Path, number: int) -> tuple[int, ...]:
    """The generation and those that it was made after, oldest first, as far as they stand on its anchor.

    Raises NotFound, or InvalidInput for the anchor, which has no lineage.
    """
    generations = Generations(home)
    if number == 0:
        raise InvalidInput("The anchor is in force, and nothing lies upon it.", "Name a generation.")
    one = generations.get(number)
    there = {other.number for other in generations.all() if other.anchor == one.anchor}
    found = [number]
    while (parent := generations.get(found[-1]).parent) in there:
        found.append(parent)
    return tuple(reversed(found))


def strata(home: Path, number: int) -> tuple[Layer, ...]:
    """The layers of a generation, the first block first. Raises as `lineage`, and Conflict where the anchor is gone."""
    line = lineage(home, number)
    id = Generations(home).get(number).anchor
    anchor, *sides = (plastic_places(home, one, id) for one in (0, *line))
    sums: dict[str, list[float]] = {}
    for name in sorted({name for side in sides for name in side}, key=_order):
        base = tensors.read(anchor[name])
        at = [base] + [tensors.read(side[name]) if name in side else base for side in sides]
        whole = at[-1] - base
        parts = [float(np.vdot(later - former, whole)) for former, later in pairwise(at)]
        row = sums.setdefault(_layer(name), [0.0] * (len(line) + 2))
        for place, value in enumerate([float(np.vdot(whole, whole)), float(np.vdot(base, base)), *parts]):
            row[place] += value
    return tuple(
        Layer(
            name,
            math.sqrt(whole / norm) if norm else 0.0,
            {one: part / whole if whole else 0.0 for one, part in zip(line, parts, strict=True)},
        )
        for name, (whole, norm, *parts) in sums.items()
    )


def draw(layers: Sequence[Layer], path: Path) -> None:
    """A bar for each layer, as long as its change, divided among the generations. Raises MissingExtra."""
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("The picture needs matplotlib.", "pip install 'soul-mcp[evolution]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.8 + 0.25 * len(layers)))
    line = tuple(layers[0].weights)
    colours = matplotlib.colormaps["cividis"](np.linspace(0.05, 0.95, len(line)))
    places = np.arange(len(layers))
    right, left = np.zeros(len(layers)), np.zeros(len(layers))
    for one, colour in zip(line, colours, strict=True):
        widths = np.array([100 * layer.change * layer.weights[one] for layer in layers])
        start = np.where(widths >= 0, right, left)
        axes.barh(places, widths, left=start, color=colour, edgecolor="white", linewidth=0.4, label=f"generation {one}")
        right += np.maximum(widths, 0)
        left += np.minimum(widths, 0)
    axes.set_yticks(places, [layer.name for layer in layers])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xlabel("change from the anchor, % of the norm of its weights; left of 0: undone since")
    axes.set_title(f"What generation {line[-1]} is made of")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def _layer(name: str) -> str:
    match = LAYER.match(name)
    return f"layer {match['layer']}" if match else name


def _order(name: str) -> tuple[int, str]:
    match = LAYER.match(name)
    return (int(match["layer"]), name) if match else (-1, name)
