"""Batches of packed scenes, each a function of the seed and the step alone, so that a restart needs no state of them.

Knows tokens and targets; does not know models. A batch is filled with whole scenes one after another; into what is left
over at its end go drills, the last of which is cut.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from engine.chat import Chat
from training.abstract import abstract
from training.mixture import STAGES, StageName, scene, short
from training.rendering import Rendered, rendered
from training.vocabulary import Split

IGNORED = -100
"""The target of a place that is not learned; torch's cross entropy leaves it out."""
CHARACTERS = 1.6
"""Most characters of a day per token of its room; scenes have about 2.6 characters a token and an opening."""
TRIES = 4


@dataclass(frozen=True)
class Batch:
    """`ids` and `targets`, both int64 of (tokens,); a target is the id that follows, or IGNORED.

    `parts`: how many tokens each scene has, in their order; a scene is read without the others.
    """

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    parts: tuple[int, ...]


def batch(
    chat: Chat, tokens: int, longest: int, seed: int, step: int, split: Split = "train", stage: StageName = "days"
) -> Batch:
    """The batch of one step, of scenes of up to `longest` tokens: the same for the same arguments."""
    scenes: list[Rendered] = []
    room = tokens
    for part in count():
        made = _fitting(chat, min(room, longest + 1), f"{seed} {step} {part}", split, stage)
        scenes.append(made)
        room -= len(made.ids) - 1
        if room <= 0:
            break
    ids = np.concatenate([one.ids[:-1] for one in scenes])[:tokens].astype(np.int64)
    follow = np.concatenate([one.ids[1:] for one in scenes])[:tokens].astype(np.int64)
    learned = np.concatenate([one.learned[1:] for one in scenes])[:tokens].astype(np.bool_)
    parts = [len(one.ids) - 1 for one in scenes]
    parts[-1] += room  # it is cut where it is too long
    return Batch(ids, np.where(learned, follow, IGNORED), tuple(parts))


def _fitting(chat: Chat, room: int, seed: str, split: Split, stage: StageName) -> Rendered:
    """A scene of at most `room` tokens, where one is found; otherwise a drill, which may be too long as well."""
    rng = random.Random(seed)
    if rng.random() < STAGES[stage].abstract:
        return abstract(chat, rng.choice(STAGES[stage].levels), seed)
    for attempt in range(TRIES):
        made = rendered(chat, scene(f"{seed} {attempt}", split, int(room * CHARACTERS) >> attempt, stage))
        if len(made.ids) <= room:
            return made
    return rendered(chat, short(seed, split, stage))
