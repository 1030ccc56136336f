"""Runs of the Hands on work orders: one row each, written before a process starts, settled when its daemon is gone.

Knows rows and states; starts nothing (`agents.dispatch` does). A report counts only while its own run does: what comes
late, or twice, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agents.orders import CLIENT, Attempt, Orders
from engine.errors import Conflict
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    import asyncpg

    from agents.hands.outcome import Outcome
    from memory.database import Database


@dataclass(frozen=True)
class Run:
    """One run. `pid_started` is in Unix seconds; `cause` says why it brought nothing back."""

    id: UUID
    work_order: UUID
    agent: str
    state: str
    cause: str
    session: str
    pid: int | None
    pid_started: float | None
    usd: float
    tokens: int


class Runs:
    """All runs, in Postgres."""

    COLUMNS = "id, work_order, agent, state, cause, session, pid, pid_started, usd, tokens"
    OF_ORDER = f"SELECT {COLUMNS} FROM hands_runs WHERE work_order = $1 ORDER BY started, id"
    RUNNING = f"SELECT {COLUMNS} FROM hands_runs WHERE state = 'running' ORDER BY started"
    TAKE = "UPDATE orders SET state = 'running' WHERE id = $1 AND state IN ('open', 'revise') RETURNING agent"
    ADD = "INSERT INTO hands_runs (id, work_order, agent) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING"
    PROCESS = "UPDATE hands_runs SET pid = $2, pid_started = $3 WHERE id = $1 AND state = 'running'"
    END = """UPDATE hands_runs SET state = $2, cause = $3, session = $4, usd = $5, tokens = $6, ended = now()
             WHERE id = $1 AND state = 'running' RETURNING work_order, agent"""
    ENDED = "SELECT work_order, state FROM hands_runs WHERE id = $1"
    CLOSE = "UPDATE orders SET state = $2, why = $3 WHERE id = $1 AND state = 'running'"
    LEFT = "SELECT id FROM orders WHERE agent <> $1 AND state IN ('open', 'revise') ORDER BY created"
    CLOSE_LEFT = "UPDATE orders SET state = 'failed', why = $2 WHERE id = $1 AND state IN ('open', 'revise')"

    def __init__(self, database: Database, orders: Orders) -> None:
        self._database = database
        self._orders = orders

    async def begin(self, order: UUID) -> UUID:
        """Takes the order for a new run; only one can have it.

        Raises:
            Conflict: somebody works on it, it waits for a verdict, or it is closed.
        """
        id = uuid7()

        async def work(connection: asyncpg.Connection) -> bool:
            agent = await connection.fetchval(self.TAKE, order)
            if agent is None:
                # After a lost connection this very run may be there already.
                return any(row["id"] == id for row in await connection.fetch(self.OF_ORDER, order))
            await connection.execute(self.ADD, id, order, agent)
            return True

        if not await self._database.run(work):
            state = (await self._orders.get(order)).state
            raise Conflict(f"Work order {order} cannot be begun: it is {state}.", "`soul order show` says more.")
        return id

    async def process(self, run: UUID, pid: int, started: float) -> None:
        """Notes the run's process, by which an orphan is found."""
        await self._database.execute(self.PROCESS, run, pid, started)

    async def report(self, run: UUID, outcome: Outcome) -> Attempt:
        """Ends the run with its outcome: the order's next attempt.

        Raises:
            Conflict: the run was settled before; its report counts no more.
        """

        async def work(connection: asyncpg.Connection) -> tuple[UUID, int] | None:
            row = await connection.fetchrow(self.END, run, "reported", "", outcome.session, outcome.usd, outcome.tokens)
            if row is None:
                return await self._reported(connection, run, outcome)
            id = row["work_order"]
            return id, await self._orders.add_attempt(connection, id, outcome.words, outcome.artifacts, row["agent"])

        found = await self._database.run(work)
        if found is None:
            raise Conflict(f"Run {run} has ended before; this report comes too late.", "Nothing was changed by it.")
        order, number = found
        return (await self._orders.attempts(order))[number - 1]

    async def _reported(self, connection: asyncpg.Connection, run: UUID, outcome: Outcome) -> tuple[UUID, int] | None:
        """The attempt that this very report made before: it was repeated, or its commit's answer was lost."""
        row = await connection.fetchrow(self.ENDED, run)
        if row is None or row["state"] != "reported":
            return None
        attempts = await connection.fetch(Orders.ATTEMPTS, row["work_order"])
        same = [one["number"] for one in attempts if one["outcome"] == outcome.words]
        return (row["work_order"], same[-1]) if same else None

    async def fail(self, run: UUID, state: str, cause: str, why: str, again: bool = False) -> bool:
        """Ends the run without an outcome and closes its order as failed, or opens it `again`; False if it had ended.

        Args:
            state: `failed`, or `lost` where its daemon died.
        """

        async def work(connection: asyncpg.Connection) -> bool:
            row = await connection.fetchrow(self.END, run, state, cause, "", 0.0, 0)
            if row is not None:
                closed = ("open", "") if again else ("failed", why)
                await connection.execute(self.CLOSE, row["work_order"], *closed)
            return row is not None

        ended = await self._database.run(work)
        self._orders.changed()
        return ended

    async def running(self) -> list[Run]:
        """All runs that have not ended, oldest first."""
        return [_run(row) for row in await self._database.fetch(self.RUNNING)]

    async def of_order(self, order: UUID) -> list[Run]:
        """The runs of one order, oldest first."""
        return [_run(row) for row in await self._database.fetch(self.OF_ORDER, order)]

    async def session(self, order: UUID) -> str:
        """The session that the latest reported run ended with; "" when there is none."""
        reported = [run for run in await self.of_order(order) if run.state == "reported"]
        return reported[-1].session if reported else ""

    async def unbegun(self) -> list[UUID]:
        """Orders for somebody else than the client that nobody works on and that wait for no verdict."""
        return [row["id"] for row in await self._database.fetch(self.LEFT, CLIENT)]

    async def close_unbegun(self, order: UUID, why: str) -> None:
        """Closes such an order as failed."""
        await self._database.execute(self.CLOSE_LEFT, order, why)
        self._orders.changed()


def _run(row: asyncpg.Record) -> Run:
    values: dict[str, Any] = dict(row)
    return Run(**values)
