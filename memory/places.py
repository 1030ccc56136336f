"""Where a passage stands, as a person opens it: lines, page, paragraph or cell of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def citation(path: str, metadata: Mapping[str, Any]) -> str:
    """`notes.md:12-40`, `paper.pdf:p3`, `letter.docx:¶4-9`, `study.ipynb:cell 2:1-8`."""
    first, last = metadata.get("lines") or metadata.get("paragraphs") or (1, 1)
    if "page" in metadata:
        return f"{path}:p{metadata['page']}"
    if "paragraphs" in metadata:
        return f"{path}:¶{first}-{last}"
    if "cell" in metadata:
        return f"{path}:cell {metadata['cell']}:{first}-{last}"
    return f"{path}:{first}-{last}"
