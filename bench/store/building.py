"""A large store, built corpus by corpus, so that no more than one corpus is ever in memory; it stays on disk.

Three phases, each timed: packets are written and searchable by their words; their vectors (given, not computed) are
stored; the indexes are built. A store that was broken off is built anew.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import numpy as np

from bench.store.rows import Rows, World, make_rows, make_world
from bench.store.soul import ADD, GivenVectors, Soul
from memory import vectors
from memory.database import Database, DatabaseConfig
from memory.memory import Memory
from memory.packets import Packet, insert

CORPORA = 50
BATCH = 2000
WRITERS = 2
"""One counts words while Postgres writes for the other."""
BUILT = "built.json"


def is_built(folder: Path) -> bool:
    """Whether the store in `folder` was built to its end."""
    return (folder / BUILT).exists()


def piece(world: World, rows: int, corpus: int, *, texts: bool = True) -> Rows:
    """The rows of one corpus, the same each time; without `texts` it is quicker."""
    return make_rows(rows // CORPORA, 1, seed=1000 + corpus, world=world, texts=texts)


def number_of(id: UUID) -> int:
    """The row that a packet is: ids are made of it."""
    return id.int & 0xFFFF_FFFF


async def build(folder: Path, rows: int, say: Callable[[str], None]) -> None:
    """Fills a fresh store and says how long each phase took."""
    shutil.rmtree(folder, ignore_errors=True)
    await anyio.Path(folder).mkdir(parents=True)
    world = make_world(rows)
    ingest, storing = list[float](), list[float]()
    async with Database.open(DatabaseConfig(folder, statement_timeout_s=0)) as database:
        made_by = await vectors.register(database, GivenVectors())
        for corpus in range(CORPORA):
            made = piece(world, rows, corpus)
            ingest.append(await _seconds(lambda made=made, corpus=corpus: _write(database, corpus, made)))
            storing.append(await _seconds(lambda made=made: _store(database, made_by, made)))
            say(f"corpus {corpus + 1} of {CORPORA}: {len(made.texts) / ingest[-1]:,.0f} rows/s searchable by words")
        say("building the indexes")
        indexing = await _seconds(lambda: vectors.keep_indexes(database, made_by))
        for table in ("packets", "traces", "nearness", "postings", "extents"):
            await database.execute(f"VACUUM (ANALYZE) {table}")
        await database.execute("CHECKPOINT")
    size = rows // CORPORA
    figures: dict[str, Any] = {
        "rows": rows,
        "searchable_rows_per_s": round(rows / sum(ingest)),
        "searchable_rows_per_s_by_corpus": [round(size / took) for took in ingest],
        "vectors_stored_per_s": round(rows / sum(storing)),
        "indexes_s": round(indexing, 1),
    }
    await anyio.Path(folder / BUILT).write_text(json.dumps(figures, indent=2) + "\n")


async def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def _write(database: Database, corpus: int, made: Rows) -> None:
    corpus_id = await database.fetchval(ADD, f"corpus-{corpus}", len(made.texts))
    await database.execute("SELECT add_packets_partition($1)", corpus_id)
    first = corpus * len(made.texts)
    starts = iter(range(0, len(made.texts), BATCH))

    async def write() -> None:
        for start in starts:
            now = datetime.now(UTC)
            packets = [
                Packet(_id(first + row), now, "", f"file-{row // 50}", row % 50, "chunk", made.texts[row])
                for row in range(start, min(start + BATCH, len(made.texts)))
            ]
            await database.run(lambda connection, packets=packets: insert(connection, corpus_id, packets))

    async with anyio.create_task_group() as tasks:
        for _ in range(WRITERS):
            tasks.start_soon(write)


async def _store(database: Database, made_by: vectors.Vectors, made: Rows) -> None:
    while owed := await vectors.next_owed(database, BATCH, 0):
        rows = [number_of(item.id) % len(made.texts) for item in owed]
        await vectors.store(database, made_by, owed, made.vectors[np.array(rows)])


def _id(row: int) -> UUID:
    return UUID(int=0x7 << 76 | 0b10 << 62 | row)


class _Numbers(dict[object, int]):
    def __missing__(self, id: object) -> int:
        assert isinstance(id, UUID)
        return number_of(id)


@asynccontextmanager
async def open_built(folder: Path) -> AsyncIterator[Soul]:
    """The store as a daemon would open it."""
    async with Database.open(DatabaseConfig(folder)) as database, Memory.open(database, GivenVectors()) as memory:
        yield Soul(memory, _Numbers())
