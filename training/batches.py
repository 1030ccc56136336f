"""Batches of packed scenes, each a function of the seed and the step alone, so that a restart needs no state of them.

Knows rows and targets; does not know models. A row is filled with whole scenes one after another; what is left over at
its end is padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.chat import Chat
from engine.seedling.template import CONTROL
from training.mixture import scene
from training.rendering import Rendered, rendered
from training.vocabulary import Split

IGNORED = -100
"""The target of a place that is not learned; torch's cross entropy leaves it out."""
READ_SHARE = 0.15
"""Share of the other places (what people, tools and memories say) that is learned as well, as plain text."""
CHARACTERS = 1.6
"""Most characters of a day per token of the row; scenes have about 2.1 characters a token and an opening."""
TRIES = 4
FIRST_PLAIN = len(CONTROL)
"""The first id that is no control token."""


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
        held, learned = _row(chat, length + 1, f"{seed} {step} {row}", split)
        ids[row] = held[:-1]
        targets[row] = np.where(learned[1:], held[1:], IGNORED)
    return Batch(ids, targets)


def repeats(rows: int, length: int, vocabulary: int, seed: int, step: int) -> Batch:
    """Rows of random ids in which each run of ids comes again after a gap; only what comes again is learned.

    What a model needs to find by this is the induction head (arXiv 2209.11895), on which all copying rests. In scenes
    it takes far longer to form: few of their ids are copied, and each of those can be guessed a little without it.
    """
    rng = np.random.default_rng([seed, step])
    ids = np.zeros((rows, length + 1), np.int64)
    learned = np.zeros((rows, length + 1), np.bool_)
    for row in range(rows):
        at = 0
        while at <= length:
            # Few ids at a time too: which of them is meant is then told by what stood before it, not by its rarity.
            among = int(rng.choice((64, 512, vocabulary - FIRST_PLAIN)))
            lowest = int(rng.integers(FIRST_PLAIN, vocabulary - among + 1))
            run = rng.integers(lowest, lowest + among, rng.integers(4, 33))
            gap = rng.integers(lowest, lowest + among, rng.integers(0, 20))
            made = np.concatenate((run, gap, run))[: length + 1 - at]
            ids[row, at : at + len(made)] = made
            learned[row, at + len(run) + len(gap) + 1 : at + len(made)] = True
            at += len(made)
    return Batch(ids[:, :-1], np.where(learned[:, 1:], ids[:, 1:], IGNORED))


def _row(chat: Chat, length: int, seed: str, split: Split) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    ids = np.zeros(length, np.int64)
    learned = np.zeros(length, np.bool_)
    at = part = 0
    while (made := _fitting(chat, length - at, f"{seed} {part}", split)) is not None:
        ids[at : at + len(made.ids)] = made.ids
        learned[at : at + len(made.ids)] = made.learned
        at += len(made.ids)
        part += 1
    draws = np.random.default_rng([int(one) for one in seed.split()]).random(length)
    return ids, learned | ((draws < READ_SHARE) & (np.arange(length) < at))


def _fitting(chat: Chat, room: int, seed: str, split: Split) -> Rendered | None:
    for attempt in range(TRIES):
        made = rendered(chat, scene(f"{seed} {attempt}", split, int(room * CHARACTERS) >> attempt))
        if len(made.ids) <= room:
            return made
    return None
