"""Facts as people state them and ask for them. Knows a fact's words; does not know where it is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from training import sentences
from training.phrases import QUESTIONS, STATEMENTS
from training.sentences import capital
from training.vocabulary import Vocabulary

TRIES = 20
PLAIN = (
    "{K} is {v}.", "{K} is {v}.", "The {f} for {s}: {v}", "{v} is {k}.", "{v} is {k}.", "{v} is {k}.",
    "{S} has {v} as {f}.", "They picked {v} as {k}.", "{v}: that is {k}.", "{S} took {v} for its {f}.",
)  # fmt: skip
"""What stands behind its key is found by copying on. What stands before it has to be fetched, which takes far more
examples to learn: so there are more of them."""
LOOSE, BUILT = 0.18, 0.35
"""Shares of the taught statements and questions that are of no phrase, and of phrases that are put together."""
ASKED_BY = {"person": "Who", "date": "When", "place": "Where"}
SAID_BY = {"date": "{K} is on {v}.", "place": "{K} is in {v}.", "money": "{K} is at {v}.", "person": "{v} is {k}."}
"""How one asks for values of a kind, and how one says them."""
OWN = 0.15
"""Share of the taught statements and questions that are of these."""
KIN = 0.3
"""Share of the other subjects that share a word with the one they may be taken for."""
ALIKE = 0.3
"""Share of the taught facts near another that are said in its very words: who says both again has to know which of the
two places it reads."""


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
        return f"{capital(self.key)} is {self.value}"

    def cited(self, source: str) -> str:
        """The answer with where it stands, in the order in which memories are shown."""
        return f"{self.answer}. [{source}]"

    @property
    def unknown(self) -> str:
        """What the Director says where no memory holds it. It begins as the answer does, so that a model looks for the
        one where it looks for the other."""
        return f"{capital(self.key)} is unknown: my memories do not say it."


def fact(
    words: Vocabulary, subject: str = "", field: tuple[str, str] | None = None, without: Sequence[str] = ()
) -> Fact:
    """A fact; of that subject or field (kind, noun) where given, and of a value that is none of `without`."""
    kind, noun = field or words.field()
    subject = subject or words.subject()
    value = _other(words, kind, without)
    drawn = words.rng.random() if words.split == "train" else 1.0
    if drawn < LOOSE:
        return Fact(kind, noun, subject, value, _loose(words, noun, subject, value))
    if drawn < LOOSE + BUILT:
        said = f"{words.lead()}{sentences.statement(words, noun, subject, value)}{words.tail()}"
        return Fact(kind, noun, subject, value, said)
    template = words.rng.choice(STATEMENTS[words.split])
    if words.split == "train" and kind in SAID_BY and words.rng.random() < OWN:
        template = SAID_BY[kind]
    said = f"{words.lead()}{_filled(template, noun, subject, value)}{words.tail()}"
    return Fact(kind, noun, subject, value, said)


def plainly(words: Vocabulary, one: Fact) -> Fact:
    """The fact in the plainest words; its value stands before what it is the value of in most of them."""
    return replace(one, said=_filled(words.rng.choice(PLAIN), one.field, one.subject, one.value))


def _filled(template: str, field: str, subject: str, value: str = "") -> str:
    key = f"the {field} of {subject}"
    return template.format(k=key, K=capital(key), v=value, f=field, s=subject, S=capital(subject))


def _loose(words: Vocabulary, noun: str, subject: str, value: str) -> str:
    """Field, subject and value in any order between common words: where a value begins and ends is to be learned of
    the value, not of the sentences around it."""
    rng = words.rng
    parts = [f"the {noun} of {subject}", value] if rng.random() < 0.5 else [noun, subject, value]
    rng.shuffle(parts)
    said = words.glue(rng.randint(1 if parts[0][0].islower() else 0, 3))
    for place, part in enumerate(parts):
        said += f" {part} {words.glue(rng.randint(1, 4) if place + 1 < len(parts) else rng.randint(0, 3))}"
    said = " ".join(said.split())
    # A value that stands first keeps its own spelling: it is said again as it is.
    return (said if said.startswith(value) else capital(said)) + rng.choice((".", ".", "", "!"))


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


def missed(words: Vocabulary, held: Sequence[Fact]) -> Fact:
    """What is easily taken for one of `held` and is none of them: of one the field and of another the subject, another
    field of a subject (mostly of the same kind of value), a field of another subject."""
    keys = {one.key for one in held}
    while True:
        one, other = words.rng.choice(held), words.rng.choice(held)
        drawn = words.rng.random()
        if drawn < 0.35:
            asked = replace(one, subject=other.subject)
        elif drawn < 0.7:
            asked = fact(words, one.subject, _beside(words, one, 0.75))
        else:
            asked = fact(words, _another(words, one), (one.kind, one.field))
        if asked.key not in keys:
            return asked


def _beside(words: Vocabulary, about: Fact, same: float = 0.5) -> tuple[str, str]:
    """A field that its subject may have, too; so many of them ask for a value of the same kind."""
    return words.field(about.kind if words.rng.random() < same else "")


def _another(words: Vocabulary, about: Fact) -> str:
    """Another subject; of those taught some share a word with it."""
    kin = words.split == "train" and words.rng.random() < KIN
    return words.kin(about.subject) if kin else words.subject()


def question(words: Vocabulary, about: Fact) -> str:
    """How somebody asks for it. A part of what is taught are mere words around field and subject, so that both are
    looked for wherever they stand."""
    rng = words.rng
    drawn = rng.random() if words.split == "train" else 1.0
    if drawn < LOOSE:
        asked = rng.choice(([about.key], [about.field, about.subject], [about.subject, about.field]))
        # What nobody knows may stand around a key alone: of loose words it could not be told apart.
        around = words.babble if len(asked) == 1 and rng.random() < 0.5 else words.glue
        said = around(rng.choice((0, 1, 2, 3)))
        for part in asked:
            said += f" {part} {around(rng.choice((0, 1, 1, 2, 3)))}"
        return f"{capital(' '.join(said.split()))}{rng.choice(('?', '?', '.', ''))}"
    if drawn < LOOSE + BUILT:
        return f"{words.lead()}{sentences.request(words, about.field, about.subject)}{words.tail()}"
    template = rng.choice(QUESTIONS[words.split])
    if words.split == "train" and about.kind in ASKED_BY and rng.random() < 2 * OWN:
        template = f"{ASKED_BY[about.kind]} {rng.choice(('is', 'is', 'was'))} {{k}}?"
    return f"{words.lead()}{_filled(template, about.field, about.subject)}{words.tail()}"


def near(words: Vocabulary, about: Fact, count: int) -> list[Fact]:
    """Facts that are easily taken for it: its subject with another field, its field with another subject, others."""
    found: list[Fact] = []
    keys = {about.key}
    values = [about.value]
    while len(found) < count:
        draw = words.rng.random()
        if draw < 0.35:
            one = fact(words, about.subject, _beside(words, about), values)
        elif draw < 0.7:
            one = fact(words, _another(words, about), (about.kind, about.field), values)
        else:
            one = fact(words, without=values)
        if one.key not in keys:
            keys.add(one.key)
            values.append(one.value)
            alike = words.split == "train" and words.rng.random() < ALIKE
            found.append(_alike(about, one) if alike else one)
    return found


def _alike(about: Fact, one: Fact) -> Fact:
    """The fact in the words in which the other is said; in its own where those words hold it in pieces."""
    parts = {about.value: one.value, about.field: one.field}
    parts |= {about.subject: one.subject, capital(about.subject): capital(one.subject)}
    holes = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
    said = re.sub(rf"\b(?:{holes})(?!\w)", lambda part: parts[part[0]], about.said)
    return replace(one, said=said) if all(part in said for part in (one.value, one.field)) else one
