"""The picture of the endurance run: median and 99th percentile of writes and reads, minute by minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PIECES = 40


def draw(report: dict[str, Any], path: Path) -> None:
    """One panel for writes and one for reads, milliseconds over the time of the run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 3.8), sharex=True, layout="constrained")
    edges = np.linspace(0, report["seconds"], PIECES + 1)
    for panel, what in zip(panels, ("writes", "reads"), strict=True):
        at, ms = np.array(report["by_time"][what]).T
        piece = np.digitize(at, edges) - 1
        there = [n for n in range(PIECES) if (piece == n).any()]
        for q, style in ((50, "-"), (99, "--")):
            values = [np.percentile(ms[piece == n], q) for n in there]
            panel.plot([edges[n] / 60 for n in there], values, style, label=f"p{q}")
        panel.set(xlabel="minutes", ylabel="ms", yscale="log", title=f"{len(ms):,} {what}")
        panel.legend()
    figure.suptitle(
        f"{report['writers']} writers and {report['readers']} readers at once: {report['acknowledged']:,} packets, "
        f"{len(report['lost'])} lost, {len(report['errors'])} errors",
        fontsize=11,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
