"""Batches of packed scenes, each a function of the seed and the step alone, so that a restart needs no state of them.

Knows tokens and targets; does not know models. A batch is filled with whole scenes one after another; into what is left
over at its end go drills, the last of which is cut.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
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
DECISIVE = 5.0
"""How much more than another a token counts that decides: the first of a reply (a call or an answer, accept or revise)
and what a key, a value and an argument begin with. What follows mostly follows from it."""
FORKS = ("The", " the", " of", " is", '": "', '": {"', '", "', "]")
"""Behind these it is decided which key, value or argument it is, and whether a line is kept."""
KEPT = 4.0
"""How much more than to let a line go it counts to keep one: small talk that is kept costs a few tokens, a fact that is
lost is lost."""
DIGIT = 2.0
"""What a digit counts. Ten of them make all dates and numbers of a window, so that what stood before one hardly tells
which comes next."""
ENDS = ('", "', '"}}', "\n")
"""What an argument or a line ends with, as a reply does; which of them is decided, too."""


@dataclass(frozen=True)
class Batch:
    """`ids` and `targets`, both int64 of (tokens,); a target is the id that follows, or IGNORED. `weights`: how much
    each target counts, float32 of (tokens,).

    `parts`: how many tokens each scene has, in their order; a scene is read without the others.
    """

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
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
    return Batch(ids, np.where(learned, follow, IGNORED), _weights(chat, ids, learned), tuple(parts))


def _weights(chat: Chat, ids: NDArray[np.int64], learned: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A blank of its own before what is decided decides nothing; the token behind it does."""
    blank, forks, lines, ends, digits = _forks(chat)
    chosen, stays = chat.encode("] stays")
    decisive = ~np.roll(learned, 1) | np.isin(ids, forks) | np.isin(np.roll(ids, -1), ends)
    decisive |= (ids == blank) & np.isin(np.roll(ids, 1), [*forks, lines])
    digit = np.where(np.isin(np.roll(ids, -1), digits), np.float32(DIGIT), np.float32(1.0))
    weights = np.where(decisive, np.float32(DECISIVE), digit)
    weights[(ids == chosen) & (np.roll(ids, -1) == stays)] *= KEPT
    return weights


@cache
def _forks(chat: Chat) -> tuple[int, list[int], int, list[int], list[int]]:
    """(the id of a blank, those of FORKS, what a line of the notebook begins with, those of ends, the digits)."""
    blank, line = chat.encode(" 1")[0], chat.encode("- 1")[0]
    forks = [chat.encode(f"{fork}1")[0] for fork in FORKS]
    ends = [chat.reply_end(())[0], *(chat.encode(end)[0] for end in ENDS)]
    return blank, forks, line, ends, chat.encode("0123456789")


def _fitting(chat: Chat, room: int, seed: str, split: Split, stage: StageName) -> Rendered:
    """A scene of at most `room` tokens, where one is found; otherwise a drill, which may be too long as well."""
    rng = random.Random(seed)
    if rng.random() < STAGES[stage].abstract:
        return abstract(chat, rng.choice(STAGES[stage].levels), seed)
    for attempt in range(TRIES):
        made = rendered(chat, scene(f"{seed} {attempt}", split, int(room * CHARACTERS) >> attempt, stage))
        if len(made.ids) <= room:
            return made
    return rendered(chat, short(seed, split))
