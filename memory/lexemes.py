"""Words as 32-bit integers: what the keyword half of recall counts.

Knows how text falls into words (prose, code identifiers, numbers, scripts without spaces) and how a word becomes a
lexeme. Does not know where lexemes are stored or how they are weighed; `postings` and `recall` do.

There is no dictionary: a lexeme is a hash of the stemmed word, so that writers share no table and never wait for each
other. Two words fall on one lexeme about once in four thousand million pairs, which ranking does not notice.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import Stemmer
import xxhash

from memory.languages import ENGLISH, LANGUAGES

MAX_COUNT = 0x7FFF
"""Largest term frequency and largest packet length, in words, that a posting can hold; what is larger is cut to it."""

MAX_QUERY_LEXEMES = 64
"""A question uses this many distinct words at most; a pasted document would otherwise cost a scan of everything."""

# Words that carry no topic. Kept short: a question word or a negation that BM25 would weigh down anyway does no harm.
_STOP_WORDS = frozenset(
    """
    a about after all also am an and any are aren't as at be because been before being but by can can't could did didn't
    do does doesn't doing don't for from had has have having he her hers him his how i i'd i'll i'm i've if in into is
    isn't it it's its just let's me more most my no nor not of off on once only or other our ours out over own s same
    she should so some such t than that that's the their theirs them then there there's these they this those through to
    too under until up very was wasn't we we're were what what's when where which while who whom why will with won't
    would you you're your yours
    """.split()  # noqa: SIM905 - one word a line would be a page and a half
)

_WORD = re.compile(r"\d+(?:[.,:]\d+)+|\w+(?:'\w+)*")
# Where an identifier falls apart: aB, ABc, a1, 1a, a_b.
_JOINT = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|_+")
# Scripts that write no spaces between words: one run of them is cut into overlapping pairs.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


class _Stem(Protocol):
    def stemWord(self, word: str) -> str: ...


class _PerThread(threading.local):
    # A Snowball stemmer holds a working buffer, so two threads must not share one.
    def __init__(self) -> None:
        self._stemmers: dict[str, _Stem] = {}

    def stemmer(self, language: str) -> _Stem:
        if language not in self._stemmers:
            self._stemmers[language] = cast("_Stem", Stemmer.Stemmer(language))
        return self._stemmers[language]


_local = _PerThread()


@dataclass(frozen=True)
class Counts:
    """The words of one text: how often each lexeme stands in it, and how many words there are in all."""

    by_lexeme: Mapping[int, int]
    length: int


def count(text: str, language: str = ENGLISH) -> Counts:
    """The lexemes of `text` with their frequencies; counts and length end at `MAX_COUNT`."""
    counter = Counter(lexeme(word) for word in words(text, language))
    length = min(counter.total(), MAX_COUNT)
    return Counts({key: min(value, MAX_COUNT) for key, value in counter.items()}, length)


def of_query(text: str, language: str = ENGLISH) -> tuple[int, ...]:
    """The distinct lexemes of a question in order of appearance, at most `MAX_QUERY_LEXEMES` of them."""
    found: dict[int, None] = {}
    for word in words(text, language):
        found.setdefault(lexeme(word))
        if len(found) == MAX_QUERY_LEXEMES:
            break
    return tuple(found)


def in_each_language(text: str) -> tuple[list[int], list[str]]:
    """The lexemes of a question in every language, and beside each the language that gave it, English first."""
    found: dict[int, str] = {}
    for language in LANGUAGES:
        for value in of_query(text, language):
            found.setdefault(value, language)
    return list(found), list(found.values())


def words(text: str, language: str = ENGLISH) -> Iterator[str]:
    """The stemmed, case-folded words of `text` in order, stop words left out.

    An identifier such as `parseHTTPHeader` or `max_tokens` gives itself whole and then each of its parts, so that both
    a pasted name and a spoken one find it. `0.8.5` stays one word. Chinese, Japanese and Thai runs give pairs.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    for match in _WORD.finditer(text):
        raw = match.group()
        if raw[0].isdigit() and not raw.isalnum():
            yield raw.replace(",", "")
        elif not raw.isascii() and _UNSPACED.search(raw):
            yield from _pairs(raw, language)
        elif raw.isdigit() or raw.islower() or "'" in raw:
            yield from _identifier(raw, language) if "_" in raw else _plain(raw, language)
        else:
            yield from _identifier(raw, language)


@lru_cache(maxsize=65536)
def lexeme(word: str) -> int:
    """The signed 32-bit xxh32 of a stemmed word."""
    value = xxhash.xxh32_intdigest(word.encode("utf-8", "replace"))
    return value - (1 << 32) if value >= 1 << 31 else value


def _plain(raw: str, language: str) -> Iterator[str]:
    word = raw.casefold()
    if word in _STOP_WORDS:
        return
    yield _stem(word, language)


def _identifier(raw: str, language: str) -> Iterator[str]:
    parts = [part for part in _JOINT.split(raw) if part]
    if len(parts) < 2:
        # `Word`, `_word`, `__init__`, `ΣΑΣ`: one part, so the whole would say the same again.
        yield from _plain(raw.strip("_") or raw, language)
        return
    yield raw.strip("_").casefold()
    for part in parts:
        if len(part) > 1 or part.isdigit():
            yield from _plain(part, language)


def _pairs(raw: str, language: str) -> Iterator[str]:
    position = 0
    for match in _UNSPACED.finditer(raw):
        if match.start() > position:
            yield from _identifier(raw[position : match.start()], language)
        run = match.group()
        yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
        position = match.end()
    if position < len(raw):
        yield from _identifier(raw[position:], language)


@lru_cache(maxsize=65536)
def _stem(word: str, language: str) -> str:
    # `café` and `cafe` should meet; a question is often typed without marks.
    if not word.isascii():
        decomposed = unicodedata.normalize("NFD", word)
        word = "".join(mark for mark in decomposed if not unicodedata.combining(mark))
    return _local.stemmer(language).stemWord(word)


def is_stop_word(word: str) -> bool:
    """Whether a word, case-folded, carries no topic."""
    return word in _STOP_WORDS
