"""Copying and looking up in random ids: there is nothing to know but the context.

Knows ids; does not know scenes. In scenes the same takes far longer to form: few of their ids are copied or looked up,
and each of those can be guessed a little without it.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.chat import Chat
from engine.seedling.template import CONTROL
from engine.seedling.weights import VOCABULARY
from training import facts as stated
from training.rendering import Rendered
from training.vocabulary import GLUE, Vocabulary

FIRST_PLAIN = len(CONTROL)
"""The first id that is no control token."""
LENGTH = 192
"""About so many ids are in a part."""
COPYING, WORDS, CITED = 0, 4, 5
"""The levels that only copy, that look up facts of words, and that say where each fact of ids stands. Between the first
two are facts of ids: of one each, of a few, and of a few between common words."""

MOST_TOLD = 4
"""Most facts of a list of words, without those that are alike."""
ASKED = 0.6
"""Share of the lists of ids whose facts are asked for in turns, each before it is said again. A question holds the key
as the fact does, and nothing of the value: who looks for the key alone finds the question, and never that a key is
unknown."""

Fact = tuple[list[int], list[int], list[int], bool]
"""Field, subject, value, and whether the value stands before the others."""


def abstract(chat: Chat, level: int, seed: str) -> Rendered:
    """A part of a level, the same for the same seed."""
    if level == WORDS:
        return _told_again(chat, Vocabulary(random.Random(seed), "train"))
    rng = np.random.default_rng(list(seed.encode()))
    if level == COPYING:
        return _repeats(rng)
    if level == CITED:
        return _lookups(chat, int(rng.integers(1, WORDS)), rng, cited=True)
    return _lookups(chat, level, rng)


def _repeats(rng: np.random.Generator) -> Rendered:
    """Runs of ids that come again after a gap; only what comes again is learned.

    What a model needs to find by this is the induction head (arXiv 2209.11895), on which all copying rests.
    """
    ids: list[int] = []
    learned: list[bool] = []
    while len(ids) < LENGTH:
        lowest, above = _among(rng)
        run = rng.integers(lowest, above, rng.integers(4, 33)).tolist()
        gap = rng.integers(lowest, above, rng.integers(0, 20)).tolist()
        ids += [*run, *gap, *run]
        learned += [False] * (len(run) + len(gap) + 1) + [True] * (len(run) - 1)
    return Rendered(tuple(ids), tuple(learned))


def _among(rng: np.random.Generator) -> tuple[int, int]:
    """(the lowest, the one above the highest) of the ids that are drawn from: few at a time too, so that which of them
    is meant is told by what stood before it, not by its rarity."""
    count = int(rng.choice((64, 512, VOCABULARY - FIRST_PLAIN)))
    lowest = int(rng.integers(FIRST_PLAIN, VOCABULARY - count + 1))
    return lowest, lowest + count


def _lookups(chat: Chat, level: int, rng: np.random.Generator, cited: bool = False) -> Rendered:
    """Facts, and each again in the Director's own form, "The field of subject is value."; that value is learned, and of
    what was asked for its field and subject.
    `cited`: each fact has a source behind it, "fact. [source]", which is said behind the answer, as memories are cited.

    A value that stands before its key is found by nothing that copying teaches. Among many words it is not found in
    thousands of steps, among single ids in two hundred, and from there it is a short way to the rest.
    """
    glue, others, digits, (the, of, be, end, unknown, closing, cite, mark) = _glue(chat)
    begin, answered, close = _turns(chat)
    ids: list[int] = []
    learned: list[bool] = []
    while len(ids) < LENGTH:
        asked = rng.random() < ASKED
        ids += begin if asked else []
        facts: list[Fact] = []
        for _ in range(rng.integers(2, 4 + 2 * level)):
            facts.append(_fact(rng, level, others, digits, facts))
        among, most = (digits, 12) if rng.random() < 0.5 else (others, 5)
        sources = _sources(rng, among, most, len(facts)) if cited else [[] for _ in facts]
        for source, (field, subject, value, before) in zip(sources, facts, strict=True):
            key = [the, *field, of, *subject]
            if level < 3 or rng.random() < 0.4:
                ids += [*value, be, *key, end] if before else [*key, be, *value, end]
                ids += [cite, *source, closing] if cited else []
                continue
            parts = [[value, key], [value, field, subject], [value, subject, field]][rng.choice(3, p=(0.6, 0.2, 0.2))]
            for part in ([], *parts) if before else ([], *parts[1:], parts[0]):
                ids += [*part, *rng.choice(glue, rng.integers(0 if not part else 1, 3)).tolist()]
            ids += [end, cite, *source, closing] if cited else [end]
        answers = []
        for source, (field, subject, value, _) in zip(sources, facts, strict=True):
            answers.append((field, subject, [*value, end, cite, *source, closing] if cited else [*value, end]))
        for _ in range(1 + len(facts) // 6):
            field, subject = facts[rng.integers(len(facts))][0], facts[rng.integers(len(facts))][1]
            if not any((field, subject) == answer[:2] for answer in answers):
                answers.append((field, subject, [unknown, end]))
        for number, place in enumerate(rng.permutation(len(answers))):
            field, subject, said = answers[place]
            way = 0
            if asked:
                ids += [*close, *begin] if number else []
                parts = [[the, *field, of, *subject], [*field, *subject], [*subject, *field]]
                way = rng.choice(3, p=(0.6, 0.2, 0.2))
                ids += [*rng.choice(glue, rng.integers(0, 4)).tolist(), *parts[way]]
                ids += [*rng.choice(glue, rng.integers(0, 3)).tolist(), mark, *answered]
            ids.append(the)
            learned += [False] * (len(ids) - len(learned))
            # What is asked for is said again; of two ids side by side nobody could tell which is the field.
            ids += [*field, of, *subject, be, *said]
            learned += [asked and way == 0] * (len(field) + 1 + len(subject)) + [False] + [True] * len(said)
        ids += close if asked else []
    learned += [False] * (len(ids) - len(learned))
    return Rendered(tuple(ids), tuple(learned))


def _sources(rng: np.random.Generator, among: NDArray[np.int64], most: int, count: int) -> list[list[int]]:
    """So many of up to `most` ids each, half of which begin as another does: as dates do."""
    sources: list[list[int]] = [rng.choice(among, rng.integers(1 + most // 2, most + 1)).tolist() for _ in range(count)]
    for source in sources:
        if rng.random() < 0.5:
            other = sources[rng.integers(len(sources))]
            same = int(rng.integers(0, min(len(source), len(other))))
            source[:same] = other[:same]
    return sources


def _fact(
    rng: np.random.Generator, level: int, plain: NDArray[np.int64], digits: NDArray[np.int64], others: list[Fact]
) -> Fact:
    def some(most: int) -> list[int]:
        count = min(rng.integers(1, most + 1), rng.integers(1, most + 1))
        return rng.choice(plain, count).tolist()

    field, subject, value = some(min(level, 2)), some(level), some(level + (level > 1))
    if level > 1 and others and rng.random() < 0.4:
        other = others[rng.integers(len(others))]
        field, subject = (other[0], subject) if rng.random() < 0.5 else (field, other[1])
    if level > 1 and rng.random() < 0.3:
        value = rng.choice(digits, rng.integers(2, 7)).tolist()
    return field, subject, value, bool(rng.random() < 0.5)


def _told_again(chat: Chat, words: Vocabulary) -> Rendered:
    """The same with words: a list of facts, half of them in the plainest forms, and a question for each."""
    begin, answered, close = _turns(chat)
    facts: dict[str, stated.Fact] = {}
    for _ in range(words.rng.randint(1, MOST_TOLD)):
        one = stated.fact(words)
        facts |= {other.key: other for other in (one, *stated.near(words, one, words.rng.randint(0, 3)))}
    told = [one if words.rng.random() < 0.5 else stated.plainly(words, one) for one in facts.values()]
    ids = [*begin]
    for one in words.rng.sample(told, len(told)):
        ids += chat.encode(f"- {one.said}\n")
    answers = [(one, f"{one.answer}.") for one in told]
    for _ in range(1 + len(told) // 6):
        missing = stated.missed(words, told)
        answers.append((missing, missing.unknown))
    words.rng.shuffle(answers)
    learned: list[bool] = []
    for number, (one, answer) in enumerate(answers):
        ids += begin if number else []
        ids += [*chat.encode(stated.question(words, one)), *answered]
        learned += [False] * (len(ids) - len(learned))
        ids += [*chat.encode(answer), *close]
        learned += [True] * (len(ids) - len(learned) - len(close) + 1)  # that it ends here, too
    return Rendered(tuple(ids), (*learned, *[False] * (len(ids) - len(learned))))


@cache
def _glue(chat: Chat) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], tuple[int, ...]]:
    """Ids of the common words that are one token, all others, the digits, and the ids of "The", " of" and the like."""
    found = [chat.encode(f" {word}") for word in GLUE]
    marks = tuple(chat.encode(word)[0] for word in ("The", " of", " is", ".", "unknown", "]", " [", "?"))
    glue = np.array(sorted({ids[0] for ids in found if len(ids) == 1}))
    digits = np.array(chat.encode("0123456789"))
    return glue, np.setdiff1d(np.arange(FIRST_PLAIN, VOCABULARY), [*glue, *marks]), digits, marks


@cache
def _turns(chat: Chat) -> tuple[list[int], list[int], list[int]]:
    """What stands before somebody's words, between them and the answer, and behind the answer."""
    around, word = chat.turn("user", "Q"), chat.encode("Q")
    place = around.index(word[0])
    return around[:place], [*around[place + 1 :], *chat.reply_start()], chat.reply_end(())
