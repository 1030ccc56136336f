"""What the answers should be: exact neighbours, and Soul's own ranking computed without candidates, caps or indexes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.store.rows import Question, Rows
from memory import lexemes
from memory.database import Database
from memory.ranking import FLAT, K1, SEMANTIC_CANDIDATES, B
from memory.shapes import Weights

K = 10


def neighbours(rows: Rows, question: Question, *, whole: bool) -> set[int]:
    """The ten rows of largest cosine."""
    cosines = rows.vectors @ question.vector
    if not whole:
        cosines = np.where(rows.corpus == question.corpus, cosines, -2)
    return set(np.argsort(-cosines)[:K].tolist())


@dataclass(frozen=True)
class Exact:
    """Every posting of the store, sorted by lexeme, in memory."""

    rows: Rows
    lexeme: NDArray[np.int64]
    row: NDArray[np.int64]
    frequency: NDArray[np.float64]
    length: NDArray[np.float64]  # of each row

    TRACES = "SELECT id, length, lexemes, counts FROM traces"

    @classmethod
    async def read(cls, database: Database, rows: Rows, row_of: dict[object, int]) -> Exact:
        traces = await database.fetch(cls.TRACES)
        numbers = np.array([row_of[trace["id"]] for trace in traces])
        sizes = [len(trace["lexemes"]) for trace in traces]
        lexeme = np.concatenate([trace["lexemes"] for trace in traces]).astype(np.int64)
        order = np.argsort(lexeme, kind="stable")
        length = np.zeros(len(rows.texts))
        length[numbers] = [trace["length"] for trace in traces]
        frequency = np.concatenate([trace["counts"] for trace in traces]).astype(np.float64)
        return cls(rows, lexeme[order], np.repeat(numbers, sizes)[order], frequency[order], length)

    def best(self, question: Question, *, whole: bool) -> set[int]:
        """The ten rows of the highest score of their own, both fused."""
        there = np.ones(len(self.length), bool) if whole else self.rows.corpus == question.corpus
        words = self._bm25(question, there)
        cosines = np.where(there, self.rows.vectors @ question.vector, -2)
        nearest = np.sort(cosines)[::-1][:SEMANTIC_CANDIDATES]
        farthest = min(nearest[-1], nearest[0] - FLAT)
        meaning = np.maximum(cosines - farthest, 0) / (nearest[0] - farthest)
        share = Weights().semantic
        fused = share * meaning + (1 - share) * words / max(words.max(), 1e-9)
        return set(np.argsort(np.where(there, -fused, 0))[:K].tolist())

    def _bm25(self, question: Question, there: NDArray[np.bool_]) -> NDArray[np.float64]:
        total, mean = int(there.sum()), float(self.length[there].mean())
        scores = np.zeros(len(self.length))
        for lexeme in lexemes.of_query(question.text):
            start, end = np.searchsorted(self.lexeme, [lexeme, lexeme + 1])
            row, frequency = self.row[start:end], self.frequency[start:end]
            row, frequency = row[there[row]], frequency[there[row]]
            idf = np.log(1 + (total - len(row) + 0.5) / (len(row) + 0.5))
            scores[row] += idf * frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * self.length[row] / mean))
        return scores
