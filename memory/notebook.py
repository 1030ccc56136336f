"""The notebook: about 2k tokens the Soul rewrites as it goes, every version kept.

Knows versions and the budget; the count of tokens is handed in, since only the engine knows the Director's tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.errors import Conflict, InvalidInput, NotFound, OverBudget
from memory.sizes import Sizes
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from memory.database import Database

EMPTY_SINCE = datetime.fromtimestamp(0, UTC)

Change = Callable[[str], str]


@dataclass(frozen=True)
class NotebookVersion:
    """One version of the notebook. Version 0 is the empty notebook before anything was written."""

    version: int
    content: str
    tokens: int
    reason: str
    author: str
    created: datetime


def replace(content: str) -> Change:
    """The whole notebook becomes `content`."""
    return lambda _old: content


def append(passage: str) -> Change:
    """`passage` becomes the last lines."""
    return lambda old: f"{old.rstrip()}\n{passage}" if old.strip() else passage


def edit(old_passage: str, new_passage: str) -> Change:
    """The one place where `old_passage` stands becomes `new_passage`; Conflict when it stands nowhere or twice."""

    def change(old: str) -> str:
        count = old.count(old_passage)
        if count != 1:
            raise Conflict(
                f"The passage to replace stands {'nowhere' if count == 0 else f'{count} times'} in the notebook.",
                "Read soul://notebook and give a passage that stands there exactly once.",
            )
        return old.replace(old_passage, new_passage)

    return change


class Notebook:
    """All versions of the notebook, in Postgres."""

    LOCK = "SELECT pg_advisory_xact_lock(hashtext('soul.notebook'))"
    CURRENT = "SELECT version, content, tokens, reason, author, created FROM notebooks ORDER BY version DESC LIMIT 1"
    VERSION = "SELECT version, content, tokens, reason, author, created FROM notebooks WHERE version = $1"
    HISTORY = "SELECT version, content, tokens, reason, author, created FROM notebooks ORDER BY version DESC LIMIT $1"
    ADD = "INSERT INTO notebooks (version, id, content, tokens, reason, author) VALUES ($1, $2, $3, $4, $5, $6)"
    WRITTEN = "SELECT version FROM notebooks WHERE id = $1"

    def __init__(self, database: Database, budget: int = Sizes.notebook_tokens) -> None:
        """`budget` is in the Director's tokens."""
        self._database = database
        self.budget = budget

    async def current(self) -> NotebookVersion:
        """The notebook as it stands; version 0 and empty before the first write."""
        return _version(await self._database.fetchrow(self.CURRENT))

    async def get(self, version: int) -> NotebookVersion:
        """One version; NotFound when there is none of that number."""
        row = await self._database.fetchrow(self.VERSION, version)
        if row is None:
            raise NotFound(f"There is no notebook version {version}.", "`soul notebook history` lists them.")
        return _version(row)

    async def history(self, limit: int = 50) -> list[NotebookVersion]:
        """Versions, newest first."""
        return [_version(row) for row in await self._database.fetch(self.HISTORY, limit)]

    async def write(
        self, change: Change, reason: str, author: str, count: Callable[[str], int]
    ) -> tuple[NotebookVersion, NotebookVersion]:
        """Applies one change to the current text; (before, after).

        Raises:
            OverBudget: the result has more tokens than its budget; nothing is written.
            Conflict: the passage to edit is not there exactly once.
            InvalidInput: the change changes nothing.
        """

        id = uuid7()

        async def work(connection: asyncpg.Connection) -> tuple[NotebookVersion, NotebookVersion]:
            await connection.execute(self.LOCK)
            before = _version(await connection.fetchrow(self.CURRENT))
            if await connection.fetchval(self.WRITTEN, id) == before.version and before.version:
                return _version(await connection.fetchrow(self.VERSION, before.version - 1)), before
            content = change(before.content).strip("\n")
            if content == before.content:
                raise InvalidInput("This write changes nothing in the notebook.", "Give a text that differs.")
            tokens = count(content)
            if tokens > self.budget:
                raise OverBudget(
                    f"The notebook would have {tokens:,} tokens; its budget is {self.budget:,}.",
                    f"Shorten it by at least {tokens - self.budget:,} tokens: keep decisions, names, numbers and "
                    "preferences; what is dropped stays in memory and can be recalled.",
                )
            await connection.execute(self.ADD, before.version + 1, id, content, tokens, reason, author)
            after = _version(await connection.fetchrow(self.CURRENT))
            return before, after

        return await self._database.run(work)

    async def put(
        self, connection: asyncpg.Connection, id: UUID, base: int, content: str, tokens: int, reason: str, author: str
    ) -> int | None:
        """Writes the version after `base` in the caller's transaction; its number, or None when `base` is stale.

        A content equal to the current one makes no version: the number is then that of `base`.
        """
        await connection.execute(self.LOCK)
        now = _version(await connection.fetchrow(self.CURRENT))
        if now.version != base:
            return None
        if content == now.content:
            return base
        await connection.execute(self.ADD, base + 1, id, content, tokens, reason, author)
        return base + 1


def _version(row: asyncpg.Record | None) -> NotebookVersion:
    if row is None:
        return NotebookVersion(0, "", 0, "nothing written yet", "soul", EMPTY_SINCE)
    return NotebookVersion(**dict(row))
