"""Which hits say as good as the same, so that one text that was said ten times does not take ten places.

Knows texts as words in order. Knows nothing of scores: of several the first one stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.recall import Hit

ALIKE = 0.9
"""Share of neighbouring pairs of words that two texts must have in common (Jaccard) to count as one."""
SAMPLE = 8
"""Lexemes of a text, the lowest ones, by which it is seen that two have little in common."""
_WORD = re.compile(r"\w+")
_SPACED = {code: " " for code in range(128) if not _WORD.match(chr(code))}


def first_of_each(hits: Sequence[Hit], samples: Sequence[frozenset[int]]) -> list[Hit]:
    """The hits without those that repeat an earlier one, which are counted in its `repeats`.

    Texts whose numbers differ never repeat each other, however much else they have in common. `samples` are the lowest
    `SAMPLE` lexemes of each text. Two that repeat each other have nearly all of them in common; texts that have not
    even half are not taken apart, which would take longer than all else that is done here.
    """
    kept: list[Hit] = []
    seen: list[tuple[frozenset[int], _Text]] = []
    for hit, sample in zip(hits, samples, strict=True):
        text = _Text(hit.prose)
        likely = (
            place for place, (other, _) in enumerate(seen) if 2 * len(sample & other) >= min(len(sample), len(other))
        )
        same = next((place for place in likely if text.repeats(seen[place][1])), None)
        if same is None:
            kept.append(hit)
            seen.append((sample, text))
        else:
            kept[same] = replace(kept[same], repeats=kept[same].repeats + 1)
    return kept


class _Text:
    """A text taken apart only as far as somebody asks: most hits have nothing in common, and that is seen first."""

    def __init__(self, prose: str) -> None:
        self._prose = prose

    @cached_property
    def words(self) -> list[str]:
        folded = self._prose.casefold()
        # Several times as fast as the pattern, and the same words.
        return folded.translate(_SPACED).split() if folded.isascii() else _WORD.findall(folded)

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(pairwise(self.words))

    @cached_property
    def numbers(self) -> list[str]:
        return [word for word in self.words if not word.isalpha() and any(map(str.isdigit, word))]

    def repeats(self, other: _Text) -> bool:
        if not self.pairs:
            return self.words == other.words
        if self.numbers != other.numbers:
            return False
        common = len(self.pairs & other.pairs)
        return common >= ALIKE * (len(self.pairs) + len(other.pairs) - common)
