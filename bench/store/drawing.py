"""The picture of the store benchmark: times on a logarithmic axis, recall@10 beside each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ASKED = ("mounted, hybrid", "whole store, hybrid", "mounted, vectors alone", "whole store, vectors alone")
TARGETS = {"mounted, hybrid": 3.0, "whole store, hybrid": 9.0}
"""Milliseconds that Soul is to stay below."""


def draw(report: dict[str, Any], path: Path) -> None:
    """One panel for each thing asked; a bar is the median of the repeats' medians, its line their spread."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    stores = list(report["loading_s"])
    stores.sort(key=lambda name: name != "Soul")
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 6.5), sharex=True, layout="constrained")
    for panel, asked in zip(panels.flat, ASKED, strict=True):
        for place, store in enumerate(stores):
            figures = report["ms"].get(f"{store}: {asked}")
            if figures is None:
                panel.text(0.12, place, "has none", va="center", color="gray")
                continue
            p50 = figures["p50"]
            spread = [[p50 - figures["p50_lowest"]], [figures["p50_highest"] - p50]]
            color = "tab:blue" if store == "Soul" else "silver"
            panel.barh(place, p50, xerr=spread, color=color, capsize=3)
            recall = report["recall_at_10"][f"{store}: {asked.split(',')[0]}"]
            panel.text(
                figures["p50_highest"] * 1.15, place, f"{p50:.1f} ms   recall {recall:.3f}", va="center", fontsize=9
            )
        if asked in TARGETS:
            panel.axvline(TARGETS[asked], color="tab:red", linestyle=":", linewidth=1)
        panel.set(xscale="log", xlim=(0.1, 20_000), title=asked, yticks=range(len(stores)), yticklabels=stores)
        panel.invert_yaxis()
    figure.suptitle(
        f"{report['rows']:,} rows, 384 dimensions, {report['corpora']} corpora: ms per question (dotted: target)"
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
