"""Flushes: the steps by which an agent lets go of its window, each recorded before the next begins.

    held ──▶ rewritten ──▶ archived ──▶ done

`held`: new input waits. `rewritten`: the new notebook is drafted. `archived`: every turn of the window is a packet.
`done`: notebook and window changed in one transaction. Knows rows and their order; does not know who drafts a notebook
(`agents.pressure`) nor how an opening becomes token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from memory.packets import Kind, Packet, Packets
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database
    from memory.notebook import Notebook
    from memory.window import Opening, Role, Windows, WindowTurn

Cause = Literal["pressure", "person"]
State = Literal["held", "rewritten", "archived", "done"]

_KIND: dict[Role, Kind] = {"user": "said", "assistant": "answer", "tool": "result"}


@dataclass(frozen=True)
class Flush:
    """One flush as its row says. `turns` and `tokens` are those of the window as it was found."""

    number: int
    id: UUID
    agent: str
    cause: Cause
    state: State
    base_version: int
    """The notebook that is rewritten."""
    turns: int
    tokens: int
    kept: tuple[UUID, ...]
    """Turns that stay in the window."""
    draft: str
    author: str
    why: str
    """Why the Director did not write the new notebook; "" where it did."""
    version: int | None
    """The notebook that came of it."""
    created: datetime
    ended: datetime | None


@dataclass(frozen=True)
class Said:
    """One turn of the window as its packet remembers it, which is without what was told around it."""

    kind: Kind
    prose: str
    resonance: float


class Flushes:
    """All flushes, in Postgres. At most one of an agent is unfinished."""

    _COLUMNS = """number, id, agent, cause, state, base_version, turns, tokens, kept, draft, author, why, version,
                  created, ended"""
    UNFINISHED = f"SELECT {_COLUMNS} FROM flushes WHERE agent = $1 AND state <> 'done'"
    LAST = f"SELECT {_COLUMNS} FROM flushes WHERE agent = $1 ORDER BY number DESC LIMIT 1"
    BEGIN = """INSERT INTO flushes (id, agent, cause, base_version, turns, tokens, kept)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"""
    DRAFT = """UPDATE flushes SET state = 'rewritten', base_version = $2, draft = $3, author = $4, why = $5
               WHERE id = $1 AND state <> 'done'"""
    ARCHIVED = "UPDATE flushes SET state = 'archived' WHERE id = $1 AND state <> 'done'"
    HOLD = "UPDATE flushes SET state = 'held', draft = '' WHERE id = $1 AND state <> 'done'"
    STATE = "SELECT state FROM flushes WHERE id = $1 FOR UPDATE"
    # The draft is a notebook version by then; here it would outlive what a person has forgotten.
    DONE = "UPDATE flushes SET state = 'done', version = $2, draft = '', ended = now() WHERE id = $1"
    SAID = """SELECT p.kind, p.prose, p.resonance
              FROM window_turns w JOIN traces t ON t.id = w.packet
              JOIN packets p ON p.corpus_id = t.corpus_id AND p.id = t.id
              WHERE w.agent = $1 ORDER BY w.sequence"""
    LOOSE = """SELECT w.sequence, w.role, w.name, w.content, w.packet
               FROM window_turns w LEFT JOIN traces t ON t.id = w.packet
               WHERE w.agent = $1 AND t.id IS NULL ORDER BY w.sequence"""

    def __init__(self, database: Database, notebook: Notebook, windows: Windows, packets: Packets) -> None:
        self._database = database
        self._notebook = notebook
        self._windows = windows
        self._packets = packets

    async def unfinished(self, agent: str) -> Flush | None:
        """The flush that was begun and not ended."""
        row = await self._database.fetchrow(self.UNFINISHED, agent)
        return None if row is None else _flush(row)

    async def last(self, agent: str) -> Flush | None:
        """The latest flush, finished or not."""
        row = await self._database.fetchrow(self.LAST, agent)
        return None if row is None else _flush(row)

    async def begin(
        self, agent: str, cause: Cause, base_version: int, turns: int, tokens: int, kept: Sequence[UUID]
    ) -> Flush:
        """Records that the window is held; where a flush is unfinished, that one."""
        await self._database.execute(self.BEGIN, uuid7(), agent, cause, base_version, turns, tokens, list(kept))
        found = await self.unfinished(agent)
        assert found is not None
        return found

    async def said(self, agent: str) -> list[Said]:
        """What the turns of the window were about, in order."""
        return [Said(**dict(row)) for row in await self._database.fetch(self.SAID, agent)]

    async def drafted(self, flush: Flush, base_version: int, draft: str, author: str, why: str) -> Flush:
        """Records the new notebook, of which nobody sees anything yet."""
        await self._database.execute(self.DRAFT, flush.id, base_version, draft, author, why)
        return await self._again(flush)

    async def hold(self, flush: Flush) -> Flush:
        """Back to the first step: the draft is of no use any more."""
        await self._database.execute(self.HOLD, flush.id)
        return await self._again(flush)

    async def archive(self, flush: Flush) -> int:
        """Makes sure that every turn of the window is a packet; how many were not."""

        async def work(connection: asyncpg.Connection) -> int:
            rows = await connection.fetch(self.LOOSE, flush.agent)
            await self._packets.add(connection, [_packet(flush.agent, row) for row in rows])
            await connection.execute(self.ARCHIVED, flush.id)
            return len(rows)

        written = await self._database.run(work)
        self._packets.committed()
        return written

    async def finish(self, flush: Flush, opening: Opening, kept: Sequence[WindowTurn], tokens: int) -> bool:
        """Notebook, window and record in one transaction; False when the notebook is no longer the one rewritten.

        `opening` holds the draft as the version that it is going to be; `tokens` are the draft's.
        """
        reason = f"the window was let go ({flush.cause}, {flush.turns} turns)" + (f": {flush.why}" if flush.why else "")
        event = Packet(
            id=uuid7(),
            time=datetime.now(UTC),
            agent=flush.agent,
            session="",
            sequence=flush.number,
            kind="event",
            prose=f"The notebook was rewritten and {reason}.",
            origin="soul",
            metadata={"flush": str(flush.id), "turns": flush.turns, "tokens": flush.tokens, "by": flush.author},
        )

        async def work(connection: asyncpg.Connection) -> bool:
            if await connection.fetchval(self.STATE, flush.id) == "done":
                return True  # repeated after the connection was lost behind the commit
            version = await self._notebook.put(
                connection, flush.id, flush.base_version, flush.draft, tokens, reason, flush.author
            )
            if version is None:
                return False
            assert version == opening.notebook_version
            await self._windows.replace(connection, flush.agent, opening, kept)
            await connection.execute(self.DONE, flush.id, version)
            await self._packets.add(connection, [event])
            return True

        return await self._database.run(work)

    async def _again(self, flush: Flush) -> Flush:
        found = await self.unfinished(flush.agent)
        assert found is not None and found.id == flush.id
        return found


def _packet(agent: str, row: asyncpg.Record) -> Packet:
    return Packet(
        id=row["packet"],
        time=datetime.now(UTC),
        agent=agent,
        session="",
        sequence=row["sequence"],
        kind=_KIND[row["role"]],
        prose=row["content"] or "(nothing)",
        origin=f"tool:{row['name']}" if row["name"] else "window",
    )


def _flush(row: asyncpg.Record) -> Flush:
    values = dict(row)
    values["kept"] = tuple(values["kept"])
    return Flush(**values)
