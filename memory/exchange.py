"""Export and import of what was lived, with or without vectors, so that memories can go to another Soul or tool.

Knows which packets go, and what an import may and may not do to what is there already. Does not know how a file is laid
out (`memory.jsonl`, `memory.parquet`). Passages of corpora stay at home: whoever has the files indexes them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import UUID

import anyio
import anyio.to_thread
from pgvector import Vector

from engine.errors import Conflict, Forbidden, InvalidInput, NotFound, StorageFull
from memory.bifocal import Header, Record, Sink, Source
from memory.jsonl import LineSink, LineSource
from memory.packets import KINDS, Kind, Packet, Packets, content_hash
from memory.parquet import ParquetSink, ParquetSource
from memory.postings import FIRST_CORPUS
from memory.vectors import STORE, STORE_NEAR

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database
    from memory.embedder import Embedder
    from memory.upkeep import Upkeep

BATCH = 500
NAMED = 10
"""Conflicts that are named one by one; the others are counted."""

Progress = Callable[[str, float | None], Awaitable[None]]
"""(what is done now, fraction 0..1 or None)"""


@dataclass(frozen=True)
class Selection:
    """Which packets go: all that was lived and its traffic, or less. `since` is included, `until` is not."""

    since: datetime | None = None
    until: datetime | None = None
    kinds: tuple[Kind, ...] = ()
    """Empty: all."""
    agent: str | None = None
    vectors: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    packets: int
    vectors: int
    embedder: str
    """"" where no vectors were asked for."""
    bytes: int


@dataclass(frozen=True)
class Imported:
    """What came of an import; the numbers add up to `packets`."""

    packets: int
    written: int
    known: int
    """Were there already, word for word."""
    forgotten: int
    """Were forgotten here, and stay so."""
    conflicts: int
    """The same id with another text: the text that was here stays."""
    conflicting: tuple[UUID, ...]
    """The first of them."""
    vectors: int
    """Vectors that were taken from the file; those of the others are made in the background."""
    embedder: str
    """Whose vectors the file holds, "" for none."""
    mixed: bool
    """They are of another embedder than this Soul's, so none was taken."""


class Exchange:
    """Takes packets out and in. Only a person gives these commands: they read and write files anywhere."""

    def __init__(self, database: Database, packets: Packets, embedder: Embedder | None, upkeep: Upkeep) -> None:
        self._database = database
        self._packets = packets
        self._embedder = embedder
        self._upkeep = upkeep

    SELECTED = f"""
    SELECT p.id, p.time, p.agent, p.session, p.sequence, p.kind, p.prose, p.origin, p.resonance, p.generation,
           p.work_order, p.metadata::text AS metadata,
           CASE WHEN $5::int IS NOT NULL AND p.embedder = $5 THEN p.embedding END AS vector
    FROM packets p
    WHERE p.corpus_id < {FIRST_CORPUS} AND ($1::timestamptz IS NULL OR p.time >= $1)
      AND ($2::timestamptz IS NULL OR p.time < $2) AND ($3::text[] IS NULL OR p.kind = ANY($3))
      AND ($4::text IS NULL OR p.agent = $4)
    ORDER BY p.id
    """

    async def export(self, path: Path, selection: Selection, progress: Progress) -> Exported:
        """Writes the packets to a new file, whole or not at all; as they are at one moment, whoever writes meanwhile.

        Raises:
            InvalidInput: the file's name ends in neither .jsonl nor .parquet, there is no such kind, or no embedder.
            MissingExtra: Parquet is asked for and pyarrow is not installed.
            Conflict: there is such a file already.
            NotFound, Forbidden, StorageFull: the folder does not exist, cannot be written to, or has no room.
        """
        made_by, header = self._upkeep.vectors, Header()
        if unknown := set(selection.kinds) - set(KINDS):
            raise InvalidInput(f"There is no kind {min(unknown)!r} of packet.", f"Kinds are: {', '.join(KINDS)}.")
        if selection.vectors:
            if self._embedder is None or made_by is None:
                raise InvalidInput("There are no vectors: no embedder is installed.", "`soul doctor` names the remedy.")
            header = Header(self._embedder.id, self._embedder.dimension)
        count = vectors = 0
        kind = _kind_of(path)
        with _written_whole(path) as file:
            sink: Sink = LineSink(file, header) if kind == "jsonl" else ParquetSink(file, header)
            async with self._database.transaction() as connection:
                await connection.execute("SET LOCAL statement_timeout = 0")
                cursor = await connection.cursor(
                    self.SELECTED,
                    selection.since,
                    selection.until,
                    list(selection.kinds) or None,
                    selection.agent,
                    made_by.embedder if made_by is not None and selection.vectors else None,
                )
                while rows := await cursor.fetch(BATCH):
                    records = [_record(row) for row in rows]
                    await anyio.to_thread.run_sync(sink.write, records)
                    count += len(records)
                    vectors += sum(record.vector is not None for record in records)
                    await progress(f"exporting: {count:,} packets", None)
            await anyio.to_thread.run_sync(sink.close)
        size = (await anyio.Path(path).stat()).st_size
        return Exported(path, count, vectors, header.embedder, size)

    async def bring_in(self, path: Path, progress: Progress) -> Imported:
        """Takes a file's packets in, with their ids. The whole file is checked before the first of them is written.

        Doing it twice is doing it once, so one that was broken off is simply done again. What was forgotten here does
        not come back. Each packet keeps its origin and says in its metadata from which file it came, and when.

        Raises:
            InvalidInput: the file, or a record in it, is not what it should be; nothing was written.
            MissingExtra: it is Parquet, and pyarrow is not installed.
            NotFound, Forbidden: there is no such file, or it cannot be read.
        """
        total = 0
        async with contextlib.AsyncExitStack() as stack:
            checked = await _opened(path, stack)
            batches = checked.batches()
            while (records := await anyio.to_thread.run_sync(next, batches, None)) is not None:
                total += len(records)
                await progress(f"checking: {total:,} packets", None)
            source = await _opened(path, stack)
            return await self._take(source, path, total, progress)

    async def _take(self, source: Source, path: Path, total: int, progress: Progress) -> Imported:
        header = source.header
        ours = self._embedder is not None and self._upkeep.vectors is not None
        fits = ours and self._embedder is not None and header.embedder == self._embedder.id
        done = Imported(0, 0, 0, 0, 0, (), 0, header.embedder, bool(header.embedder) and not fits)
        mark = {"file": path.name, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        batches = source.batches()
        while (records := await anyio.to_thread.run_sync(next, batches, None)) is not None:
            one = await self._database.run(
                lambda connection, records=records: self._take_batch(connection, records, mark, fits)
            )
            self._packets.committed()
            done = replace(
                done,
                packets=done.packets + one.packets,
                written=done.written + one.written,
                known=done.known + one.known,
                forgotten=done.forgotten + one.forgotten,
                conflicts=done.conflicts + one.conflicts,
                conflicting=(*done.conflicting, *one.conflicting)[:NAMED],
                vectors=done.vectors + one.vectors,
            )
            await progress(f"importing: {done.packets:,} of {total:,} packets", done.packets / max(total, 1))
        return done

    KNOWN = """SELECT t.id, p.content_hash FROM traces t JOIN packets p ON p.corpus_id = t.corpus_id AND p.id = t.id
               WHERE t.id = ANY($1::uuid[])"""
    FORGOTTEN = "SELECT id FROM forgotten WHERE id = ANY($1::uuid[])"

    async def _take_batch(
        self, connection: asyncpg.Connection, records: list[Record], mark: dict[str, str], fits: bool
    ) -> Imported:
        ids = [record.packet.id for record in records]
        held = {row["id"]: row["content_hash"] for row in await connection.fetch(self.KNOWN, ids)}
        forgotten = {row["id"] for row in await connection.fetch(self.FORGOTTEN, ids)}
        new: dict[UUID, Record] = {}
        known, conflicting, refused = 0, list[UUID](), 0
        for record in records:
            id, hash = record.packet.id, content_hash(record.packet.prose)
            if id in forgotten:
                refused += 1
            elif id not in held:
                new[id], held[id] = record, hash
            elif held[id] == hash:
                known += 1
            else:
                conflicting.append(id)
        packets = [replace(one.packet, metadata={**one.packet.metadata, "imported": mark}) for one in new.values()]
        await self._packets.add(connection, packets)
        vectors = [one for one in new.values() if one.vector is not None] if fits else []
        if vectors:
            await self._pay(connection, vectors)
        return Imported(
            len(records), len(new), known, refused, len(conflicting), tuple(conflicting), len(vectors), "", False
        )

    PLACES = "SELECT id, no, corpus_id FROM traces WHERE id = ANY($1::uuid[])"

    async def _pay(self, connection: asyncpg.Connection, records: list[Record]) -> None:
        """Stores the vectors of packets that were just written, which are owed no more."""
        made_by = self._upkeep.vectors
        assert made_by is not None
        values = {record.packet.id: Vector(record.vector) for record in records if record.vector is not None}
        places = await connection.fetch(self.PLACES, list(values))
        for corpus_id in sorted({row["corpus_id"] for row in places}):
            own = [row["id"] for row in places if row["corpus_id"] == corpus_id]
            await connection.execute(STORE, corpus_id, made_by.embedder, own, [values[id] for id in own])
        await connection.execute(
            STORE_NEAR, made_by.embedder, [row["no"] for row in places], [values[row["id"]] for row in places]
        )


def _record(row: asyncpg.Record) -> Record:
    values = dict(row)
    vector = values.pop("vector")
    packet = Packet(**{**values, "metadata": json.loads(values["metadata"])})
    return Record(packet, None if vector is None else vector.to_numpy())


def _kind_of(path: Path) -> str:
    if path.suffix not in (".jsonl", ".parquet"):
        raise InvalidInput(f"{path.name} ends in neither .jsonl nor .parquet.", "The ending says which of them it is.")
    return path.suffix[1:]


@contextlib.contextmanager
def _written_whole(path: Path) -> Generator[BinaryIO]:
    """A file under another name, that gets its own once the block ended well; for the eyes of its owner alone."""
    if path.exists():
        raise Conflict(f"{path.name} exists already.", "Name another file, or remove it first.")
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except FileNotFoundError:
        raise NotFound(f"There is no folder {path.parent}.", "Make it first.") from None
    except PermissionError:
        raise Forbidden(f"{path.parent} cannot be written to.", "Name a file in a folder of yours.") from None
    except OSError as error:
        raise StorageFull(
            f"{path.name} could not be written: {error.strerror}.", "Make room, or name another."
        ) from None
    finally:
        part.unlink(missing_ok=True)


async def _opened(path: Path, stack: contextlib.AsyncExitStack) -> Source:
    kind = _kind_of(path)

    def open_it() -> Source:
        file = cast("BinaryIO", path.open("rb"))
        try:
            return LineSource(file, path.name) if kind == "jsonl" else ParquetSource(file, path.name)
        except BaseException:
            file.close()
            raise

    try:
        source = await anyio.to_thread.run_sync(open_it)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.", "Name one that `soul memory export` made.") from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a folder.", "Name one file.") from None
    except PermissionError:
        raise Forbidden(f"{path} cannot be read.", "Give yourself the right to read it.") from None
    stack.callback(source.close)
    return source
