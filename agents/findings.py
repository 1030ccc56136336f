"""What the controller knows of each check: rows, so that a restart neither repeats a finding nor loses one.

Knows rows; looks at nothing (`agents.controller` does). A row is written in the transaction of the packet that tells
of it: lines of a log are passed over only when what they said is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agents.following import Mark

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database


@dataclass(frozen=True)
class Finding:
    """What the latest look at one check found; of a log, which one it was and how far it was read."""

    check: str
    wrong: bool
    words: str
    since: datetime
    """When it became so."""
    log: str = ""
    mark: Mark | None = None


class Findings:
    """The latest finding of each check, in Postgres."""

    ALL = "SELECT name, wrong, words, since, log, inode, position, head FROM checks ORDER BY name"
    KEEP = """INSERT INTO checks (name, wrong, words, since, log, inode, position, head)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
              ON CONFLICT (name) DO UPDATE SET wrong = $2, words = $3, since = $4, log = $5, inode = $6, position = $7,
                  head = $8"""
    DROP = "DELETE FROM checks WHERE name <> ALL($1::text[])"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> dict[str, Finding]:
        """All of them, by check."""
        return {row["name"]: _finding(row) for row in await self._database.fetch(self.ALL)}

    async def keep(self, connection: asyncpg.Connection, finding: Finding) -> None:
        """Puts it in the place of the one before, in the caller's transaction."""
        mark = finding.mark
        read = (mark.inode, mark.position, mark.head) if mark else (None, None, None)
        told = (finding.check, finding.wrong, finding.words, finding.since, finding.log)
        await connection.execute(self.KEEP, *told, *read)

    async def drop_others(self, checks: Sequence[str]) -> None:
        """Forgets the checks that are not named."""
        await self._database.execute(self.DROP, list(checks))


def _finding(row: asyncpg.Record) -> Finding:
    mark = Mark(row["inode"], row["position"], row["head"]) if row["inode"] is not None else None
    return Finding(row["name"], row["wrong"], row["words"], row["since"], row["log"], mark)
