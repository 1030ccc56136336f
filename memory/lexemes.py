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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import Stemmer
import xxhash

from memory import speakers
from memory.languages import ENGLISH, LANGUAGES
from memory.stopwords import STOP_WORDS, of_question

MAX_COUNT = 0x7FFF
"""Largest term frequency and largest packet length, in words, that a posting can hold; what is larger is cut to it."""

MAX_QUERY_LEXEMES = 64
"""A question uses this many distinct words at most; a pasted document would otherwise cost a scan of everything."""

_WORD = re.compile(r"\d+(?:[.,:]\d+)+|\w+(?:'\w+)*")
# Where an identifier falls apart: aB, ABc, a1, 1a, a_b.
_JOINT = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|_+")
# Scripts that write no spaces between words: one run of them is cut into overlapping pairs.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


_Form = tuple[str, bool]
"""A word, and whether it is still to be stemmed."""


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
    """The lexemes of `text` with their frequencies; counts and length end at `MAX_COUNT`.

    Whoever speaks in it has a lexeme beside (`memory.speakers`), which is no word and counts for no length.
    """
    counter = Counter(lexeme(word) for word in words(text, language))
    length = min(counter.total(), MAX_COUNT)
    by_lexeme = {key: min(value, MAX_COUNT) for key, value in counter.items()}
    return Counts(by_lexeme | {lexeme(label): 1 for label in speakers.labels(text)}, length)


def of_query(text: str, language: str = ENGLISH) -> tuple[int, ...]:
    """The distinct lexemes of a question in order of appearance, at most `MAX_QUERY_LEXEMES` of them."""
    return tuple(_distinct(_forms(text), language))


def _distinct(forms: Iterable[_Form], language: str) -> dict[int, None]:
    found: dict[int, None] = {}
    for form in forms:
        found.setdefault(lexeme(_word(form, language)))
        if len(found) == MAX_QUERY_LEXEMES:
            break
    return found


def of_speakers(text: str) -> list[int]:
    """The lexemes of the labels of whom a question may name, at most `MAX_QUERY_LEXEMES` of them."""
    return [lexeme(label) for label in speakers.asked_for(text)[:MAX_QUERY_LEXEMES]]


def in_each_language(text: str) -> tuple[list[int], list[str]]:
    """The lexemes of a question in every language, and beside each the language that gave it, English first.

    One that several languages give stands there for each of them, but for English, which is always in use.
    """
    stop = of_question(_WORD.findall(text.casefold()))
    forms = [form for form in _forms(text) if form[0] not in stop]
    english = _distinct(forms, ENGLISH)
    found = [(value, ENGLISH) for value in english]
    for language in LANGUAGES[1:]:
        found += [(value, language) for value in _distinct(forms, language) if value not in english]
    return [value for value, _ in found], [language for _, language in found]


def words(text: str, language: str = ENGLISH) -> Iterator[str]:
    """The stemmed, case-folded words of `text` in order, stop words left out.

    An identifier such as `parseHTTPHeader` or `max_tokens` gives itself whole and then each of its parts, so that both
    a pasted name and a spoken one find it. `0.8.5` stays one word. Chinese, Japanese and Thai runs give pairs.
    """
    return (_word(form, language) for form in _forms(text))


def _word(form: _Form, language: str) -> str:
    word, inflected = form
    return _stem(word, language) if inflected else word


def _forms(text: str) -> Iterator[_Form]:
    """The words of `text` before they are stemmed, which is all of them that a language has a say in."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    for match in _WORD.finditer(text):
        raw = match.group()
        if raw[0].isdigit() and not raw.isalnum():
            yield raw.replace(",", ""), False
        elif not raw.isascii() and _UNSPACED.search(raw):
            yield from _pairs(raw)
        elif raw.isdigit() or raw.islower() or "'" in raw:
            yield from _identifier(raw) if "_" in raw else _plain(raw)
        else:
            yield from _identifier(raw)


@lru_cache(maxsize=65536)
def lexeme(word: str) -> int:
    """The signed 32-bit xxh32 of a stemmed word."""
    value = xxhash.xxh32_intdigest(word.encode("utf-8", "replace"))
    return value - (1 << 32) if value >= 1 << 31 else value


def _plain(raw: str) -> Iterator[_Form]:
    word = raw.casefold()
    if word in STOP_WORDS[ENGLISH]:
        return
    yield word, True


def _identifier(raw: str) -> Iterator[_Form]:
    parts = [part for part in _JOINT.split(raw) if part]
    if len(parts) < 2:
        # `Word`, `_word`, `__init__`, `ΣΑΣ`: one part, so the whole would say the same again.
        yield from _plain(raw.strip("_") or raw)
        return
    yield raw.strip("_").casefold(), False
    for part in parts:
        if len(part) > 1 or part.isdigit():
            yield from _plain(part)


def _pairs(raw: str) -> Iterator[_Form]:
    position = 0
    for match in _UNSPACED.finditer(raw):
        if match.start() > position:
            yield from _identifier(raw[position : match.start()])
        run = match.group()
        yield from ((run[i : i + 2], False) for i in range(max(1, len(run) - 1)))
        position = match.end()
    if position < len(raw):
        yield from _identifier(raw[position:])


@lru_cache(maxsize=65536)
def _stem(word: str, language: str) -> str:
    # `café` and `cafe` should meet; a question is often typed without marks.
    if not word.isascii():
        decomposed = unicodedata.normalize("NFD", word)
        word = "".join(mark for mark in decomposed if not unicodedata.combining(mark))
    return _local.stemmer(language).stemWord(word)
