"""Recall: a question in, the packets that answer it out.

Knows what may be asked, who sees what, and how a hit is shown. Does not know SQL or the mathematics of ranking
(`memory.ranking`), nor how vectors come about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import anyio.to_thread
from pgvector import HalfVector

from engine.errors import InvalidInput, NotFound
from memory import lexemes
from memory.packets import KINDS, TRAFFIC_KINDS, Kind
from memory.places import citation
from memory.ranking import Shape, statement
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
    """Fused and weighted by resonance, about 0..1; comparable within one answer only."""
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

    @property
    def citation(self) -> str:
        """The source with its corpus before it: `docs: tools.md:12-40`."""
        return f"{self.corpus}: {self.source}" if self.corpus else self.source


class Recall:
    """Searches packets by their words and by their meaning at once."""

    def __init__(self, database: Database, embedder: Embedder | None, upkeep: Upkeep) -> None:
        self._database = database
        self._embedder = embedder
        self._upkeep = upkeep

    async def search(self, query: Query, *, vector: NDArray[np.float32] | None = None) -> tuple[Hit, ...]:
        """The best hits, best first; empty when nothing is there to be found.

        `vector` is the question's embedding, shape (dimension,), where the caller has it already; else it is made
        here, which takes some ten milliseconds. Without an embedder words alone decide.

        Raises:
            InvalidInput: an argument is empty or out of range.
            NotFound: there is no corpus of that name.
        """
        _check(query)
        text = cleaned(query.text)[:MAX_TEXT]
        if vector is None and self._embedder is not None:
            vector = await self.embed(text)
        made_by = self._upkeep.vectors if vector is not None else None
        kinds = set(query.kinds or ())
        shape = Shape(
            reach={None: "worn", EVERYTHING: "all"}.get(query.corpus, "named"),  # type: ignore[arg-type]
            traffic=bool(kinds & TRAFFIC_KINDS) and query.corpus in (None, EVERYTHING),
            k=query.k,
            filtered=bool(kinds or query.since or query.until or query.min_resonance > 0),
            vectors=made_by,
        )
        values: dict[str, object] = {
            "lexemes": lexemes.of_query(text),
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
        return _within_budget([_hit(row) for row in rows], query.token_budget)

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


def _check(query: Query) -> None:
    if not query.text.strip():
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


def _hit(row: asyncpg.Record) -> Hit:
    values = dict(row)
    metadata: dict[str, Any] = json.loads(values.pop("metadata"))
    return Hit(**values, metadata=MappingProxyType(metadata), source=_source(row, metadata))


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
