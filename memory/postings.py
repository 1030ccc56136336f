"""The derived rows of packets: traces, postings, extents, and the queue of owed vectors.

Knows how a packet's words become rows that BM25 can add up, how they are taken back, and how small rows are merged.
Does not know how they are ranked (`memory.ranking`) nor what a packet means. Every function runs in the caller's
transaction, so that a packet and its rows are there together or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from memory.lexemes import Counts

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

LIVED = 0
"""The corpus id of lived memory."""
TRAFFIC = 1
"""The corpus id of calls, results and events: remembered, and searched when asked for."""
PRIVATE = 2
"""The corpus id of what must not leave the house: searched for private work, and when a person asks for it."""
FIRST_CORPUS = 16

ENTRIES_PER_ROW = 224
"""Entries of one postings row: as many as stay below the size at which Postgres compresses a row (2 kB)."""


@dataclass(frozen=True)
class Trace:
    """What is derived from one packet that was just written."""

    no: int
    id: UUID
    kind: str
    time: datetime
    resonance: float
    session: str
    sequence: int
    counts: Counts


async def add(connection: asyncpg.Connection, corpus_id: int, traces: Sequence[Trace]) -> None:
    """Writes the derived rows of new packets of one corpus and queues their vectors."""
    if not traces:
        return
    await connection.copy_records_to_table(
        "traces",
        columns=[
            *("no", "corpus_id", "id", "kind", "time", "resonance", "session", "sequence"),
            *("length", "lexemes", "counts"),
        ],
        records=[
            (
                *(t.no, corpus_id, t.id, t.kind, t.time, t.resonance, t.session, t.sequence),
                *(t.counts.length, *_sorted(t.counts)),
            )
            for t in traces
        ],
    )
    await connection.copy_records_to_table(
        "postings", columns=["lexeme", "corpus_id", "n", "entries"], records=_postings(corpus_id, traces)
    )
    await connection.copy_records_to_table(
        "extents", records=[(corpus_id, len(traces), sum(t.counts.length for t in traces))]
    )
    await connection.copy_records_to_table("owed", records=[(t.no, corpus_id, t.id) for t in traces])


REMOVE = """
WITH gone AS (DELETE FROM traces WHERE no = ANY($2::int[]) RETURNING length),
     far AS (DELETE FROM nearness WHERE no = ANY($2::int[])),
     paid AS (DELETE FROM owed WHERE no = ANY($2::int[]))
INSERT INTO extents (corpus_id, packets, words) SELECT $1, -count(*), -sum(length) FROM gone HAVING count(*) > 0
"""


async def remove(connection: asyncpg.Connection, corpus_id: int, numbers: Sequence[int]) -> None:
    """Takes the derived rows of packets back. Their postings stay until `compact`, and are found by nobody."""
    await connection.execute(REMOVE, corpus_id, numbers)


# What `compact` would do in time, at once and for the words of these packets alone.
PURGE = """
WITH words AS (SELECT DISTINCT unnest(lexemes) AS lexeme FROM traces WHERE no = ANY($2::int[])),
loose AS (
    DELETE FROM postings p USING words WHERE p.corpus_id = $1 AND p.lexeme = words.lexeme
        AND EXISTS (SELECT FROM unnest(p.entries) e WHERE (e >> 32)::int = ANY($2::int[]))
    RETURNING p.lexeme, p.entries
), kept AS (
    SELECT lexeme, ARRAY(SELECT e FROM unnest(entries) e WHERE (e >> 32)::int <> ALL($2::int[]) ORDER BY e) AS stay
    FROM loose
)
INSERT INTO postings (lexeme, corpus_id, n, entries)
SELECT lexeme, $1, cardinality(stay), stay FROM kept WHERE stay <> '{}'
"""


async def purge(connection: asyncpg.Connection, corpus_id: int, numbers: Sequence[int]) -> None:
    """Takes every derived row of packets back, their postings too: what was forgotten leaves no word behind."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('soul postings'), $1)", corpus_id)
    await connection.execute(PURGE, corpus_id, numbers)
    await remove(connection, corpus_id, numbers)


REMOVE_CORPUS = """
WITH a AS (DELETE FROM traces WHERE corpus_id = $1),
     b AS (DELETE FROM nearness WHERE corpus_id = $1),
     c AS (DELETE FROM postings WHERE corpus_id = $1),
     d AS (DELETE FROM owed WHERE corpus_id = $1)
DELETE FROM extents WHERE corpus_id = $1
"""


async def remove_corpus(connection: asyncpg.Connection, corpus_id: int) -> None:
    """Takes back every derived row of a corpus."""
    await connection.execute(REMOVE_CORPUS, corpus_id)


# A lexeme is crowded when its rows are more than twice as many as would hold its entries. `removed` says that packets
# went since the last time: then every lexeme is looked at, since any may hold entries of packets that are gone.
COMPACT = f"""
WITH crowded AS (
    SELECT lexeme FROM postings WHERE corpus_id = $1 GROUP BY lexeme
    HAVING $2 OR count(*) > 2 * ceil(sum(n) / {ENTRIES_PER_ROW}.0)
), loose AS (
    DELETE FROM postings p USING crowded c WHERE p.corpus_id = $1 AND p.lexeme = c.lexeme RETURNING p.lexeme, p.entries
), kept AS (
    SELECT l.lexeme, e, (row_number() OVER (PARTITION BY l.lexeme ORDER BY e) - 1) / {ENTRIES_PER_ROW} AS piece
    FROM loose l, unnest(l.entries) e
    WHERE NOT $2 OR EXISTS (SELECT FROM traces t WHERE t.no = (e >> 32)::int)
)
INSERT INTO postings (lexeme, corpus_id, n, entries)
SELECT lexeme, $1, count(*), array_agg(e ORDER BY e) FROM kept GROUP BY lexeme, piece
"""
COMPACT_EXTENTS = """
WITH loose AS (DELETE FROM extents WHERE corpus_id = $1 RETURNING packets, words)
INSERT INTO extents (corpus_id, packets, words) SELECT $1, sum(packets), sum(words) FROM loose HAVING count(*) > 0
"""
REMOVED = "SELECT EXISTS (SELECT FROM extents WHERE corpus_id = $1 AND packets < 0)"
REMOVED_SHARE = """
SELECT coalesce(-sum(packets) FILTER (WHERE packets < 0), 0)::float8 / greatest(sum(packets), 1)
FROM extents WHERE corpus_id = $1
"""
SCATTERED = "SELECT corpus_id FROM extents GROUP BY corpus_id HAVING count(*) >= $1"


async def scattered(database: Database, writes: int) -> list[int]:
    """The corpora that were written to at least `writes` times since they were last compacted."""
    return [row["corpus_id"] for row in await database.fetch(SCATTERED, writes)]


async def removed_share(connection: asyncpg.Connection, corpus_id: int) -> float:
    """Packets removed since the last compaction, per packet that is there: how far word counts may be off."""
    return float(await connection.fetchval(REMOVED_SHARE, corpus_id) or 0.0)


async def compact(connection: asyncpg.Connection, corpus_id: int) -> None:
    """Merges the small rows of a corpus and drops entries whose packet is gone. Readers see before or after."""
    # Two compactions of one corpus would each delete what the other read, and write it twice.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('soul postings'), $1)", corpus_id)
    removed = await connection.fetchval(REMOVED, corpus_id)
    await connection.execute(COMPACT, corpus_id, removed)
    await connection.execute(COMPACT_EXTENTS, corpus_id)


def _sorted(counts: Counts) -> tuple[list[int], list[int]]:
    lexemes = sorted(counts.by_lexeme)
    return lexemes, [counts.by_lexeme[lexeme] for lexeme in lexemes]


def _postings(corpus_id: int, traces: Sequence[Trace]) -> Iterable[tuple[int, int, int, list[int]]]:
    by_lexeme: defaultdict[int, list[int]] = defaultdict(list)
    for trace in traces:
        for lexeme, frequency in trace.counts.by_lexeme.items():
            by_lexeme[lexeme].append(trace.no << 32 | frequency << 16 | trace.counts.length)
    for lexeme, entries in by_lexeme.items():
        for start in range(0, len(entries), ENTRIES_PER_ROW):
            piece = entries[start : start + ENTRIES_PER_ROW]
            yield lexeme, corpus_id, len(piece), piece
