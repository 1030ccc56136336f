"""Batches of packed examples, each a function of the seed and the step alone, so that a restart needs no state of them.

Knows rows and targets; does not know models. A row is filled with whole examples one after another and cut at its end;
the cut-off rest is not taught.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.chat import Chat
from training.examples import examples
from training.rendering import rendered
from training.vocabulary import Split

IGNORED = -100
"""The target of a place that is not learned; torch's cross entropy leaves it out."""
STEPS_APART = 1_000_003
AT_ONCE = 16


@dataclass(frozen=True)
class Batch:
    """`ids` and `targets`, both int64 of (rows, length); a target is the id that follows, or IGNORED."""

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]


def batch(chat: Chat, rows: int, length: int, seed: int, step: int, split: Split = "train") -> Batch:
    """The batch of one step: the same for the same arguments."""
    ids = np.zeros((rows, length), np.int64)
    targets = np.full((rows, length), IGNORED, np.int64)
    for row in range(rows):
        held, learned = _row(chat, length + 1, (seed * STEPS_APART + step) * rows + row, split)
        ids[row] = held[:-1]
        targets[row] = np.where(learned[1:], held[1:], IGNORED)
    return Batch(ids, targets)


def _row(chat: Chat, length: int, seed: int, split: Split) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    ids: list[int] = []
    learned: list[bool] = []
    part = 0
    while len(ids) < length:
        # Counted apart from the seed of the row, so that no two rows share a part.
        for one in examples(AT_ONCE, seed * 1_000 + part, split):
            made = rendered(chat, one)
            ids.extend(made.ids)
            learned.extend(made.learned)
            if len(ids) >= length:
                break
        part += 1
    return np.asarray(ids[:length], np.int64), np.asarray(learned[:length], np.bool_)
