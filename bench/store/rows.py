"""The rows that every store in this benchmark holds, and the questions that are asked.

Vectors come in clusters, since approximate search cannot be judged on random ones (they have no near neighbours).
Words follow Zipf's law, the most frequent ones being English function words, and each cluster has favourites of its
own, so that searching by words has work to do and something to find. Nothing here is random between runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIMENSION = 384
VOCABULARY = 60_000
ZIPF = 1.07
NOISE = 0.9
"""Length of the noise on a row's vector against a cluster centre of length 1."""
OWN_WORDS = 0.4
"""Share of a row's words that its cluster favours."""
QUESTION_WORDS = 8

_FUNCTION_WORDS = """
the of and to a in is it that was for on with as he be at by i this had not are but from or have an they which one
you were all her she there would their we him been has when who will no more if out so up said what its about than
into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years much where your way down should because long
""".split()  # noqa: SIM905 - a page otherwise


@dataclass(frozen=True)
class Rows:
    """What the stores hold; row i belongs to corpus `corpus[i]`."""

    vectors: NDArray[np.float32]  # (n, DIMENSION), unit length
    corpus: NDArray[np.int64]
    texts: list[str]


@dataclass(frozen=True)
class Question:
    """A question near one row: its vector with some noise, and some of its words."""

    vector: NDArray[np.float32]
    text: str
    corpus: int


@dataclass(frozen=True)
class World:
    """What rows are made of: the centres of their clusters, and the words."""

    centres: NDArray[np.float64]  # (clusters, DIMENSION), unit length
    words: list[str]


def make_world(n: int, seed: int = 1) -> World:
    """A world for `n` rows, that can then be made piece by piece."""
    random = np.random.default_rng(seed)
    return World(_centres(random, n), _words(random))


def make_rows(n: int, corpora: int, seed: int = 1, world: World | None = None, *, texts: bool = True) -> Rows:
    """`n` rows in `corpora` bodies of equal size, clusters spread over all of them; in a world of their own, or as a
    piece of `world`. Without `texts` their vectors alone, the same ones."""
    random = np.random.default_rng(seed)
    centres = world.centres if world else _centres(random, n)
    of = random.integers(0, len(centres), n)
    vectors = _unit(centres[of] + random.standard_normal((n, DIMENSION)) * NOISE / np.sqrt(DIMENSION))
    vectors = vectors.astype(np.float32)
    of_corpus = np.arange(n) * corpora // n
    if not texts:
        return Rows(vectors, of_corpus, [])
    words = world.words if world else _words(random)
    weight = 1 / np.arange(1, VOCABULARY + 1) ** ZIPF
    lengths = random.integers(60, 180, n)
    ranks = random.choice(VOCABULARY, int(lengths.sum()), p=weight / weight.sum())
    cluster = np.repeat(of, lengths)
    own = (random.random(len(ranks)) < OWN_WORDS) & (ranks >= len(_FUNCTION_WORDS))
    ranks = np.where(own, len(_FUNCTION_WORDS) + (ranks * 7919 + cluster * 104_729) % 5000, ranks)
    ends = np.cumsum(lengths)
    spans = zip(ends, lengths, strict=True)
    return Rows(vectors, of_corpus, [" ".join(words[r] for r in ranks[end - length : end]) for end, length in spans])


def make_questions(rows: Rows, count: int, seed: int = 2) -> list[Question]:
    """Questions near rows drawn at random."""
    random = np.random.default_rng(seed)
    questions: list[Question] = []
    for row in random.integers(0, len(rows.texts), count):
        noise = random.standard_normal(DIMENSION) * 0.5 / np.sqrt(DIMENSION)
        vector = _unit((rows.vectors[row] + noise)[None])[0].astype(np.float32)
        words = random.choice(rows.texts[row].split(), QUESTION_WORDS, replace=False)
        questions.append(Question(vector, " ".join(words), int(rows.corpus[row])))
    return questions


def _centres(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    return _unit(random.standard_normal((max(10, n // 200), DIMENSION)))


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _words(random: np.random.Generator) -> list[str]:
    """Distinct pronounceable words, the most frequent ones English function words."""
    syllables = [c + v for c in "bcdfgklmnprstvz" for v in "aeiou"]
    words = dict.fromkeys(_FUNCTION_WORDS)
    while len(words) < VOCABULARY:
        words.setdefault("".join(random.choice(syllables, random.integers(2, 5))))
    return list(words)
