"""Vectors in the database: which embedder made them, how they are stored, and the HNSW indexes over them.

Knows when a corpus is scanned exactly (always right, and faster while it is small) and when it gets an index. Does not
know the embedder's arithmetic, nor when upkeep is due (`memory.upkeep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from pgvector import Vector

from memory.postings import TRAFFIC
from memory.shapes import Vectors

if TYPE_CHECKING:
    import asyncpg
    import numpy as np
    from numpy.typing import NDArray

    from memory.database import Database
    from memory.embedder import Embedder

log = structlog.get_logger()

INDEX_FROM = 10_000
"""Packets of a corpus from which it gets an index; below, an exact scan is faster and finds every neighbour."""


@dataclass(frozen=True)
class Owed:
    """A packet whose vector is to be made; `prose` is as much of it as an embedder may read."""

    no: int
    corpus_id: int
    id: UUID
    prose: str


KNOWN = "SELECT id FROM embedders WHERE name = $1"
REGISTER = "INSERT INTO embedders (name, dimension) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
OTHERS = "SELECT count(*) FROM embedders WHERE id <> $1"
OWE_AGAIN = """
INSERT INTO owed (no, corpus_id, id) SELECT no, t.corpus_id, t.id FROM nearness JOIN traces t USING (no)
WHERE embedder <> $1 ON CONFLICT DO NOTHING
"""


async def register(database: Database, embedder: Embedder) -> Vectors:
    """Enters the embedder; what another one has embedded is owed anew, since two embedders' vectors never mix."""

    async def work(connection: asyncpg.Connection) -> int:
        await connection.execute(REGISTER, embedder.id, embedder.dimension)
        key = int(await connection.fetchval(KNOWN, embedder.id) or 0)
        # Reading all of them costs seconds on a large store, so only where there can be something to find.
        if await connection.fetchval(OTHERS, key):
            await connection.execute(OWE_AGAIN, key)
        return key

    return await refreshed(database, Vectors(await database.run(work), embedder.dimension))


FORGET_OTHERS = """
DELETE FROM embedders e WHERE id <> $1 AND NOT EXISTS (SELECT FROM nearness n WHERE n.embedder = e.id)
"""


async def forget_others(database: Database, vectors: Vectors) -> None:
    """Once everything is embedded anew: the embedders that nothing refers to any more go."""
    if await database.fetchval(OTHERS, vectors.embedder):
        await database.execute(FORGET_OTHERS, vectors.embedder)


# Lived memory first: what was said a second ago is asked for next. Traffic last.
NEXT = """
SELECT o.no, o.corpus_id, o.id, left(p.prose, $2) AS prose
FROM ((SELECT * FROM owed WHERE corpus_id = 0 ORDER BY no LIMIT $1)
      UNION ALL (SELECT * FROM owed WHERE corpus_id > 1 ORDER BY corpus_id, no LIMIT $1)
      UNION ALL (SELECT * FROM owed WHERE corpus_id = 1 ORDER BY no LIMIT $1) LIMIT $1) o
LEFT JOIN packets p ON p.corpus_id = o.corpus_id AND p.id = o.id
"""


async def next_owed(database: Database, count: int, characters: int) -> list[Owed]:
    """The packets to embed next, at most `count`."""
    rows = await database.fetch(NEXT, count, characters)
    return [Owed(row["no"], row["corpus_id"], row["id"], row["prose"] or "") for row in rows]


STORE = """
UPDATE packets SET embedding = new.v, embedder = $2
FROM unnest($3::uuid[], $4::vector[]) AS new (id, v) WHERE packets.corpus_id = $1 AND packets.id = new.id
"""
# Only for what is still owed: a packet that was removed meanwhile is owed no more.
STORE_NEAR = """
WITH paid AS (DELETE FROM owed WHERE no = ANY($2::int[]) RETURNING no, corpus_id)
INSERT INTO nearness (no, corpus_id, embedder, near)
SELECT no, corpus_id, $1, new.v::halfvec FROM paid JOIN unnest($2::int[], $3::vector[]) AS new (no, v) USING (no)
ON CONFLICT (no) DO UPDATE SET embedder = excluded.embedder, near = excluded.near
"""
PAID = "DELETE FROM owed WHERE no = ANY($1::int[])"


async def store(database: Database, vectors: Vectors, owed: Sequence[Owed], made: NDArray[np.float32]) -> None:
    """Writes the vectors of a batch, shape (len(owed), dimension), to packets and nearness; takes them off the queue.

    A packet that was removed meanwhile is passed over.
    """

    # Not bare arrays: asyncpg would take each for a further dimension of the array of vectors.
    values = [Vector(row) for row in made]

    async def work(connection: asyncpg.Connection) -> None:
        for corpus_id in sorted({item.corpus_id for item in owed}):
            rows = [row for row, item in enumerate(owed) if item.corpus_id == corpus_id]
            ids = [owed[row].id for row in rows]
            await connection.execute(STORE, corpus_id, vectors.embedder, ids, [values[row] for row in rows])
        await connection.execute(STORE_NEAR, vectors.embedder, [item.no for item in owed], values)

    await database.run(work)


async def give_up(database: Database, owed: Sequence[Owed]) -> None:
    """Takes packets off the queue that no vector can be made of; they stay searchable by their words."""
    await database.execute(PAID, [item.no for item in owed])


SIZES = "SELECT corpus_id, sum(packets)::bigint AS packets FROM extents GROUP BY corpus_id"
INDEXES = r"""
SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'nearness'::regclass AND i.indisvalid AND c.relname ~ '^nearness_\d+_(\d+|all)$'
"""


async def refreshed(database: Database, vectors: Vectors) -> Vectors:
    """`vectors` with the indexes that exist now."""
    prefix = f"nearness_{vectors.embedder}_"
    names = [str(row["name"]) for row in await database.fetch(INDEXES)]
    of = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return Vectors(vectors.embedder, vectors.dimension, frozenset(int(x) for x in of - {"all"}), "all" in of)


BUILDING_MB = (512, 2048)
"""Least and most memory of the server while an index is built."""
LINKS_BYTES = 1_000
"""Of one packet in the graph while it is built, beside its vector."""


def _room(packets: int, vectors: Vectors) -> int:
    """Megabytes in which the graph of so many packets fits: what does not fit is linked on disk, some ten times
    slower (at 1,000,000 packets hours, not minutes)."""
    least, most = BUILDING_MB
    return min(max(least, packets * (2 * vectors.dimension + LINKS_BYTES) >> 20), most)


async def keep_indexes(database: Database, vectors: Vectors, index_from: int = INDEX_FROM) -> Vectors:
    """Builds the indexes that are due and drops those that are not; the vectors as they are indexed now.

    Writes wait while one is built, two or three seconds for the ten thousand packets that first ask for it; from then
    on it grows with each write.
    """
    vectors = await refreshed(database, vectors)
    sizes = {row["corpus_id"]: row["packets"] for row in await database.fetch(SIZES)}
    due = {str(corpus) for corpus, size in sizes.items() if size >= index_from}
    if sum(size for corpus, size in sizes.items() if corpus != TRAFFIC) >= index_from:
        due.add("all")
    wanted = {f"nearness_{vectors.embedder}_{which}" for which in due}
    names = {str(row["name"]) for row in await database.fetch(INDEXES)}
    if wanted == names:
        return vectors

    async def work(connection: asyncpg.Connection) -> None:
        room = _room(sum(sizes.values()), vectors)
        await connection.execute(f"SET LOCAL statement_timeout = 0; SET LOCAL maintenance_work_mem = '{room}MB'")
        # Workers share memory through /dev/shm, which has 64 MB in a container; one process needs none of it.
        await connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        for name in sorted(names - wanted):
            await connection.execute(f"DROP INDEX IF EXISTS {name}")
        for name in sorted(wanted - names):
            which = name.rpartition("_")[2]
            where = f"corpus_id <> {TRAFFIC}" if which == "all" else f"corpus_id = {which}"
            log.info("building a vector index", index=name)
            await connection.execute(
                f"CREATE INDEX IF NOT EXISTS {name} ON nearness USING hnsw ({vectors.expression()} halfvec_cosine_ops)"
                f" WHERE embedder = {vectors.embedder} AND {where}"
            )

    await database.run(work)
    return await refreshed(database, vectors)
