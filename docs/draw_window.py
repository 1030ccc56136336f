"""Draws what the Director sees: `soul window --json | python docs/draw_window.py > docs/window.svg`.

A bar of the whole context, in proportion, what is computed already in full colour, and below it each sector and turn.
"""

from __future__ import annotations

import json
import sys
from html import escape
from typing import Any

WIDTH, LEFT, BAR_TOP, BAR_HEIGHT, ROW = 960, 24, 74, 46, 21
COLORS = {
    "self": "#7b4fa3",
    "role": "#a06cc4",
    "notebook": "#c77d1e",
    "outfit": "#3a8f5c",
    "tools and marks": "#7a8794",
    "user": "#2f6fb3",
    "assistant": "#66a3d9",
    "tool": "#9db4c6",
}
COLUMNS = (LEFT, LEFT + 190, LEFT + 262, LEFT + 350)
WORDS = 74


def drawn(view: dict[str, Any]) -> str:
    """The picture as SVG."""
    total = view["context_tokens"]
    scale = (WIDTH - 2 * LEFT) / total
    parts = [(one["name"], one["name"], one["tokens"], one["cached"], "") for one in view["sectors"]]
    parts += [(one["role"], f"window: {one['name'] or one['role']}", one["tokens"], one["cached"], one["words"])
              for one in view["turns"]]  # fmt: skip
    shapes: list[str] = []
    at = float(LEFT)
    for key, name, tokens, cached, _ in parts:
        color, wide = COLORS.get(key, "#888"), tokens * scale
        title = f"<title>{escape(name)}: {tokens:,} tokens, {cached:,} computed</title>"
        shapes.append(_box(at, wide, color, 0.35, title))
        shapes.append(_box(at, cached * scale, color, 1, title))
        at += wide
    limit = LEFT + view["limit"] * scale
    bottom = BAR_TOP + BAR_HEIGHT
    shapes.append(f'<rect x="{LEFT}" y="{BAR_TOP}" width="{total * scale:.1f}" height="{BAR_HEIGHT}" class="frame"/>')
    shapes.append(f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="{BAR_TOP - 8}" y2="{bottom + 8}" class="limit"/>')
    shapes.append(_text(limit, BAR_TOP - 13, f"let go from {view['limit']:,}", "small", "middle"))
    opened = LEFT + sum(one["tokens"] for one in view["sectors"]) * scale
    shapes.append(_text(LEFT, bottom + 18, "◀ opening: as of the last flush", "small"))
    shapes.append(_text(opened, bottom + 18, "▏window: appended only", "small"))
    shapes.append(_text(at + 6, bottom - 17, f"free {total - view['tokens']:,}", "small"))
    y = bottom + 52
    for place, label in zip(COLUMNS, ("sector", "tokens", "computed", ""), strict=True):
        shapes.append(_text(place + (58 if label in ("tokens", "computed") else 0), y, label, "small",
                            "end" if label in ("tokens", "computed") else "start"))  # fmt: skip
    for key, name, tokens, cached, words in parts:
        y += ROW
        shapes.append(f'<rect x="{COLUMNS[0]}" y="{y - 10}" width="11" height="11" fill="{COLORS.get(key, "#888")}"/>')
        shapes.append(_text(COLUMNS[0] + 18, y, name))
        shapes.append(_text(COLUMNS[1] + 58, y, f"{tokens:,}", anchor="end"))
        shapes.append(_text(COLUMNS[2] + 58, y, f"{cached:,}", anchor="end"))
        shapes.append(_text(COLUMNS[3], y, words if len(words) <= WORDS else words[: WORDS - 1] + "…", "small"))
    for one in view["deltas"]:
        y += ROW
        shapes.append(
            _text(COLUMNS[0] + 18, y, f"told with the next turn: new {one['sector']}, {one['tokens']:,} tokens")
        )
    head = f"{view['agent']} on {view['model']}: {view['tokens']:,} of {total:,} tokens, {view['cached']:,} computed"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 24}" width="{WIDTH}" role="img">',
        "<style>text{font:14px system-ui,sans-serif;fill:#222}.small{font-size:12px;fill:#666}"
        ".frame{fill:none;stroke:#444}.limit{stroke:#c0392b;stroke-width:2;stroke-dasharray:4 3}</style>",
        f'<rect width="{WIDTH}" height="{y + 24}" fill="#fff"/>',
        _text(LEFT, 32, head),
        *shapes,
        "</svg>\n",
    ])  # fmt: skip


def _box(x: float, width: float, color: str, opacity: float, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{BAR_TOP}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{color}" '
        f'fill-opacity="{opacity}">{title}</rect>'
    )


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


if __name__ == "__main__":
    sys.stdout.write(drawn(json.load(sys.stdin)))
