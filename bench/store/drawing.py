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


MOST_SLOWER = 3.0
"""Times that recall may be slower at the larger size."""
LEAST_INGEST = 3000
"""Rows a second that are to be searchable by their words."""


def draw_scale(report: dict[str, Any], path: Path) -> None:
    """Left: milliseconds per question at each size. Right: rows a second while the store grows."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (times, ingest) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    sizes = list(report["stores"])
    height = 0.8 / len(sizes)
    for place, size in enumerate(sizes):
        store = report["stores"][size]
        for row, asked in enumerate(ASKED):
            figures = store["ms"][asked]
            at = row + (place - (len(sizes) - 1) / 2) * height
            label = f"{int(size):,} packets" if row == 0 else None
            times.barh(at, figures["p50"], height * 0.9, color=f"C{place}", label=label)
            times.plot(figures["p99"], at, "|", color="black")
            slower = f"   {report['times_slower'][asked]:.1f} times" if place == len(sizes) - 1 else ""
            times.text(figures["p99"] * 1.1, at, f"{figures['p50']:.1f} ms{slower}", va="center", fontsize=8)
        rates = store["building"]["searchable_rows_per_s_by_corpus"]
        ingest.plot([(n + 1) / len(rates) * int(size) for n in range(len(rates))], rates, label=f"{int(size):,}")
    times.set(xscale="log", xlabel="ms per question: median (bar), p99 (mark)", yticks=range(len(ASKED)))
    times.set_yticklabels(ASKED)
    times.set_xlim(0.3, times.get_xlim()[1] * 6)
    times.invert_yaxis()
    times.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)
    ingest.axhline(LEAST_INGEST, color="tab:red", linestyle=":", linewidth=1, label="target")
    ingest.set(xscale="log", xlabel="packets in the store", ylabel="rows/s searchable by words", ylim=(0, None))
    ingest.legend(fontsize=8)
    figure.suptitle(f"One store at two sizes, {report['corpora']} corpora (target: at most {MOST_SLOWER:.0f} times)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
