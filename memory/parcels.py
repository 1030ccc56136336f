"""A corpus as one file, with its vectors, so that another machine need not read or embed anything.

Knows which rows go into the file and come back from it. Does not know its format (`memory.parcel_file`).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio.to_thread
import numpy as np

from engine.errors import Conflict
from memory import vectors
from memory.corpora import Corpora, CorpusInfo, check_name
from memory.describing import describe
from memory.indexing import DESCRIBE, MAX_SKIPPED, PUT_FILES
from memory.packets import Packet, insert
from memory.parcel_file import (
    CHUNKS,
    FILES,
    MANIFEST,
    ROWS,
    VECTORS,
    Parcel,
    batches,
    checked,
    created,
    manifest_of,
    opened,
    read_vectors,
)
from memory.uuid7 import uuid7
from memory.vectors import Owed

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database
    from memory.embedder import Embedder
    from memory.upkeep import Upkeep


class Parcels:
    """Writes corpora to files and reads them back."""

    def __init__(self, database: Database, corpora: Corpora, embedder: Embedder | None, upkeep: Upkeep) -> None:
        self._database = database
        self._corpora = corpora
        self._embedder = embedder
        self._upkeep = upkeep

    SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    CORPUS = "SELECT id FROM corpora WHERE name = $1"
    FILE_ROWS = """
    SELECT path, hash, bytes, reason, doubt, terms::text AS terms FROM corpus_files WHERE corpus_id = $1 ORDER BY path
    """
    # Only vectors of one embedder: those of another one would mean nothing beside them.
    CHUNK_ROWS = """
    SELECT session AS path, sequence, prose, metadata::text AS metadata, content_hash AS hash,
           embedding IS NOT NULL AND embedder = $2 AS vector
    FROM packets WHERE corpus_id = $1 ORDER BY session, sequence, id
    """
    VECTOR_ROWS = """
    SELECT embedding FROM packets WHERE corpus_id = $1 AND embedder = $2 AND embedding IS NOT NULL
    ORDER BY session, sequence, id
    """
    MADE_BY = """
    SELECT e.id, e.name, e.dimension FROM packets p JOIN embedders e ON e.id = p.embedder
    WHERE p.corpus_id = $1 AND p.embedding IS NOT NULL GROUP BY e.id ORDER BY count(*) DESC LIMIT 1
    """

    async def export(self, name: str, target: Path) -> Parcel:
        """Writes a corpus, as it is at this moment, to a new file. It is there whole or not at all.

        Raises:
            NotFound: no such corpus, or no folder for the file.
            Conflict: the file exists.
        """
        await self._corpora.info(name)
        with created(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            async with self._database.transaction() as connection:
                await connection.execute(self.SNAPSHOT)
                await connection.execute("SET LOCAL statement_timeout = 0")
                corpus_id = await connection.fetchval(self.CORPUS, name)
                made_by = await connection.fetchrow(self.MADE_BY, corpus_id)
                key = made_by["id"] if made_by else 0
                writing = _Writing(connection, archive)
                files = await writing.lines(FILES, self.FILE_ROWS, corpus_id)
                chunks = await writing.lines(CHUNKS, self.CHUNK_ROWS, corpus_id, key)
                count = await writing.numbers(VECTORS, self.VECTOR_ROWS, corpus_id, key)
            parcel = Parcel(
                name, files, chunks, count, made_by["name"] if made_by else "", made_by["dimension"] if made_by else 0
            )
            archive.writestr(MANIFEST, json.dumps(manifest_of(parcel, writing.sums), indent=2) + "\n")
        return parcel

    ENTER = "INSERT INTO corpora (name, path) VALUES ($1, '') ON CONFLICT DO NOTHING RETURNING id"

    async def take(self, source: Path, name: str = "") -> CorpusInfo:
        """Makes a corpus of a file that `export` wrote, under its own name or another one.

        All is checked before anything is stored, and it is stored whole or not at all. Vectors of another embedder than
        the one in use are left out, and made anew in the background. The corpus follows no folder until one is given
        with `Corpora.add`: a file from somewhere else must not choose what is read here.

        Raises:
            InvalidInput: it is no such file, or it was damaged or changed.
            Conflict: there is a corpus of that name.
            NotFound: there is no such file.
        """
        parcel = await anyio.to_thread.run_sync(checked, source)
        name = name or parcel.name
        check_name(name)
        with opened(source) as archive:
            ids = await self._store(archive, parcel, name)
            corpus_id = int(await self._database.fetchval(self.CORPUS, name))
            ours = self._embedder
            if ours is not None and (parcel.embedder, parcel.dimension) == (ours.id, ours.dimension):
                await self._store_vectors(archive, parcel, corpus_id, ids)
        self._upkeep.wake()
        await self._database.run(lambda connection: describe(connection, corpus_id))
        return await self._corpora.info(name)

    async def _store(self, archive: zipfile.ZipFile, parcel: Parcel, name: str) -> list[UUID]:
        """Files and chunks in one transaction; the ids of those chunks that have a vector, in order."""

        async def work(connection: asyncpg.Connection) -> list[UUID]:
            await connection.execute(
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
            )
            corpus_id = await connection.fetchval(self.ENTER, name)
            if corpus_id is None:
                raise Conflict(
                    f"There is a corpus {name!r} already.",
                    f"Give another name with --name, or remove it first: soul corpus remove {name}",
                )
            await connection.execute("SELECT add_packets_partition($1)", corpus_id)
            doubtful: list[tuple[str, str]] = []
            for rows in batches(archive, FILES):
                await connection.execute(PUT_FILES, corpus_id, *_columns(rows))
                doubtful += [(row["path"], row["doubt"]) for row in rows if row.get("doubt")]
            with_vector: list[UUID] = []
            now = datetime.now(UTC)
            chunks = batches(archive, CHUNKS)
            while rows := await anyio.to_thread.run_sync(next, chunks, None):
                packets = [_packet(row, now) for row in rows]
                with_vector += [packet.id for packet, row in zip(packets, rows, strict=True) if row["vector"]]
                await insert(connection, corpus_id, packets)
            await connection.execute(DESCRIBE, corpus_id, "[]", json.dumps(doubtful[:MAX_SKIPPED]))
            return with_vector

        async with self._corpora.writing:
            return await self._database.run(work)

    NUMBERS = "SELECT id, no FROM packets WHERE corpus_id = $1 AND id = ANY($2::uuid[])"

    async def _store_vectors(
        self, archive: zipfile.ZipFile, parcel: Parcel, corpus_id: int, ids: Sequence[UUID]
    ) -> None:
        """Whatever breaks this off: what has no vector yet is owed one, as after any indexing."""
        made_by = self._upkeep.vectors
        assert made_by is not None
        with archive.open(VECTORS) as numbers:
            for start in range(0, len(ids), ROWS):
                batch = ids[start : start + ROWS]
                values = await anyio.to_thread.run_sync(read_vectors, numbers, len(batch), parcel.dimension)
                no = {row["id"]: row["no"] for row in await self._database.fetch(self.NUMBERS, corpus_id, batch)}
                here = [place for place, id in enumerate(batch) if id in no]
                owed = [Owed(no[batch[place]], corpus_id, batch[place], "") for place in here]
                await vectors.store(self._database, made_by, owed, values[here])


# -- writing


class _Writing:
    """Rows of a transaction as members of an archive, with their sums."""

    def __init__(self, connection: asyncpg.Connection, archive: zipfile.ZipFile) -> None:
        self.sums: dict[str, str] = {}
        self._connection = connection
        self._archive = archive

    async def lines(self, member: str, sql: str, *arguments: object) -> int:
        """One JSON object a row; how many."""

        def encoded(rows: Sequence[asyncpg.Record]) -> bytes:
            return b"".join(json.dumps(_decoded(row), ensure_ascii=False).encode() + b"\n" for row in rows)

        return await self._member(member, encoded, sql, *arguments)

    async def numbers(self, member: str, sql: str, *arguments: object) -> int:
        """The vectors of all rows; how many."""

        def encoded(rows: Sequence[asyncpg.Record]) -> bytes:
            return np.asarray([row["embedding"].to_numpy() for row in rows], dtype="<f4").tobytes()

        return await self._member(member, encoded, sql, *arguments)

    async def _member(self, member: str, encoded: Any, sql: str, *arguments: object) -> int:
        count, digest = 0, hashlib.sha256()
        with self._archive.open(member, "w", force_zip64=True) as out:

            def write(rows: Sequence[asyncpg.Record]) -> None:
                data = encoded(rows)
                digest.update(data)
                out.write(data)

            cursor = await self._connection.cursor(sql, *arguments)
            while rows := await cursor.fetch(ROWS):
                await anyio.to_thread.run_sync(write, rows)
                count += len(rows)
        self.sums[member] = digest.hexdigest()
        return count


def _decoded(row: asyncpg.Record) -> dict[str, Any]:
    """The row with its JSON columns as what they mean."""
    return {key: json.loads(value) if key in ("terms", "metadata") else value for key, value in row.items()}


def _columns(rows: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """path, hash, bytes, stamp, reason, doubt, terms; without a stamp, which holds on one machine only."""
    return [
        *([row[key] for row in rows] for key in ("path", "hash", "bytes")),
        [""] * len(rows),
        [row["reason"] for row in rows],
        [row.get("doubt", "") for row in rows],  # an older parcel has none
        [json.dumps(row["terms"]) for row in rows],
    ]


def _packet(row: dict[str, Any], now: datetime) -> Packet:
    return Packet(
        id=uuid7(),
        time=now,
        agent="",
        session=row["path"],
        sequence=row["sequence"],
        kind="chunk",
        prose=row["prose"],
        origin="corpus",
        metadata=row["metadata"],
    )
