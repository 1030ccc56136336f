"""The picture of the KV benchmark: time to first token, resuming, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], path: Path) -> None:
    """Three panels: TTFT over context length, resume of real shapes, bytes and seconds of a save."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(16, 6.4), layout="constrained")
    for (size, rows), color in zip(report["first_token"].items(), ("tab:blue", "tab:green"), strict=False):
        lengths = [row["tokens"] for row in rows]
        for key, line, what in (
            ("computed_again_s", "o--", "computed again"),
            ("resumed_s", "o-", "resumed from disk"),
        ):
            times = [row[key]["median"] for row in rows]
            panels[0].plot(lengths, times, line, color=color, label=f"{size}, {what}")
    panels[0].set(xscale="log", yscale="log", xlabel="tokens of context", ylabel="s", title="time to first token")
    panels[0].legend(fontsize=8)
    names: list[str] = []
    for shape in report["resume"]:
        for state in ("warm", "fresh", "cold"):
            figures = shape[state]
            for label, key, tint in (
                ("raw read", "raw_read_s", "silver"),
                ("Soul, K8V4", "soul_s", "tab:blue"),
                ("mlx_lm, fp16", "mlx_lm_fp16_s", "tab:orange"),
            ):
                bar(panels[1], len(names), figures[key], tint)
                names.append(f"{shape['shape']}, {shape['tokens']}, {state}: {label}")
    panels[1].set(yticks=range(len(names)), yticklabels=names, xlabel="ms until the first append", title="resume")
    panels[1].tick_params(axis="y", labelsize=7)
    panels[1].invert_yaxis()
    labels: list[str] = []
    for shape in report["resume"]:
        save = shape["save"]
        for label, key, tint in (
            ("compute thread", "compute_thread_s", "tab:blue"),
            ("writer", "writer_s", "tab:cyan"),
            ("whole file", "whole_file_s", "silver"),
            ("mlx_lm fp16, whole", "mlx_lm_fp16_s", "tab:orange"),
        ):
            bar(panels[2], len(labels), save[key], tint)
            labels.append(f"{shape['shape']}, {shape['tokens']}: {label}")
    panels[2].set(yticks=range(len(labels)), yticklabels=labels, xlabel="ms", title="saving a turn of 512 tokens")
    panels[2].tick_params(axis="y", labelsize=7)
    panels[2].invert_yaxis()
    figure.savefig(path, dpi=120)


def bar(panel: Any, place: int, times: dict[str, float], color: str) -> None:
    """Median in milliseconds, with a line from the least to the most."""
    low, middle, high = (1000 * times[key] for key in ("min", "median", "max"))
    panel.barh(place, middle, color=color, xerr=[[middle - low], [high - middle]], error_kw={"lw": 0.8})
