"""Which hits say as good as the same, so that one text that was said ten times does not take ten places.

Knows texts as words in order. Knows nothing of scores: of several the first one stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.recall import Hit

ALIKE = 0.9
"""Share of neighbouring pairs of words that two texts must have in common (Jaccard) to count as one."""
_WORD = re.compile(r"\w+")


def first_of_each(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without those that repeat an earlier one, which are counted in its `repeats`.

    Texts whose numbers differ never repeat each other, however much else they have in common.
    """
    kept: list[Hit] = []
    seen: list[_Text] = []
    for hit in hits:
        text = _Text.of(hit.prose)
        same = next((place for place, other in enumerate(seen) if text.repeats(other)), None)
        if same is None:
            kept.append(hit)
            seen.append(text)
        else:
            kept[same] = replace(kept[same], repeats=kept[same].repeats + 1)
    return kept


@dataclass(frozen=True)
class _Text:
    words: tuple[str, ...]
    pairs: frozenset[tuple[str, str]]
    numbers: tuple[str, ...]

    @classmethod
    def of(cls, prose: str) -> _Text:
        words = tuple(_WORD.findall(prose.casefold()))
        return cls(words, frozenset(pairwise(words)), tuple(word for word in words if any(map(str.isdigit, word))))

    def repeats(self, other: _Text) -> bool:
        if self.words == other.words:
            return True
        fewer, more = sorted((len(self.pairs), len(other.pairs)))
        if fewer < ALIKE * more or self.numbers != other.numbers or not self.pairs:
            return False
        common = len(self.pairs & other.pairs)
        return common >= ALIKE * (fewer + more - common)
