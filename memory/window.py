"""The window: the transient part of an agent's context, kept as token ids so that it outlives the process.

Knows rows and their order; does not know how text becomes ids (`agents.context` renders) nor KV (`engine` computes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

Role = Literal["user", "assistant", "tool"]


@dataclass(frozen=True)
class WindowTurn:
    """One turn as the agent saw it: its words and the very ids that went through the model."""

    role: Role
    content: str
    ids: tuple[int, ...]
    packet: UUID
    """The packet that remembers it; also what makes a repeated write the same turn."""
    name: str = ""


@dataclass(frozen=True)
class Opening:
    """What stands before the window, as of the last flush: self, role, tools, notebook."""

    fingerprint: str
    """Of tokenizer and template, for which the ids hold."""
    text: str
    ids: tuple[int, ...]
    self_version: int
    notebook_version: int
    mounted: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """An agent's whole context: the opening and the turns since. `ids` of all parts in order are the truth."""

    opening: Opening
    turns: tuple[WindowTurn, ...]
    flushes: int

    @property
    def ids(self) -> list[int]:
        """All token ids, in order."""
        return [*self.opening.ids, *(token for turn in self.turns for token in turn.ids)]


@dataclass(frozen=True)
class WindowSize:
    """Tokens of the opening and of the turns since, and how many turns; `flushes` counts the openings before."""

    opening: int
    turns: int
    tokens: int
    flushes: int
    fingerprint: str


class Windows:
    """The windows of all agents, in Postgres."""

    GET = """SELECT fingerprint, opening_text, opening, self_version, notebook_version, mounted, flushes
             FROM windows WHERE agent = $1"""
    TURNS = "SELECT role, content, ids, name, packet FROM window_turns WHERE agent = $1 ORDER BY sequence"
    OPEN = """INSERT INTO windows (agent, fingerprint, opening, opening_text, self_version, notebook_version, mounted)
              VALUES ($1, $2, $3, $4, $5, $6, $7)
              ON CONFLICT (agent) DO UPDATE SET fingerprint = $2, opening = $3, opening_text = $4, self_version = $5,
                  notebook_version = $6, mounted = $7, flushes = windows.flushes + 1, opened = now()"""
    CLEAR = "DELETE FROM window_turns WHERE agent = $1"
    NEXT = "SELECT coalesce(max(sequence), 0) + 1 FROM window_turns WHERE agent = $1"
    ADD = """INSERT INTO window_turns (agent, sequence, role, name, content, ids, packet)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (packet) DO NOTHING"""
    NOTE = "UPDATE windows SET self_version = $2, notebook_version = $3, mounted = $4 WHERE agent = $1"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, agent: str) -> Window | None:
        """The stored window; None for an agent that has not spoken yet."""
        row = await self._database.fetchrow(self.GET, agent)
        if row is None:
            return None
        opening = Opening(
            row["fingerprint"],
            row["opening_text"],
            tuple(row["opening"]),
            row["self_version"],
            row["notebook_version"],
            tuple(row["mounted"]),
        )
        turns = tuple(
            WindowTurn(turn["role"], turn["content"], tuple(turn["ids"]), turn["packet"], turn["name"])
            for turn in await self._database.fetch(self.TURNS, agent)
        )
        return Window(opening, turns, row["flushes"])

    async def open(self, agent: str, opening: Opening, turns: Sequence[WindowTurn] = ()) -> None:
        """Puts a new opening in place and lets go of the turns, except those given."""
        await self._database.run(lambda connection: self.replace(connection, agent, opening, turns))

    async def replace(
        self, connection: asyncpg.Connection, agent: str, opening: Opening, turns: Sequence[WindowTurn]
    ) -> None:
        """What `open` does, inside the caller's transaction."""
        await connection.execute(
            self.OPEN,
            agent,
            opening.fingerprint,
            list(opening.ids),
            opening.text,
            opening.self_version,
            opening.notebook_version,
            list(opening.mounted),
        )
        await connection.execute(self.CLEAR, agent)
        await _add(connection, agent, 1, turns)

    SIZE = """SELECT cardinality(opening) AS opening, flushes, fingerprint,
                     (SELECT count(*) FROM window_turns t WHERE t.agent = w.agent) AS turns,
                     (SELECT coalesce(sum(cardinality(ids)), 0) FROM window_turns t WHERE t.agent = w.agent) AS tokens
              FROM windows w WHERE agent = $1"""

    async def size(self, agent: str) -> WindowSize | None:
        """How large the stored window is, without reading it; None for an agent that has not spoken yet."""
        row = await self._database.fetchrow(self.SIZE, agent)
        return None if row is None else WindowSize(**dict(row))

    async def append(
        self, connection: asyncpg.Connection, agent: str, turns: Sequence[WindowTurn], noted: Opening
    ) -> None:
        """Appends turns inside the caller's transaction, so that window and packets commit together.

        `noted` carries the versions and mounts that the agent has been told of by now.
        """
        await _add(connection, agent, await connection.fetchval(self.NEXT, agent) or 1, turns)
        await connection.execute(self.NOTE, agent, noted.self_version, noted.notebook_version, list(noted.mounted))


async def _add(connection: asyncpg.Connection, agent: str, first: int, turns: Sequence[WindowTurn]) -> None:
    await connection.executemany(
        Windows.ADD,
        [
            (agent, first + place, turn.role, turn.name, turn.content, list(turn.ids), turn.packet)
            for place, turn in enumerate(turns)
        ],
    )
