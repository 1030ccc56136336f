"""The gate's report: Markdown for a person, JSON for programs, a picture where matplotlib is installed.

Knows what a verdict says; does not judge. It is kept whatever the verdict.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evolution.gate import Verdict
    from evolution.measuring import Measures

ROWS = (
    ("held_out", "held-out loss, nats per token"),
    ("perplexity", "perplexity of the anchor texts"),
    ("kl", "KL from the anchor, nats"),
    ("canaries", "loss on plain facts, nats per token"),
    ("tools", "valid tool calls, share"),
    ("refusals", "refusals, share"),
)


def report_files(verdict: Verdict, probes: str) -> dict[str, bytes]:
    """Contents by file name."""
    said = {**asdict(verdict), "passed": verdict.passed, "probes": probes}
    files = {"gate.json": json.dumps(said, indent=1).encode(), "gate.md": _markdown(verdict).encode()}
    if (picture := _picture(verdict)) is not None:
        files["gate.png"] = picture
    return files


def _columns(verdict: Verdict) -> list[tuple[str, Measures]]:
    former = [(f"generation {number}", one) for number, one in verdict.former.items()]
    return [("anchor", verdict.anchor), *former, (f"generation {verdict.number}", verdict.own)]


def _markdown(verdict: Verdict) -> str:
    columns = _columns(verdict)
    lines = [f"# Gate: generation {verdict.number} {'passed' if verdict.passed else 'failed'}", ""]
    lines += [f"- {words}" for words in (*verdict.doubts, *verdict.breaches)] or ["Nothing speaks against it."]
    lines += ["", "| | " + " | ".join(name for name, _ in columns) + " |", "|---|" + "---|" * len(columns)]
    for name, title in ROWS:
        values = [getattr(one, name) for _, one in columns]
        cells = ["" if value is None else f"{value:.4g}" for value in values]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    limits = ", ".join(f"{name} {value:g}" for name, value in asdict(verdict.limits).items())
    lines += ["", f"Judged by {verdict.held_out} held-out samples. Limits: {limits}.", ""]
    return "\n".join(lines)


def _picture(verdict: Verdict) -> bytes | None:
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = _columns(verdict)
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6))
    names = [name.replace("generation ", "") for name, _ in columns]
    for place, (name, title) in zip(axes.flat, ROWS, strict=True):
        values = [getattr(one, name) for _, one in columns]
        place.bar(names, [0.0 if value is None else value for value in values])
        place.set_title(title, fontsize=8)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    pyplot.close(figure)
    return file.getvalue()
