"""Which scenes a model is taught by and how often: one endless stream, a function of its seed."""

from __future__ import annotations

import random

from training import drills
from training.days import bare, day
from training.plans import plan
from training.scenes import Scene
from training.verdicts import KINDS as VERDICTS
from training.verdicts import verdict
from training.vocabulary import Split, Vocabulary

SHARES = {"day": 45, "bare": 10, "rewrite": 12, "verdict": 20, "plan": 5, "drill": 8}
"""Weights of the kinds."""
EARLY = {"day": 8, "bare": 50, "rewrite": 3, "verdict": 12, "plan": 2, "drill": 25}
"""The same at first, when it is to be learned how a question finds its answer."""
BARE_LENGTH = 1_800
"""Most characters of a bare day."""
MARKED = (
    "found", "not there", "refused", "window", "notebook", "quoted", "small talk", "told", "tool", "rewrite",
    *VERDICTS, "plan",
)  # fmt: skip
"""What the evaluation asks."""


def scene(seed: str, split: Split, length: int, early: bool = False) -> Scene:
    """One scene of any kind; a day has up to about `length` characters."""
    rng = random.Random(seed)
    words = Vocabulary(rng, split)
    shares = EARLY if early else SHARES
    kind = rng.choices(list(shares), list(shares.values()))[0]
    match kind:
        case "day":
            return day(words, length=rng.randint(length // 4, length))
        case "bare":
            return bare(words, rng.randint(0, min(length // 2, BARE_LENGTH)))
        case "rewrite":
            return day(words, "rewrite", rng.randint(length // 4, length))
        case "verdict":
            return verdict(words, rng.choice(list(VERDICTS)))
        case "plan":
            return plan(words)
        case _:
            return _drill(words)


def short(seed: str, split: Split) -> Scene:
    """A drill, which has room nearly everywhere."""
    return _drill(Vocabulary(random.Random(seed), split))


def _drill(words: Vocabulary) -> Scene:
    return words.rng.choices((drills.looked_up, drills.copied, drills.written), (6, 3, 1))[0](words)


def marked(kind: str, seed: str, split: Split = "held_out", length: int = 1_500) -> Scene:
    """A scene whose last line is of that kind, for the evaluation."""
    words = Vocabulary(random.Random(seed), split)
    if kind in VERDICTS:
        return verdict(words, kind)
    return plan(words) if kind == "plan" else day(words, kind, words.rng.randint(0, length))
