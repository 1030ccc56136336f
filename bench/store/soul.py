"""Soul's own store in the benchmark: loading, mounting and asking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.store.rows import DIMENSION, Question, Rows
from memory import vectors
from memory.database import Database, DatabaseConfig
from memory.memory import Memory
from memory.packets import Packet, insert
from memory.recall import Query, Recall
from memory.shapes import Weights
from memory.uuid7 import uuid7

AGENT = "director"
ADD = "INSERT INTO corpora (name, path, chunks, indexed) VALUES ($1, '/bench', $2, now()) RETURNING id"
BATCH = 1000
ALONE = Weights(neighbours=0, borrowed=0, session=0, resonance=0, recency=0)


class GivenVectors:
    """An embedder in name: the benchmark brings the vectors."""

    id = "bench"
    dimension = DIMENSION
    max_tokens = 256

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        raise NotImplementedError


class Soul:
    """Memory as a daemon holds it."""

    def __init__(self, memory: Memory, row_of: dict[object, int]) -> None:
        self.memory = memory
        self.row_of = row_of
        """Packet id to row number."""
        self._alone = Recall(memory.database, memory.embedder, memory.upkeep, ALONE, distinct=False)

    async def mount(self, corpus: int) -> None:
        await self.memory.corpora.mount(AGENT, f"corpus-{corpus}")

    async def ask(self, question: Question, *, whole: bool, words: bool = True, alone: bool = False) -> list[int]:
        """Row numbers of the ten best; without `words` by meaning alone.

        `alone`: each row by its own score, as peers rank, and not by what stands beside it.
        """
        query = Query(question.text if words else "the", agent=AGENT, corpus="*" if whole else None)
        recall = self._alone if alone or not words else self.memory.recall
        hits = await recall.search(query, vector=question.vector)
        return [self.row_of[hit.id] for hit in hits]


@asynccontextmanager
async def open_soul(home: Path, rows: Rows) -> AsyncIterator[Soul]:
    """A fresh store with all rows, each corpus mounted by nobody; lived memory is empty."""
    embedder = GivenVectors()
    async with Database.open(DatabaseConfig(home)) as database:
        made_by = await vectors.register(database, embedder)
        row_of: dict[object, int] = {}
        for corpus in np.unique(rows.corpus):
            members = np.flatnonzero(rows.corpus == corpus)
            await _load(database, made_by, rows, int(corpus), members, row_of)
        await vectors.keep_indexes(database, made_by)
        await database.execute("VACUUM (ANALYZE) traces")
        await database.execute("VACUUM (ANALYZE) nearness")
        await database.execute("VACUUM (ANALYZE) postings")
        await database.execute("VACUUM (ANALYZE) extents")
        await database.execute("CHECKPOINT")
        async with Memory.open(database, embedder) as memory:
            yield Soul(memory, row_of)


async def _load(
    database: Database,
    made_by: vectors.Vectors,
    rows: Rows,
    corpus: int,
    members: NDArray[np.int64],
    row_of: dict[object, int],
) -> None:
    corpus_id = await database.fetchval(ADD, f"corpus-{corpus}", len(members))
    await database.execute("SELECT add_packets_partition($1)", corpus_id)
    for start in range(0, len(members), BATCH):
        batch = members[start : start + BATCH]
        packets = [
            Packet(uuid7(), datetime.now(UTC), "", f"file-{row // 50}", int(row % 50), "chunk", rows.texts[row])
            for row in batch
        ]
        row_of.update((packet.id, int(row)) for packet, row in zip(packets, batch, strict=True))
        async with database.transaction() as connection:
            await insert(connection, corpus_id, packets)
        while owed := await vectors.next_owed(database, BATCH, 0):
            made = np.stack([rows.vectors[row_of[item.id]] for item in owed])
            await vectors.store(database, made_by, owed, made)
