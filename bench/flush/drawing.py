"""The picture of the kills around a flush: when each came, and how far the flush was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STATES = ("held", "rewritten", "archived", "done", "none")
BIN_MS = 10


def draw(figures: dict[str, Any], path: Path) -> None:
    """Kills by the milliseconds after a flush began, in the state in which they met it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 3.8), layout="constrained")
    behind = [(delay, state) for what, delay, state in figures["kills"] if what == "flush"]
    bins = range(0, int(max((delay for delay, _ in behind), default=0)) + 2 * BIN_MS, BIN_MS)
    met = [state for state in STATES if any(one == state for _, one in behind)]
    axes.hist([[delay for delay, one in behind if one == state] for state in met], bins=list(bins), stacked=True)
    legend = [f"{state}: {sum(one == state for _, one in behind)}" for state in met]
    axes.legend(legend, title="flush was", loc="upper left", bbox_to_anchor=(1, 1))
    axes.set(xlabel="ms after a flush began", ylabel="kills")
    axes.set_title(
        f"kill -9 at {figures['points']} points ({len(behind)} behind the beginning of a flush): "
        f"{len(figures['violations'])} violations",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
