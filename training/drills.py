"""Copying and looking up in their barest form, and plain English: what a small model learns the rest upon."""

from __future__ import annotations

from engine.seedling.prose import prose
from training.facts import fact, question
from training.scenes import Line, Right, Scene
from training.vocabulary import Vocabulary


def copied(words: Vocabulary) -> Scene:
    """Says a list again, word for word."""
    lines = [fact(words).said for _ in range(words.rng.randint(2, 8))]
    text = "\n".join(f"- {one}" for one in lines)
    return Scene("drill", "Say it again.", (), (Line("user", text), Line("assistant", text)), Right(keep=tuple(lines)))


def looked_up(words: Vocabulary) -> Scene:
    """A list of facts and questions about them."""
    rng = words.rng
    facts = {one.key: one for one in (fact(words) for _ in range(rng.randint(3, 14)))}
    lines = [Line("user", "\n".join(one.said for one in facts.values())), Line("assistant", "Noted.")]
    right = Right()
    for one in rng.sample(list(facts.values()), len(facts)):
        lines += [Line("user", question(words, one)), Line("assistant", f"{one.answer}.")]
        right = Right(one.value)
    return Scene("drill", "Answer from the list.", (), tuple(lines), right)


def written(words: Vocabulary) -> Scene:
    """Plain sentences."""
    text = " ".join(prose(words.rng.randint(3, 10), words.rng.getrandbits(32)))
    return Scene("drill", "", (), (Line("user", "Write."), Line("assistant", text)))
