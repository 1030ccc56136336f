"""Facts as people state them and ask for them. Knows a fact's words; does not know where it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.phrases import QUESTIONS, STATEMENTS
from training.vocabulary import Vocabulary

TRIES = 20


@dataclass(frozen=True)
class Fact:
    """That the `field` of `subject` is `value`. `said` is how somebody stated it."""

    kind: str
    field: str
    subject: str
    value: str
    said: str

    @property
    def key(self) -> str:
        """What is asked for: "the port of Veltran"."""
        return f"the {self.field} of {self.subject}"

    @property
    def answer(self) -> str:
        """The fact in the one form in which the Director answers."""
        return f"{_capital(self.key)} is {self.value}"


def fact(
    words: Vocabulary, subject: str = "", field: tuple[str, str] | None = None, without: Sequence[str] = ()
) -> Fact:
    """A fact; of that subject or field (kind, noun) where given, and of a value that is none of `without`."""
    kind, noun = field or words.field()
    subject = subject or words.subject()
    value = _other(words, kind, without)
    key = f"the {noun} of {subject}"
    template = words.rng.choice(STATEMENTS[words.split])
    said = template.format(k=key, K=_capital(key), v=value, f=noun, s=subject, S=_capital(subject))
    said = f"{words.lead()}{said}{words.tail()}"
    return Fact(kind, noun, subject, value, said)


def _other(words: Vocabulary, kind: str, without: Sequence[str]) -> str:
    """A value that neither holds nor is held by one of `without`; any other where that is hard: 20 is in each year."""
    value = words.value(kind)
    for _ in range(TRIES):
        if not any(value in one or one in value for one in without):
            break
        value = words.value(kind)
    return value


def again(words: Vocabulary, old: Fact) -> Fact:
    """The same fact with another value."""
    return fact(words, old.subject, (old.kind, old.field), (old.value,))


def question(words: Vocabulary, about: Fact) -> str:
    """How somebody asks for it. A part of what is taught are mere words around field and subject, so that both are
    looked for wherever they stand."""
    template = words.rng.choice(QUESTIONS[words.split])
    if words.wild() and words.rng.random() < 0.5:
        asked = words.rng.sample([about.field, about.subject], 2)
        around = [words.babble(words.rng.choice((0, 1, 1, 2))) for _ in range(3)]
        return " ".join(filter(None, (around[0], asked[0], around[1], asked[1], around[2]))) + "?"
    asked = template.format(
        k=about.key, K=_capital(about.key), f=about.field, s=about.subject, S=_capital(about.subject)
    )
    return f"{words.lead()}{asked}{words.tail()}"


def near(words: Vocabulary, about: Fact, count: int) -> list[Fact]:
    """Facts that are easily taken for it: its subject with another field, its field with another subject, others."""
    found: list[Fact] = []
    keys = {about.key}
    values = [about.value]
    while len(found) < count:
        draw = words.rng.random()
        if draw < 0.35:
            one = fact(words, subject=about.subject, without=values)
        elif draw < 0.7:
            one = fact(words, field=(about.kind, about.field), without=values)
        else:
            one = fact(words, without=values)
        if one.key not in keys:
            keys.add(one.key)
            values.append(one.value)
            found.append(one)
    return found


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
