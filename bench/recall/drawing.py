"""The picture of the recall benchmark: Soul beside its peers, and what each term of the score brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TARGETS = {"turn recall@10": 0.75, "session recall@5": 0.87, "overlap@5": 0.90}


def draw(report: dict[str, Any], path: Path) -> None:
    """One panel for each measure; a bar is the mean over questions, its line the standard error."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    panels: list[tuple[str, dict[str, dict[str, float]]]] = []
    if talked := report.get("conversations"):
        for measure in ("turn recall@10", "session recall@5"):
            rows = {"Soul, held out": talked.get("held_out"), "Soul": talked["weights_that_ship"]}
            rows |= {f"  {name}": one for name, one in talked["terms"].items()} | talked["peers"]
            panels.append((measure, {name: one[measure] for name, one in rows.items() if one}))
    if read := report.get("texts"):
        panels += [(measure, {way: one[measure] for way, one in read["all"].items()}) for measure in ("overlap@5",)]
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 4.2), squeeze=False, layout="constrained"
    )
    for axis, (measure, rows) in zip(axes[0], panels, strict=True):
        for place, (name, value) in enumerate(rows.items()):
            color = (
                "tab:blue" if name in ("Soul", "Soul, held out") else "lightsteelblue" if name[0] == " " else "silver"
            )
            axis.barh(place, value["mean"], xerr=value["error"], color=color, capsize=2)
            axis.text(value["mean"] + 0.04, place, f"{value['mean']:.3f}", va="center", fontsize=9)
        axis.axvline(TARGETS[measure], color="tab:red", linestyle=":", linewidth=1)
        axis.set(xlim=(0, 1.12), title=measure, yticks=range(len(rows)), yticklabels=list(rows))
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Recall (dotted: target; light blue: Soul with less)", fontsize=11)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
