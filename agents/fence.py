"""Marks text from outside as data, so that what a file, a tool or the Hands say is read and not obeyed."""

from __future__ import annotations

import re

CLOSING = re.compile(r"<(\s*/?\s*data)\b", re.IGNORECASE)


def fenced(text: str, origin: str) -> str:
    """`text` between <data> marks that name its origin; marks inside it are broken, so that it cannot end the fence."""
    body = CLOSING.sub(r"‹\1", text)
    name = re.sub(r"[^\w .:/-]", "", origin)[:80]
    return f'<data origin="{name}">\n{body}\n</data>'


def shortened(text: str, characters: int) -> str:
    """The head and the tail of a text that is too long, with what was left out said in between."""
    if len(text) <= characters:
        return text
    head, tail = characters * 2 // 3, characters // 3
    return f"{text[:head]}\n[… {len(text) - head - tail:,} characters left out …]\n{text[-tail:]}"
