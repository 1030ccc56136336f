"""From the files of a corpus to its packets: what changed, which passages stay, and the transaction that swaps them.

Knows stamps, passages and rows. Does not know names, mounts or allowed paths (`memory.corpora`), nor how files are read
(`memory.sources`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from memory import postings
from memory.files import Listing
from memory.packets import Packet, content_hash, insert
from memory.sources import Known, Source, is_unchanged, read_sources
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    import asyncpg

Progress = Callable[[int, int, str], Awaitable[None]]
"""Called with files done, files in all, and what is being done."""

PACKETS_PER_INSERT = 2000
MAX_SKIPPED = 200
"""Files passed over, or doubtful, of which the path and the reason are kept with the corpus."""
COMPACT_FROM = 0.2
"""Share of removed packets from which postings are rewritten; doing it for each changed file would cost seconds on a
large corpus, and until then no removed packet is found, only its words weigh a little less."""

OLD_FILES = "SELECT path, hash, stamp, reason, doubt FROM corpus_files WHERE corpus_id = $1"
OLD_CHUNKS = "SELECT id, no, content_hash FROM packets WHERE corpus_id = $1 AND session = ANY($2::text[])"
DELETE_CHUNKS = "DELETE FROM packets WHERE corpus_id = $1 AND id = ANY($2::uuid[])"
DELETE_FILES = "DELETE FROM corpus_files WHERE corpus_id = $1 AND path = ANY($2::text[])"
PUT_FILES = """
INSERT INTO corpus_files (corpus_id, path, hash, bytes, stamp, reason, doubt, terms)
SELECT $1, path, hash, bytes, stamp, reason, doubt, terms::jsonb
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[])
     AS new (path, hash, bytes, stamp, reason, doubt, terms)
ON CONFLICT (corpus_id, path) DO UPDATE SET hash = excluded.hash, bytes = excluded.bytes, stamp = excluded.stamp,
    reason = excluded.reason, doubt = excluded.doubt, terms = excluded.terms
"""
STAMP_FILES = """
UPDATE corpus_files f SET stamp = new.stamp FROM unnest($2::text[], $3::text[]) AS new (path, stamp)
WHERE f.corpus_id = $1 AND f.path = new.path
"""
MOVE_CHUNKS = """
WITH new AS (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::int[], $5::text[]) AS new (id, session, sequence, metadata)
), moved AS (
    UPDATE packets SET session = new.session, sequence = new.sequence, metadata = new.metadata::jsonb
    FROM new WHERE packets.corpus_id = $1 AND packets.id = new.id
)
UPDATE traces SET session = new.session, sequence = new.sequence FROM new WHERE traces.id = new.id
"""
DESCRIBE = """
UPDATE corpora SET indexed = now(), skipped = $2::text::jsonb, doubtful = $3::text::jsonb,
       files = f.files, bytes = f.bytes,
       chunks = (SELECT coalesce(sum(packets), 0) FROM extents WHERE corpus_id = $1)
FROM (SELECT count(*) AS files, coalesce(sum(bytes), 0) AS bytes FROM corpus_files
      WHERE corpus_id = $1 AND reason = '') f
WHERE id = $1
"""
UNCHANGED = """
UPDATE corpora SET indexed = now(), skipped = $2::text::jsonb, doubtful = $3::text::jsonb WHERE id = $1
"""


@dataclass(frozen=True)
class Outcome:
    """What a look at the files came to."""

    corpus_id: int
    files: int
    """That are indexed now."""
    changed: int
    """New, changed and vanished ones."""
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Old:
    id: UUID
    no: int


async def bring_up_to_date(
    connection: asyncpg.Connection,
    corpus_id: int,
    found: Listing,
    file_mb: float,
    progress: Progress | None = None,
    language: str | None = None,
) -> Outcome:
    """Makes the corpus what the files of `found` are, in the caller's transaction: others see it before or after.

    Only files that may have changed are read, some at a time, so that a corpus need not fit into memory. A passage
    whose text was there before, in a changed, moved or deleted file, keeps its packet and its vector. `language` is
    the stemmer for the words of new passages, None each one's own.
    """
    known = {
        str(row["path"]): Known(row["hash"], row["stamp"], row["reason"], row["doubt"])
        for row in await connection.fetch(OLD_FILES, corpus_id)
    }
    unchanged = [file for file in found.files if is_unchanged(file, known.get(file.path))]
    untouched = {file.path for file in unchanged}
    to_read = [file for file in found.files if file.path not in untouched]
    kept = {file.path for file in found.files}
    reasons = {file.path: known[file.path].reason for file in unchanged}
    doubts = {file.path: known[file.path].doubt for file in unchanged}
    swap = _Swap(connection, corpus_id, language)
    await swap.without(path for path in known if path not in kept)

    done = len(unchanged)
    async for sources in read_sources(found, to_read, known, file_mb):
        for source in sources:
            reasons[source.path], doubts[source.path] = source.reason, source.doubt
            done += 1
            if progress is not None:
                await progress(done, len(found.files), source.path)
        await swap.take(sources, known)
    if progress is not None:
        await progress(len(found.files), len(found.files), "storing")
    await swap.finish()

    skipped = tuple(sorted([*found.skipped, *((path, reason) for path, reason in reasons.items() if reason)]))
    doubtful = sorted((path, doubt) for path, doubt in doubts.items() if doubt)
    shown = (json.dumps(skipped[:MAX_SKIPPED]), json.dumps(doubtful[:MAX_SKIPPED]))
    await connection.execute(DESCRIBE if swap.changed else UNCHANGED, corpus_id, *shown)
    return Outcome(corpus_id, sum(not reason for reason in reasons.values()), swap.changed, skipped)


class _Swap:
    """Exchanges the passages of a corpus, file by file, in one transaction."""

    def __init__(self, connection: asyncpg.Connection, corpus_id: int, language: str | None) -> None:
        self.changed = 0
        self._language = language
        self._connection = connection
        self._corpus_id = corpus_id
        self._old: defaultdict[str, list[_Old]] = defaultdict(list)
        """Packets of changed and deleted files that no file has taken up yet, by the hash of their text."""
        self._new: list[Packet] = []
        self._now = datetime.now(UTC)

    async def without(self, paths: Iterable[str]) -> None:
        """Files that are gone; known before any is read, so that a moved file finds its packets."""
        gone = list(paths)
        if gone:
            await self._let_go(gone)
            await self._connection.execute(DELETE_FILES, self._corpus_id, gone)
            self.changed += len(gone)

    async def take(self, sources: Sequence[Source], known: Mapping[str, Known]) -> None:
        """Files that were read."""
        same = [one for one in sources if one.path in known and one.hash and one.hash == known[one.path].hash]
        if same:
            columns = [one.path for one in same], [one.stamp for one in same]
            await self._connection.execute(STAMP_FILES, self._corpus_id, *columns)
        same_paths = {one.path for one in same}
        new = [one for one in sources if one.path not in same_paths]
        if not new:
            return
        was_indexed = [one.path for one in new if one.path in known and not known[one.path].reason]
        # What is passed over and was never indexed is no change that anybody could find.
        self.changed += sum(not one.reason for one in new) + sum(
            bool(one.reason) for one in new if one.path in was_indexed
        )
        await self._let_go(was_indexed)
        lost = [one.path for one in new if not one.lasting and one.path in known]
        await self._connection.execute(DELETE_FILES, self._corpus_id, lost)
        await self._put([one for one in new if one.lasting])
        moved = [row for one in new for row in self._matched(one)]
        if moved:
            columns = (list(column) for column in zip(*moved, strict=True))
            await self._connection.execute(MOVE_CHUNKS, self._corpus_id, *columns)
        if len(self._new) >= PACKETS_PER_INSERT:
            await self._insert()

    async def finish(self) -> None:
        """Packets that nothing took up go."""
        await self._insert()
        gone = [item for items in self._old.values() for item in items]
        if gone:
            # Packets before traces: whoever stores vectors meanwhile locks them in this order, too.
            await self._connection.execute(DELETE_CHUNKS, self._corpus_id, [item.id for item in gone])
            await postings.remove(self._connection, self._corpus_id, [item.no for item in gone])
            if await postings.removed_share(self._connection, self._corpus_id) > COMPACT_FROM:
                await postings.compact(self._connection, self._corpus_id)

    async def _let_go(self, paths: Sequence[str]) -> None:
        if paths:
            for row in await self._connection.fetch(OLD_CHUNKS, self._corpus_id, paths):
                self._old[row["content_hash"]].append(_Old(row["id"], row["no"]))

    async def _put(self, sources: Sequence[Source]) -> None:
        await self._connection.execute(
            PUT_FILES,
            self._corpus_id,
            [one.path for one in sources],
            [one.hash for one in sources],
            [one.bytes for one in sources],
            [one.stamp for one in sources],
            [one.reason for one in sources],
            [one.doubt for one in sources],
            [json.dumps(one.terms or {}) for one in sources],
        )

    def _matched(self, source: Source) -> list[tuple[UUID, str, int, str]]:
        """(id, file, sequence, metadata) of each passage whose text was there before; the others become packets."""
        moved: list[tuple[UUID, str, int, str]] = []
        for sequence, (chunk, metadata) in enumerate(source.passages or ()):
            if same := self._old.get(content_hash(chunk.text)):
                moved.append((same.pop().id, source.path, sequence, json.dumps(metadata)))
                continue
            packet = Packet(
                id=uuid7(),
                time=self._now,
                agent="",
                session=source.path,
                sequence=sequence,
                kind="chunk",
                prose=chunk.text,
                origin="corpus",
                metadata=metadata,
            )
            self._new.append(packet)
        return moved

    async def _insert(self) -> None:
        for start in range(0, len(self._new), PACKETS_PER_INSERT):
            part = self._new[start : start + PACKETS_PER_INSERT]
            await insert(self._connection, self._corpus_id, part, self._language)
        self._new.clear()
