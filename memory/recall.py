"""Recall: a question in, the packets that answer it out.

Knows what may be asked, who sees what, and how a hit is shown. Does not know SQL or the mathematics of ranking
(`memory.ranking`), which texts are as good as the same (`memory.repeats`), nor how vectors come about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import anyio.to_thread
from pgvector import HalfVector

from engine.errors import InvalidInput, NotFound
from memory import dates, lexemes, spoken
from memory.packets import KINDS, TRAFFIC_KINDS, Kind
from memory.places import citation
from memory.postings import LIVED, PRIVATE, TRAFFIC
from memory.ranking import statement
from memory.repeats import first_of_each
from memory.shapes import Shape, Vectors, Weights
from memory.text import cleaned

if TYPE_CHECKING:
    import asyncpg
    import numpy as np
    from numpy.typing import NDArray

    from memory.database import Database
    from memory.embedder import Embedder
    from memory.upkeep import Upkeep

MAX_K = 100
MAX_TEXT = 20_000
"""Characters of a question that are read; an embedder reads fewer."""
CHARACTERS_PER_TOKEN = 3.6
"""How many characters a token has in English prose and code, for token budgets; counting exactly needs a tokenizer."""

SPARE_HITS = 5
"""Hits that are fetched beyond k, so that others step in where some only repeat what is there."""
ALL_HITS = 200
"""As many as there are candidates."""

FEW_INDEXES = 4
"""With more of them it pays to ask first which are in reach: 0.2 ms, where planning 50 took 7."""

EVERYTHING = "*"
_BEGINNING = datetime(1, 1, 2, tzinfo=UTC)
_END = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Query:
    """What is asked. The filters hold together: a hit passes all of them."""

    text: str
    k: int = 10
    agent: str = "director"
    """Whose mounted corpora are looked at."""
    corpus: str | None = None
    """None: lived memory and what the agent has mounted. A name: that corpus alone. `*`: everything."""
    kinds: tuple[Kind, ...] | None = None
    """None: all but the traffic (calls, results, events)."""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive. A time without a zone is local time."""
    min_resonance: float = 0.0
    token_budget: int | None = None
    """Hits are left out, worst first, until the prose of the rest has about this many tokens. One always stays."""
    vector: str = ""
    """Ask by this vector (`memory.spoken`) instead of the text's own; the text may be empty then."""
    vectors: bool = False
    """Whether the hits carry their vectors."""
    private: bool = False
    """Whether what must not leave the house is looked at, too; not for anybody whose words may leave it."""
    without: frozenset[UUID] = frozenset()
    """Packets that are no hits: they are in view already."""


@dataclass(frozen=True)
class Why:
    """What a score is made of: the sum of the first five, scaled to about 0..1, times each of the others."""

    words: float
    """BM25 against the best candidate's, by its share in the fusion."""
    meaning: float
    """Cosine between the farthest and the nearest candidate, by its share; words' own where the vector is owed."""
    neighbours: float
    """Of the candidates up to two places before and behind it."""
    borrowed: float
    """Words of the question that stand in those neighbours and not in itself."""
    session: float
    """Of the best candidate in the same session or file."""
    resonance: float
    """A factor about 1."""
    recency: float
    """A factor about 1; 1 for texts of corpora."""
    speaker: float
    """A factor above 1 where it begins with the name of somebody whom the question names."""
    date: float
    """A factor above 1 where it was lived on a day that the question names."""


@dataclass(frozen=True)
class Hit:
    """One packet that was found."""

    id: UUID
    prose: str
    kind: Kind
    corpus: str | None
    source: str
    """`path:12-40` of a chunk (`memory.places`), `2026-11-21 10:02 director` (local time) of what was lived."""
    score: float
    """About 0..1; comparable within one answer only. `why` says what it is made of."""
    semantic: float | None
    """Cosine similarity; None while the vector is owed or without an embedder."""
    keyword: float
    """BM25."""
    time: datetime
    agent: str
    session: str
    sequence: int
    origin: str
    resonance: float
    metadata: Mapping[str, Any]
    why: Why
    repeats: int = 0
    """How many other packets say as good as the same, and were left out."""
    vector: str | None = None
    """The embedding as text (`memory.spoken`), where it was asked for and is there."""

    @property
    def citation(self) -> str:
        """The source with its corpus before it: `docs: tools.md:12-40`."""
        return f"{self.corpus}: {self.source}" if self.corpus else self.source


class Recall:
    """Searches packets by their words and by their meaning at once."""

    def __init__(
        self,
        database: Database,
        embedder: Embedder | None,
        upkeep: Upkeep,
        weights: Weights | None = None,
        distinct: bool = True,
    ) -> None:
        """`distinct` leaves out hits that say as good as the same as a better one."""
        self._database = database
        self._embedder = embedder
        self._upkeep = upkeep
        self._weights = weights or Weights()
        self._distinct = distinct

    async def search(self, query: Query, *, vector: NDArray[np.float32] | None = None) -> tuple[Hit, ...]:
        """The best hits, best first; empty when nothing is there to be found.

        `vector` is the question's embedding, shape (dimension,), where the caller has it already; else it is read
        from the query or made of its text, which takes some ten milliseconds. With a vector the text may be empty:
        meaning alone decides then. Without an embedder words alone decide.

        Raises:
            InvalidInput: an argument is empty or out of range.
            NotFound: there is no corpus of that name.
        """
        if vector is None and query.vector:
            vector = spoken.read(query.vector, self._embedder)
        _check(query, vector)
        text = cleaned(query.text)[:MAX_TEXT]
        if vector is None and self._embedder is not None:
            vector = await self.embed(text)
        # Each limit is a statement of its own, which has to be planned: powers of two keep them few.
        left_out = 1 << len(query.without).bit_length() if query.without else 0
        limit = query.k + left_out + (SPARE_HITS if self._distinct else 0)
        rows, more = await self._rows(query, text, vector, limit)
        hits = self._hits(query, rows)
        if len(hits) < query.k and more and self._distinct:
            # Copies of one text took the places of others; every candidate is looked at.
            rows, _ = await self._rows(query, text, vector, ALL_HITS)
            hits = self._hits(query, rows)
        return _within_budget(hits[: query.k], query.token_budget)

    def _hits(self, query: Query, rows: Sequence[asyncpg.Record]) -> list[Hit]:
        """What the rows hold for the query, in their order, one of each text where texts shall be distinct."""
        rows = [row for row in rows if row["id"] not in query.without]
        hits = [self._hit(row) for row in rows]
        return first_of_each(hits, _samples(rows)) if self._distinct else hits

    async def _rows(
        self, query: Query, text: str, vector: NDArray[np.float32] | None, limit: int
    ) -> tuple[list[asyncpg.Record], bool]:
        """At most `limit` rows, best first, and whether there may be more."""
        made_by = await self._in_reach(query, self._upkeep.vectors) if vector is not None else None
        kinds = set(query.kinds or ())
        days = dates.named(text, datetime.now().astimezone()) if self._weights.date > 0 else ()
        shape = Shape(
            reach={None: "worn", EVERYTHING: "all"}.get(query.corpus, "named"),  # type: ignore[arg-type]
            traffic=bool(kinds & TRAFFIC_KINDS) and query.corpus in (None, EVERYTHING),
            k=limit,
            # The private ones are of all kinds, in one place.
            filtered=bool(kinds or query.since or query.until or query.min_resonance > 0 or query.private),
            vectors=made_by,
            dated=bool(days),
            weights=self._weights,
            embeddings=query.vectors,
            private=query.private,
        )
        words, languages = lexemes.in_each_language(text)
        values: dict[str, object] = {
            "lexemes": words,
            "languages": languages,
            "speakers": lexemes.of_speakers(text),
            "first_days": [first for first, _ in days],
            "past_days": [past for _, past in days],
            "vector": HalfVector(vector) if vector is not None else None,
            "who": query.agent if query.corpus is None else query.corpus,
            "kinds": list(kinds or set(KINDS) - TRAFFIC_KINDS),
            "since": _zoned(query.since) if query.since else _BEGINNING,
            "until": _zoned(query.until) if query.until else _END,
            "min_resonance": query.min_resonance,
        }
        rows = await self._database.fetch(statement(shape), *(values[name] for name in shape.parameters))
        if not rows and shape.reach == "named":
            await self._require_corpus(cast("str", query.corpus))
        return rows, len(rows) == limit

    REACH = """
    SELECT corpus_id FROM mounts WHERE $1::text IS NULL AND agent = $2
    UNION ALL SELECT id FROM corpora WHERE name = $1::text
    """

    async def _in_reach(self, query: Query, made_by: Vectors | None) -> Vectors | None:
        """The indexes that the statement names. Each costs planning, so of many only those in reach are named."""
        if made_by is None or query.corpus == EVERYTHING or len(made_by.indexed) <= FEW_INDEXES:
            return made_by
        rows = await self._database.fetch(self.REACH, query.corpus, query.agent)
        reach = {LIVED, TRAFFIC, PRIVATE, *(int(row["corpus_id"]) for row in rows)}
        return replace(made_by, indexed=made_by.indexed & reach)

    def _hit(self, row: asyncpg.Record) -> Hit:
        values = dict(row)
        metadata: dict[str, Any] = json.loads(values.pop("metadata"))
        embedding = values.pop("embedding")
        del values["sample"]
        parts = ("words", "meaning", "neighbours", "borrowed", "together", "loved", "fresh", "named", "timely")
        why = Why(*(float(values.pop(name)) for name in parts))
        vector = None
        if embedding is not None and self._embedder is not None:
            vector = spoken.written(embedding.to_numpy(), self._embedder.id)
        return Hit(
            **values,
            metadata=MappingProxyType(metadata),
            source=_source(row, metadata),
            why=why,
            vector=vector,
        )

    async def embed(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, shape (dimension,), made in a worker thread.

        Raises:
            InvalidInput: there is no embedder.
        """
        embedder = self._embedder
        if embedder is None:
            raise InvalidInput("No embedder is installed.", "Run `soul doctor`, which names the command.")
        return (await anyio.to_thread.run_sync(lambda: embedder.embed([text], query=True)))[0]

    NAMES = "SELECT name FROM corpora ORDER BY name"

    async def _require_corpus(self, name: str) -> None:
        names = [str(row["name"]) for row in await self._database.fetch(self.NAMES)]
        if name not in names:
            known = f"Known are: {', '.join(names)}." if names else "Index one first: soul corpus add NAME PATH."
            raise NotFound(f"There is no corpus {name!r}.", known)


def _samples(rows: Sequence[asyncpg.Record]) -> list[frozenset[int]]:
    return [frozenset(row["sample"]) for row in rows]


def _check(query: Query, vector: NDArray[np.float32] | None) -> None:
    if not query.text.strip() and vector is None:
        raise InvalidInput("The question is empty.", "Say in a few words what is looked for.")
    if not 1 <= query.k <= MAX_K:
        raise InvalidInput(f"k is {query.k}.", f"Ask for 1 to {MAX_K} hits.")
    if not 0.0 <= query.min_resonance <= 1.0:
        raise InvalidInput(f"min_resonance is {query.min_resonance}.", "It lies between 0 and 1.")
    if query.token_budget is not None and query.token_budget < 1:
        raise InvalidInput(f"A token budget of {query.token_budget} holds nothing.", "Give at least 1, or none.")
    if unknown := [kind for kind in query.kinds or () if kind not in KINDS]:
        raise InvalidInput(f"There is no kind {unknown[0]!r}.", f"Kinds are: {', '.join(KINDS)}.")
    if query.since and query.until and _zoned(query.since) >= _zoned(query.until):
        raise InvalidInput("`since` is not before `until`.", "Exchange them.")


def _zoned(time: datetime) -> datetime:
    return time.astimezone() if time.tzinfo is None else time


def _source(row: asyncpg.Record, metadata: Mapping[str, Any]) -> str:
    if row["kind"] == "chunk":
        return citation(row["session"], metadata)
    return f"{row['time'].astimezone():%Y-%m-%d %H:%M} {row['agent']}"


def _within_budget(hits: Sequence[Hit], token_budget: int | None) -> tuple[Hit, ...]:
    if token_budget is None:
        return tuple(hits)
    kept: list[Hit] = []
    left = float(token_budget)
    for hit in hits:
        left -= len(hit.prose) / CHARACTERS_PER_TOKEN
        if left < 0 and kept:
            break
        kept.append(hit)
    return tuple(kept)
