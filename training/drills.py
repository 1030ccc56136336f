"""Copying and looking up in their barest form, and plain English: what a small model learns the rest upon."""

from __future__ import annotations

from engine.seedling.prose import prose
from training.facts import Fact, fact, missed, near, question
from training.scenes import Line, Right, Scene
from training.vocabulary import Vocabulary

MOST = 16
"""About as many facts are in a list at most."""
MISSING = 0.20
"""Share of the questions that a list, or many memories, may not answer."""


def copied(words: Vocabulary) -> Scene:
    """Says a list again, word for word."""
    first = fact(words)
    lines = [first.said, *(other.said for other in near(words, first, words.rng.randint(1, 7)))]
    text = "\n".join(f"- {one}" for one in lines)
    return Scene("drill", "Say it again.", (), (Line("user", text), Line("assistant", text)), Right(keep=tuple(lines)))


def looked_up(words: Vocabulary) -> Scene:
    """A list of some facts and questions about them; some ask for what it does not hold."""
    rng = words.rng
    facts: dict[str, Fact] = {}
    count = rng.randint(2, MOST)
    while len(facts) < count:
        one = fact(words)
        facts |= {other.key: other for other in (one, *near(words, one, rng.choice((0, 0, 1, 2, 3))))}
    listed = rng.sample(list(facts.values()), len(facts))
    lines = [Line("user", "\n".join(f"- {one.said}" for one in listed)), Line("assistant", "Noted.")]
    right = Right()
    for one in rng.sample(listed, len(listed)):
        asked = one
        if rng.random() < MISSING:
            asked = missed(words, listed)
        known = facts.get(asked.key)
        lines += [
            Line("user", question(words, asked)),
            Line("assistant", f"{known.answer}." if known else asked.unknown),
        ]
        right = Right(known.value if known else "")
    return Scene("drill", "Answer from the list.", (), tuple(lines), right)


def written(words: Vocabulary) -> Scene:
    """Plain sentences."""
    text = " ".join(prose(words.rng.randint(3, 10), words.rng.getrandbits(32)))
    return Scene("drill", "", (), (Line("user", "Write."), Line("assistant", text)))
