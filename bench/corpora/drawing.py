"""The picture of the corpora benchmark: looking again beside its peers, and how long a saved file is not found."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], path: Path) -> None:
    """Two panels; a bar is the median, its line goes from the lowest to the highest."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(2, 1, figsize=(9, 4.4), layout="constrained", height_ratios=(3, 1))
    _bars(left, report["unchanged_s"], report["targets"]["unchanged_s"])
    left.set(title=f"{report['files']:,} unchanged files looked at again, seconds")
    _bars(right, {"Soul": report["saved_to_found_s"]}, report["targets"]["saved_to_found_s"])
    right.set(title="one file saved until recall finds it, seconds")
    first = report["first_indexing"]
    figure.suptitle(
        f"{report['files']:,} files, {report['mb']} MB, {report['passages']:,} passages; first indexing "
        f"{first['seconds']:.1f} s, {first['files_per_s']:,} files/s (dotted: target)",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(panel: Any, rows: dict[str, dict[str, float]], target: float) -> None:
    for place, (name, figures) in enumerate(rows.items()):
        spread = [[figures["p50"] - figures["lowest"]], [figures["highest"] - figures["p50"]]]
        color = "tab:blue" if name == "Soul" else "silver"
        panel.barh(place, figures["p50"], xerr=spread, color=color, capsize=3)
        panel.text(figures["highest"] + 0.01 * target, place, f" {figures['p50']:.3f}", va="center", fontsize=9)
    panel.axvline(target, color="tab:red", linestyle=":", linewidth=1)
    most = max(target, *(figures["highest"] for figures in rows.values()))
    panel.set(yticks=range(len(rows)), yticklabels=list(rows), xlim=(0, most * 1.15))
    panel.invert_yaxis()
