"""From the files of a corpus to its packets: what changed, which chunks stay, and the one transaction that swaps them.

Knows hashes, chunks and rows. Does not know names, mounts or allowed paths (`memory.corpora`).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio.to_thread
import xxhash

from memory import postings
from memory.files import Listing, NotText, read
from memory.lexemes import is_stop_word
from memory.packets import Packet, content_hash, insert
from memory.splitting import Chunk, split
from memory.text import cleaned
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    import asyncpg

FILES_PER_STEP = 64
"""Files read and split by a worker thread at a time; progress is told after each step."""
TERMS_PER_FILE = 40
TERMS_PER_CORPUS = 12
PACKETS_PER_INSERT = 2000
COMPACT_FROM = 0.2
"""Share of removed packets from which postings are rewritten; doing it for each changed file would cost seconds on a
large corpus, and until then no removed packet is found, only its words weigh a little less."""

_TERM = re.compile(r"[^\W\d_]{3,40}")


@dataclass(frozen=True)
class Source:
    """One file of a corpus: its content when it changed, else only that it is still there."""

    path: str
    hash: str
    bytes: int
    chunks: tuple[Chunk, ...] | None = None
    """None: unchanged since the last time."""
    terms: Mapping[str, int] | None = None


async def read_sources(found: Listing, known: Mapping[str, str]) -> AsyncIterator[tuple[int, Source | tuple[str, str]]]:
    """Reads and splits the files of a listing, skipping those whose hash is `known`.

    Yields how many files are done with each source, or with (path, reason) where a file was passed over.
    """

    def step(paths: Sequence[PurePosixPath]) -> list[Source | tuple[str, str]]:
        return [_read(found.root, path, known.get(str(path))) for path in paths]

    for start in range(0, len(found.paths), FILES_PER_STEP):
        results = await anyio.to_thread.run_sync(step, found.paths[start : start + FILES_PER_STEP])
        for number, result in enumerate(results, start + 1):
            yield number, result


def _read(root: Path, path: PurePosixPath, known: str | None) -> Source | tuple[str, str]:
    try:
        text, raw = read(root / path)
    except NotText as error:
        return str(path), error.reason
    hash = xxhash.xxh3_128_hexdigest(raw)
    if hash == known:
        return Source(str(path), hash, len(raw))
    text = cleaned(text)
    return Source(str(path), hash, len(raw), tuple(split(text, path)), _terms(text))


def _terms(text: str) -> dict[str, int]:
    counts = Counter(word for word in _TERM.findall(text.lower()) if not is_stop_word(word))
    return dict(counts.most_common(TERMS_PER_FILE))


@dataclass(frozen=True)
class _Old:
    id: UUID
    no: int


LOCK = """
INSERT INTO corpora (name, path) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET path = excluded.path RETURNING id, language, indexed IS NULL AS new
"""
OLD_FILES = "SELECT path FROM corpus_files WHERE corpus_id = $1"
OLD_CHUNKS = "SELECT id, no, content_hash FROM packets WHERE corpus_id = $1 AND session = ANY($2::text[])"
DELETE_CHUNKS = "DELETE FROM packets WHERE corpus_id = $1 AND id = ANY($2::uuid[])"
DELETE_FILES = "DELETE FROM corpus_files WHERE corpus_id = $1 AND path = ANY($2::text[])"
INSERT_FILES = """
INSERT INTO corpus_files (corpus_id, path, hash, bytes, terms)
SELECT $1, path, hash, bytes, terms::jsonb
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) AS new (path, hash, bytes, terms)
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
FILE_TERMS = "SELECT terms::text AS terms FROM corpus_files WHERE corpus_id = $1"
DESCRIBE = """
UPDATE corpora SET indexed = now(), terms = $2, skipped = $3::text::jsonb, files = f.files, bytes = f.bytes,
       chunks = (SELECT coalesce(sum(packets), 0) FROM extents WHERE corpus_id = $1)
FROM (SELECT count(*) AS files, coalesce(sum(bytes), 0) AS bytes FROM corpus_files WHERE corpus_id = $1) f
WHERE id = $1
"""


async def apply(
    connection: asyncpg.Connection,
    name: str,
    path: Path,
    sources: Sequence[Source],
    skipped: Sequence[tuple[str, str]],
) -> None:
    """Makes the corpus what `sources` say, in the caller's transaction: others see it before or after.

    A chunk whose text was there before, in a changed, moved or deleted file, keeps its packet and its vector.
    """
    await connection.execute("SET LOCAL statement_timeout = 0")
    row = await connection.fetchrow(LOCK, name, str(path))
    assert row is not None
    corpus_id: int = row["id"]
    language: str | None = row["language"]
    if row["new"]:
        await connection.execute("SELECT add_packets_partition($1)", corpus_id)
    changed = [source for source in sources if source.chunks is not None]
    there = {source.path for source in sources}
    before = {str(row["path"]) for row in await connection.fetch(OLD_FILES, corpus_id)}
    touched = [*(before - there), *(source.path for source in changed)]

    old: defaultdict[str, list[_Old]] = defaultdict(list)
    for row in await connection.fetch(OLD_CHUNKS, corpus_id, touched):
        old[row["content_hash"]].append(_Old(row["id"], row["no"]))
    moved, new = _matched(changed, old)
    gone = [item for items in old.values() for item in items]

    # Packets before traces: whoever stores vectors meanwhile locks them in this order, too.
    await connection.execute(DELETE_CHUNKS, corpus_id, [item.id for item in gone])
    await postings.remove(connection, corpus_id, [item.no for item in gone])
    if moved:
        await connection.execute(MOVE_CHUNKS, corpus_id, *(list(column) for column in zip(*moved, strict=True)))
    for start in range(0, len(new), PACKETS_PER_INSERT):
        await insert(connection, corpus_id, new[start : start + PACKETS_PER_INSERT], language)
    await connection.execute(DELETE_FILES, corpus_id, touched)
    await connection.execute(
        INSERT_FILES,
        corpus_id,
        [source.path for source in changed],
        [source.hash for source in changed],
        [source.bytes for source in changed],
        [json.dumps(source.terms) for source in changed],
    )
    if await postings.removed_share(connection, corpus_id) > COMPACT_FROM:
        await postings.compact(connection, corpus_id)
    terms = _telling([json.loads(row["terms"]) for row in await connection.fetch(FILE_TERMS, corpus_id)])
    await connection.execute(DESCRIBE, corpus_id, terms, json.dumps(skipped))


def _matched(
    changed: Sequence[Source], old: Mapping[str, list[_Old]]
) -> tuple[list[tuple[UUID, str, int, str]], list[Packet]]:
    """What to do about each chunk of the changed files.

    (id, file, sequence, metadata) where its text was there before, which is taken out of `old`; else a packet.
    """
    now = datetime.now(UTC)
    moved: list[tuple[UUID, str, int, str]] = []
    new: list[Packet] = []
    for source in changed:
        for sequence, chunk in enumerate(source.chunks or ()):
            metadata: dict[str, Any] = {"lines": [chunk.first_line, chunk.last_line]}
            if chunk.headings:
                metadata["headings"] = list(chunk.headings)
            same = old.get(content_hash(chunk.text))
            if same:
                moved.append((same.pop().id, source.path, sequence, json.dumps(metadata)))
            else:
                packet = Packet(
                    id=uuid7(),
                    time=now,
                    agent="",
                    session=source.path,
                    sequence=sequence,
                    kind="chunk",
                    prose=chunk.text,
                    origin="corpus",
                    metadata=metadata,
                )
                new.append(packet)
    return moved, new


def _telling(by_file: Sequence[Mapping[str, int]]) -> list[str]:
    """The words that tell most about a corpus: often used, and not in every file alike (tf times idf over files)."""
    counts: Counter[str] = Counter()
    in_files: Counter[str] = Counter()
    for terms in by_file:
        counts.update(terms)
        in_files.update(terms.keys())
    files = len(by_file)
    weight = {word: n * log((files + 1) / in_files[word]) for word, n in counts.items()}
    return sorted(weight, key=lambda word: (-weight[word], word))[:TERMS_PER_CORPUS]
