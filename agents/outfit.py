"""The outfit card: what a mounted corpus is, in a few lines that an agent, a client and a person can read.

Knows the lines and their budget; does not know how a corpus is indexed. Light to import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.corpora import CorpusInfo

CARD_TOKENS = 300
"""Budget of a card in the agent's tokens: it is told in mid-window and stands in every context after that."""
SKIPPED_SHOWN = 5


def card(info: CorpusInfo) -> str:
    """What the corpus is, how fresh, its main terms, what was left out, and what may have been misread."""
    lines = _head(info, f"{info.bytes / 1e6:.1f} MB, {_origin(info)}")
    if info.owed:
        lines.append(f"{info.owed} passages are searchable by keyword only; their vectors follow")
    if info.terms:
        lines.append(f"main terms: {', '.join(info.terms)}")
    for what, files in (("skipped", info.skipped), ("doubtful", info.doubtful)):
        if files:
            shown = "; ".join(f"{path} ({why})" for path, why in files[:SKIPPED_SHOWN])
            more = len(files) - SKIPPED_SHOWN
            lines.append(f"{what} {len(files)}: {shown}" + (f" and {more} more" if more > 0 else ""))
    return "\n".join(lines)


def worn(info: CorpusInfo, count: Callable[[str], int], budget: int = CARD_TOKENS) -> str:
    """The card as an agent sees it: without what was skipped, and with as many terms as `budget` tokens hold."""
    lines = _head(info, _origin(info))
    for terms in range(len(info.terms), 0, -1):
        made = "\n".join([*lines, f"main terms: {', '.join(info.terms[:terms])}"])
        if count(made) <= budget:
            return made
    # Folders or a path may be as long as they like; the name is what tools are called with.
    while len(lines) > 1 and count("\n".join(lines)) > budget:
        lines.pop()
    return "\n".join(lines) if count("\n".join(lines)) <= budget else info.name


def _head(info: CorpusInfo, origin: str) -> list[str]:
    lines = [
        f"{info.name}: {info.files} files, {info.chunks} passages, {origin}",
        f"indexed {info.indexed:%Y-%m-%d %H:%M}" if info.indexed else "not indexed yet",
    ]
    if info.kinds:
        lines.append(f"kinds: {', '.join(info.kinds)}")
    if info.sources:
        lines.append(f"in: {', '.join(info.sources)}")
    return lines


def _origin(info: CorpusInfo) -> str:
    return f"from {info.path}" if info.path else "imported"
