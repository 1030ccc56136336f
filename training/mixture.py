"""Which scenes a model is taught by and how often: one endless stream, a function of its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from training import drills
from training.abstract import CITED, COPYING, WORDS
from training.days import bare, calls, day, kept, quick, talk
from training.plans import plan
from training.scenes import Scene
from training.verdicts import KINDS as VERDICTS
from training.verdicts import short_verdicts, verdict, verdicts
from training.vocabulary import Split, Vocabulary

StageName = Literal[
    "repeats", "ids-1", "ids-2", "ids-3", "asked", "told", "cited", "bare", "kept", "days",
]  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """What is taught for a while."""

    abstract: float = 0.01
    """Share of parts of random ids (`training.abstract`)."""
    levels: tuple[int, ...] = (3, WORDS)
    """How hard those are."""
    shares: Mapping[str, int] = field(default_factory=dict)
    """Weights of the kinds of scenes."""


BARE = {
    "quick": 45, "bare": 15, "day": 8, "calls": 8, "rewrite": 3, "short verdicts": 12, "plan": 2, "looked up": 12,
    "copied": 3, "written": 1,
}  # fmt: skip
DAYS = {
    "quick": 140, "talk": 46, "bare": 34, "day": 50, "calls": 160, "rewrite": 46, "kept": 90, "verdict": 96,
    "short verdicts": 64, "plan": 14, "looked up": 8, "copied": 20, "written": 1,
}  # fmt: skip
LEVELS = (3, WORDS, WORDS, WORDS, WORDS, WORDS, CITED)
"""How hard the random ids are that stand beside whole days."""
STAGES: dict[StageName, Stage] = {
    "repeats": Stage(1.0, (COPYING,)),
    "ids-1": Stage(1.0, (1,)),
    "ids-2": Stage(1.0, (2,)),
    "ids-3": Stage(1.0, (3,)),
    "asked": Stage(1.0, (2, 3, 3, WORDS, WORDS, WORDS, WORDS, CITED)),
    "told": Stage(0.75, (WORDS,), shares={"quick": 1}),
    "cited": Stage(0.5, (3, CITED, CITED, CITED), shares=BARE),
    "bare": Stage(0.35, (3, WORDS, CITED, CITED), shares=BARE),
    "kept": Stage(0.22, LEVELS, shares=DAYS | {"kept": 450}),
    "days": Stage(0.22, LEVELS, shares=DAYS),
}
"""What a model learns in turn: to copy and to look up in random ids, how a question finds its answer in lists and
among memories, to say where it stands, to choose what a notebook keeps, and whole days. Each step is short where the
one before it is mastered, and is not made at all where it is left out."""
BARE_LENGTH = 3_000
"""Most characters of a bare day."""
QUICK_LENGTH, MOST_QUICK = 180, 14
"""Characters of a memory with its question and answer; most memories that are asked for in a row."""
TALK_LENGTH = 290
"""Characters of a fact that is told, asked for and noted down, with the opening's share."""
KEPT_LENGTH, MOST_KEPT = 160, 14
"""Characters of a turn and of its line, and most turns before a notebook's rewriting without an opening."""
VERDICT_LENGTH, MOST_VERDICTS = 480, 10
"""Characters of a question with its verdict; most of them in a row."""
SHORT_LENGTH, MOST_SHORT = 100, 24
"""The same of a short question."""
MARKED = (
    "found", "not there", "refused", "window", "notebook", "quoted", "small talk", "told", "tool", "rewrite",
    *VERDICTS, "plan",
)  # fmt: skip
"""What the evaluation asks."""


def scene(seed: str, split: Split, length: int, stage: StageName = "days") -> Scene:
    """One scene of any kind; a day has up to about `length` characters."""
    rng = random.Random(seed)
    words = Vocabulary(rng, split)
    shares = STAGES[stage].shares
    kind = rng.choices(list(shares), list(shares.values()))[0]
    match kind:
        case "day":
            return day(words, length=rng.randint(length // 4, length))
        case "calls":
            return calls(words, rng.randint(length // 4, length))
        case "bare":
            return bare(words, rng.randint(0, min(length // 2, BARE_LENGTH)))
        case "quick":
            return quick(words, max(2, min(length // QUICK_LENGTH, MOST_QUICK)))
        case "talk":
            return talk(words, max(2, min(length // TALK_LENGTH, MOST_QUICK)))
        case "kept":
            return kept(words, max(2, min(length // KEPT_LENGTH, MOST_KEPT)))
        case "rewrite":
            return day(words, "rewrite", rng.randint(0, length), rng.choice((4, 12, 30)))
        case "verdict":
            return verdicts(words, min(length // VERDICT_LENGTH, MOST_VERDICTS))
        case "short verdicts":
            return short_verdicts(words, min(length // SHORT_LENGTH, MOST_SHORT))
        case "plan":
            return plan(words)
        case "looked up":
            return drills.looked_up(words)
        case "copied":
            return drills.copied(words)
        case _:
            return drills.written(words)


def short(seed: str, split: Split) -> Scene:
    """A list with questions, which has room nearly everywhere."""
    return drills.looked_up(Vocabulary(random.Random(seed), split))


def marked(kind: str, seed: str, split: Split = "held_out", length: int = 1_500) -> Scene:
    """A scene whose last line is of that kind, for the evaluation."""
    words = Vocabulary(random.Random(seed), split)
    if kind in VERDICTS:
        return verdict(words, kind)
    # A window that is full has more in it than a line or two.
    least = length if kind == "rewrite" else 0
    return plan(words) if kind == "plan" else day(words, kind, least + words.rng.randint(0, length))
