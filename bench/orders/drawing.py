"""The picture of the orders under fire: in which states they and their runs ended, and what must be nought."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(figures: dict[str, Any], path: Path) -> None:
    """Two rows of bars: orders by final state, runs by how they ended."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axes, title, counted in (
        (both[0], "orders", figures["states"]),
        (both[1], "runs of the Hands", figures["runs"]),
    ):
        names = sorted(counted, key=lambda name: counted[name])
        bars = axes.barh(names, [counted[name] for name in names])
        axes.bar_label(bars, padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.15)
    figure.suptitle(
        f"{figures['orders']:,} orders, daemon killed {figures['kills']} times: {figures['open']} open, "
        f"{figures['run_twice']} run twice, {figures['begun_again']} wrongly begun again",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
