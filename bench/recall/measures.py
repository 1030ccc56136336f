"""What counts as found.

turn recall@10      share of the turns that hold the answer among the ten best hits
session recall@5    share of the sessions that hold the answer among the first five distinct sessions of the hits
overlap@5           whether one of the five best chunks overlaps a marked passage
precision, recall   of words: share of the five chunks' words that are marked; share of the marked words they hold
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from bench.recall.data import Asked, Text

TURNS = 10
SESSIONS = 5
CHUNKS = 5
DEPTH = 50
"""Hits that are looked at for five distinct sessions."""


def turn_recall(asked: Asked, found: Sequence[str]) -> float:
    """`found`: ids of turns, best first."""
    return len(asked.evidence & set(found[:TURNS])) / len(asked.evidence)


def session_recall(asked: Asked, found: Sequence[str], session_of: Mapping[str, str]) -> float:
    """`found`: ids of turns, best first."""
    wanted = {session_of[turn] for turn in asked.evidence}
    first = list(dict.fromkeys(session_of[turn] for turn in found[:DEPTH]))[:SESSIONS]
    return len(wanted & set(first)) / len(wanted)


class Passages:
    """The words of one text, to compare chunks with marked spans."""

    def __init__(self, text: Text) -> None:
        self._content = text.content
        self._starts = np.array([match.start() for match in re.finditer(r"\w+", text.content)])

    def covered(self, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """Which words begin inside one of the spans, shape (words,)."""
        inside = np.zeros(len(self._starts), bool)
        for start, end in spans:
            inside |= (self._starts >= start) & (self._starts < end)
        return inside

    def place(self, chunk: str) -> tuple[int, int]:
        """Where a chunk stands in the text; an empty span at the start when it is nowhere."""
        start = self._content.find(chunk)
        return (start, start + len(chunk)) if start >= 0 else (0, 0)

    def judged(self, spans: Sequence[tuple[int, int]], chunks: Sequence[str]) -> dict[str, float]:
        """The measures of one question; `chunks` best first."""
        places = [self.place(chunk) for chunk in chunks[:CHUNKS]]
        overlaps = any(start < last and first < end for start, end in places for first, last in spans)
        found, marked = self.covered(places), self.covered(spans)
        common = int((found & marked).sum())
        return {
            "overlap": float(overlaps),
            "precision": common / max(int(found.sum()), 1),
            "recall": common / max(int(marked.sum()), 1),
        }
