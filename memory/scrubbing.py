"""Taking the old bytes of what was forgotten off the disk: a deleted row keeps its place until somebody needs it.

Knows which tables hold words and how Postgres lets go of their old pages and of its log. What a file system or a flash
disk keeps of a file that was removed is beyond it, and so are backups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from memory.postings import LIVED, PRIVATE, TRAFFIC

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

log = structlog.get_logger()

WITH_WORDS = (
    *("window_turns", "windows", "flushes", "jobs", "orders", "order_attempts"),
    *("plans", "plan_steps", "step_attempts", "checks"),
)
"""Beside the packets; traces and postings hold hashes of words, nearness holds vectors."""

# Writes the rows that live into a new file and removes the old one. VACUUM FULL does the same, but in no transaction,
# where it could be told to take its time.
REWRITE = "CLUSTER {table} USING {table}_pkey"
THERE = "SELECT to_regclass('packets_' || $1::text) IS NOT NULL"
# Samples of a column from before it was told to keep none.
SAMPLES = """
DELETE FROM pg_statistic s USING pg_attribute a
WHERE a.attrelid = s.starelid AND a.attnum = s.staattnum AND a.attstattarget = 0
"""


async def scrub(database: Database, corpora: Sequence[int] = ()) -> bool:
    """Writes every table that holds words anew, those of lived memory and of `corpora` (ids), and drops the old log.

    Others wait for the table that is being written. Says whether the log went too: another's server keeps its own.

    Raises:
        SoulError: the database is away, or the disk has no room for a second copy of the largest table.
    """
    tables = [*WITH_WORDS]
    for corpus in sorted({LIVED, PRIVATE, TRAFFIC, *corpora}):
        if await database.fetchval(THERE, str(corpus)):
            tables.append(f"packets_{corpus}")
    for table in tables:

        async def work(connection: asyncpg.Connection, table: str = table) -> None:
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute(REWRITE.format(table=table))

        await database.run(work)
        log.info("written anew", table=table)
    if database.status().kind != "embedded":
        return False
    await database.execute(SAMPLES)
    await database.execute("VACUUM FULL pg_statistic")
    # The log up to here is needed no more after a checkpoint, and is removed, since it is not kept for reuse.
    await database.execute("SELECT pg_switch_wal()")
    await database.execute("CHECKPOINT")
    return True
