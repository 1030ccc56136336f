"""Work orders to the Hands, their attempts and reviews: rows that survive a restart, one final state each.

Knows the states and who may change them; does not judge (`agents.director` does, or a person).

    open ──report──▶ reported ──accept──▶ accepted
                        │ ▲   ──reject──▶ rejected
                  revise▼ │report
                       revise

Where Soul starts the Hands itself, an order is `running` (from open or revise) until it is reported or has `failed`
(`agents.runs`); before that, a critic may have it `rejected`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from engine.errors import Conflict, NotFound
from memory import resonance
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

OrderState = Literal["open", "running", "reported", "revise", "accepted", "rejected", "failed"]
ReviewVerdict = Literal["accept", "revise", "reject"]

AFTER: dict[ReviewVerdict, OrderState] = {"accept": "accepted", "revise": "revise", "reject": "rejected"}
CLOSED = ("accepted", "rejected", "failed")
ROUNDS = 3
MINUTES = 30
CLIENT = "hands"
"""Who carries an order out where nobody else is named: the client that asked."""


@dataclass(frozen=True)
class Order:
    """One work order. `embedding_state` holds the intent's vector, the embedder's id and the nearest memories.

    `agent` carries it out; `why` says why it was closed without a verdict.
    """

    id: UUID
    task: str
    constraints: tuple[str, ...]
    context: str
    acceptance: tuple[str, ...]
    embedding_state: dict[str, Any]
    budget: dict[str, Any]
    state: OrderState
    client: str
    session: str
    created: datetime
    agent: str
    why: str


@dataclass(frozen=True)
class Attempt:
    """One report on an order, and its review once there is one."""

    work_order: UUID
    number: int
    outcome: str
    artifacts: tuple[str, ...]
    reporter: str
    reported: datetime
    verdict: ReviewVerdict | None
    why: str
    decided_by: str


class Orders:
    """All work orders, in Postgres."""

    ADD = """INSERT INTO orders
             (id, task, constraints, context, acceptance, embedding_state, budget, client, session, agent)
             VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9, $10)
             ON CONFLICT (id) DO NOTHING"""
    COLUMNS = """id, task, constraints, context, acceptance, embedding_state::text AS embedding_state,
                 budget::text AS budget, state, client, session, created, agent, why"""
    UNCLOSED = "state IN ('open', 'running', 'reported', 'revise')"
    GET = f"SELECT {COLUMNS} FROM orders WHERE id = $1"
    UNFINISHED = f"SELECT {COLUMNS} FROM orders WHERE {UNCLOSED} ORDER BY created"
    RECENT = f"SELECT {COLUMNS} FROM orders ORDER BY created DESC LIMIT $1"
    LOCKED = "SELECT state, agent, budget::text AS budget FROM orders WHERE id = $1 FOR UPDATE"
    STATE = "UPDATE orders SET state = $2 WHERE id = $1"
    REFUSE = "UPDATE orders SET state = 'rejected', why = $2 WHERE id = $1 AND state = 'open'"
    ATTEMPTS = """SELECT work_order, number, outcome, artifacts, reporter, reported, verdict, why, decided_by
                  FROM order_attempts WHERE work_order = $1 ORDER BY number"""
    REPORT = """INSERT INTO order_attempts (work_order, number, outcome, artifacts, reporter)
                VALUES ($1, $2, $3, $4, $5)"""
    DECIDE = """UPDATE order_attempts SET verdict = $3, why = $4, decided_by = $5, decided = now()
                WHERE work_order = $1 AND number = $2"""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.changed: Callable[[], None] = lambda: None
        """Called when an order may have come to its end."""

    async def add(
        self,
        task: str,
        constraints: Sequence[str],
        context: str,
        acceptance: Sequence[str],
        embedding_state: dict[str, Any],
        client: str,
        session: str,
        agent: str = CLIENT,
        budget: dict[str, Any] | None = None,
        id: UUID | None = None,
    ) -> Order:
        """Records a new open order for `agent`. `budget` has `minutes` and `rounds`; one of that `id` stays."""
        id = id or uuid7()
        await self._database.execute(
            self.ADD,
            id,
            task,
            list(constraints),
            context,
            list(acceptance),
            json.dumps(embedding_state),
            json.dumps(budget or {"minutes": MINUTES, "rounds": ROUNDS}),
            client,
            session,
            agent,
        )
        return await self.get(id)

    async def get(self, id: UUID) -> Order:
        """One order; NotFound when there is none of that id."""
        row = await self._database.fetchrow(self.GET, id)
        if row is None:
            raise NotFound(f"There is no work order {id}.", "`status` lists the unfinished ones.")
        return _order(row)

    async def unfinished(self) -> list[Order]:
        """Orders that are not closed, oldest first."""
        return [_order(row) for row in await self._database.fetch(self.UNFINISHED)]

    async def recent(self, limit: int = 20) -> list[Order]:
        """The latest orders, newest first."""
        return [_order(row) for row in await self._database.fetch(self.RECENT, limit)]

    async def attempts(self, id: UUID) -> list[Attempt]:
        """All reports on one order, in order."""
        rows = await self._database.fetch(self.ATTEMPTS, id)
        return [_attempt(row) for row in rows]

    async def refuse(self, id: UUID, why: str) -> Order:
        """Closes an order that was not begun, because of what a critic found."""
        await self._database.execute(self.REFUSE, id, why)
        self.changed()
        return await self.get(id)

    async def report(self, id: UUID, outcome: str, artifacts: Sequence[str], reporter: str) -> Attempt:
        """Records an outcome. The same outcome again, while no review has come, is the same attempt.

        Raises:
            NotFound: no such order.
            Conflict: the order is closed, or another outcome is waiting for its review.
        """

        async def work(connection: asyncpg.Connection) -> int:
            row = await connection.fetchrow(self.LOCKED, id)
            if row is None:
                raise NotFound(f"There is no work order {id}.", "`status` lists the unfinished ones.")
            attempts = await connection.fetch(self.ATTEMPTS, id)
            if row["state"] in CLOSED:
                raise Conflict(f"Work order {id} is closed: {row['state']}.", "Ask for a new order if more is to do.")
            if row["agent"] != CLIENT:
                raise Conflict(f"Work order {id} is carried out by {row['agent']}.", "Leave the report to it.")
            if row["state"] == "reported":
                if attempts[-1]["outcome"] == outcome:
                    return attempts[-1]["number"]
                raise Conflict(
                    f"Attempt {attempts[-1]['number']} on work order {id} is waiting for its review.",
                    "Wait for the verdict, or report that same outcome again to ask for it.",
                )
            return await self.add_attempt(connection, id, outcome, artifacts, reporter)

        number = await self._database.run(work)
        return (await self.attempts(id))[number - 1]

    async def add_attempt(
        self, connection: asyncpg.Connection, id: UUID, outcome: str, artifacts: Sequence[str], reporter: str
    ) -> int:
        """Writes the next attempt and makes the order `reported`, in the caller's transaction; its number."""
        number = len(await connection.fetch(self.ATTEMPTS, id)) + 1
        await connection.execute(self.REPORT, id, number, outcome, list(artifacts), reporter)
        await connection.execute(self.STATE, id, "reported")
        return number

    async def decide(self, id: UUID, verdict: ReviewVerdict, why: str, by: str) -> tuple[Order, Attempt]:
        """Gives the waiting attempt its verdict. A revision beyond the order's rounds closes it as rejected.

        Raises:
            NotFound: no such order.
            Conflict: no attempt is waiting for a verdict.
        """

        async def work(connection: asyncpg.Connection) -> None:
            row = await connection.fetchrow(self.LOCKED, id)
            if row is None:
                raise NotFound(f"There is no work order {id}.", "`status` lists the unfinished ones.")
            attempts = await connection.fetch(self.ATTEMPTS, id)
            if attempts and (attempts[-1]["verdict"], attempts[-1]["decided_by"]) == (verdict, by):
                return  # repeated after a lost connection, or by a person who was not sure
            if row["state"] != "reported":
                raise Conflict(
                    f"Work order {id} is {row['state']}: no outcome is waiting for a verdict.",
                    "Report an outcome first (`report_outcome`)." if row["state"] in ("open", "revise") else "",
                )
            number = attempts[-1]["number"]
            state = AFTER[verdict]
            reason = why
            if verdict == "revise" and number >= json.loads(row["budget"])["rounds"]:
                state, reason = "rejected", f"{why} (round {number} was the last of this order)".strip()
            await connection.execute(self.DECIDE, id, number, verdict, reason, by)
            await connection.execute(self.STATE, id, state)
            await resonance.judged(connection, id, verdict, by)

        await self._database.run(work)
        self.changed()
        return await self.get(id), (await self.attempts(id))[-1]


def _attempt(row: asyncpg.Record) -> Attempt:
    values: dict[str, Any] = dict(row)
    values["artifacts"] = tuple(values["artifacts"])
    return Attempt(**values)


def _order(row: asyncpg.Record) -> Order:
    values: dict[str, Any] = dict(row)
    for name in ("constraints", "acceptance"):
        values[name] = tuple(values[name])
    for name in ("embedding_state", "budget"):
        values[name] = json.loads(values[name])
    return Order(**values)
