"""Batches of packed scenes, each a function of the seed and the step alone, so that a restart needs no state of them.

Knows tokens and targets; does not know models. A batch is filled with whole scenes one after another; into what is left
over at its end go drills, the last of which is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from engine.chat import Chat
from engine.seedling.template import CONTROL
from training.mixture import scene, short
from training.rendering import Rendered, rendered
from training.vocabulary import Split

IGNORED = -100
"""The target of a place that is not learned; torch's cross entropy leaves it out."""
READ_SHARE = 0.02
"""Share of the other places (what people, tools and memories say) that is learned as well, as plain text."""
CHARACTERS = 1.6
"""Most characters of a day per token of its room; scenes have about 2.1 characters a token and an opening."""
TRIES = 4
FIRST_PLAIN = len(CONTROL)
"""The first id that is no control token."""


@dataclass(frozen=True)
class Batch:
    """`ids` and `targets`, both int64 of (tokens,); a target is the id that follows, or IGNORED.

    `parts`: how many tokens each scene has, in their order; a scene is read without the others.
    """

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    parts: tuple[int, ...]


def batch(
    chat: Chat, tokens: int, longest: int, seed: int, step: int, split: Split = "train", *, early: bool = False
) -> Batch:
    """The batch of one step, of scenes of up to `longest` tokens: the same for the same arguments.

    `early`: mostly short scenes that teach to find an answer (`training.mixture`)."""
    scenes: list[Rendered] = []
    room = tokens
    for part in count():
        made = _fitting(chat, min(room, longest + 1), f"{seed} {step} {part}", split, early)
        scenes.append(made)
        room -= len(made.ids) - 1
        if room <= 0:
            break
    ids = np.concatenate([one.ids[:-1] for one in scenes])[:tokens].astype(np.int64)
    follow = np.concatenate([one.ids[1:] for one in scenes])[:tokens].astype(np.int64)
    learned = np.concatenate([one.learned[1:] for one in scenes])[:tokens].astype(np.bool_)
    learned |= np.random.default_rng([seed, step]).random(tokens) < READ_SHARE
    parts = [len(one.ids) - 1 for one in scenes]
    parts[-1] += room  # it is cut where it is too long
    return Batch(ids, np.where(learned, follow, IGNORED), tuple(parts))


def repeats(tokens: int, length: int, vocabulary: int, seed: int, step: int) -> Batch:
    """Parts of random ids in which each run of ids comes again after a gap; only what comes again is learned.

    What a model needs to find by this is the induction head (arXiv 2209.11895), on which all copying rests. In scenes
    it takes far longer to form: few of their ids are copied, and each of those can be guessed a little without it.
    """
    rng = np.random.default_rng([seed, step])
    rows = tokens // length
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
    targets = np.where(learned[:, 1:], ids[:, 1:], IGNORED)
    return Batch(ids[:, :-1].reshape(-1), targets.reshape(-1), (length,) * rows)


def _fitting(chat: Chat, room: int, seed: str, split: Split, early: bool) -> Rendered:
    """A scene of at most `room` tokens, where one is found; otherwise a drill, which may be too long as well."""
    for attempt in range(TRIES):
        made = rendered(chat, scene(f"{seed} {attempt}", split, int(room * CHARACTERS) >> attempt, early))
        if len(made.ids) <= room:
            return made
    return rendered(chat, short(seed, split))
