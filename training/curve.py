"""Draws the loss over the tokens of a run. Knows points and a picture."""

from __future__ import annotations

from pathlib import Path

from engine.errors import Unavailable
from training.trainer import Point


def draw(curve: list[Point], path: Path) -> None:
    """Writes a PNG. Raises Unavailable without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable("The picture needs matplotlib.", "pip install 'soul-mcp[seedling]'") from error

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.plot([one.tokens / 1e6 for one in curve], [one.loss for one in curve], linewidth=0.8)
    axes.set_xlabel("tokens read, millions")
    axes.set_ylabel("loss per learned token, nats")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
