"""Plans, their steps and the attempts at home: rows that survive a restart; each step ends in one state.

Knows the states and which follows which; carries nothing out (`agents.planner` does) and decides nothing.

    plan:  proposed ──approve──▶ running ──▶ done | failed | cancelled      failed ──go──▶ running
    step:  waiting ──▶ running ──▶ reported ──▶ done | failed               at home; a reported one waits for a person
           waiting ──▶ out ──▶ done | failed                                with the Hands, as their work order ends
           running, reported ──escalate──▶ waiting                          from home to the Hands
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from agents.rules import Decision, Place
from engine.errors import Conflict, NotFound
from memory.uuid7 import uuid7

if TYPE_CHECKING:
    import asyncpg

    from agents.planning import Draft, StepRole
    from memory.database import Database

PlanState = Literal["proposed", "running", "done", "failed", "cancelled"]
StepState = Literal["waiting", "running", "reported", "out", "done", "failed", "cancelled"]
UNDER_WAY = ("running", "reported", "out")
TRIES = 3
"""How often a step at home is begun whose daemon dies in the middle of it: it may be the step that kills it."""


@dataclass(frozen=True)
class Plan:
    """One plan. `author` is who drew it: a model by name, or a person; `trained` is False for an untrained model."""

    id: UUID
    goal: str
    constraints: tuple[str, ...]
    context: str
    client: str
    session: str
    author: str
    trained: bool
    state: PlanState
    why: str
    created: datetime


@dataclass(frozen=True)
class Step:
    """One step. `rule` says why it is done where it is; `after` are numbers of steps whose outcomes it gets."""

    plan: UUID
    number: int
    role: StepRole
    task: str
    acceptance: str
    needs: tuple[str, ...]
    after: tuple[int, ...]
    place: Place
    rule: str
    private: bool
    state: StepState
    work_order: UUID | None
    outcome: str
    why: str


class Plans:
    """All plans, in Postgres."""

    PLAN = "id, goal, constraints, context, client, session, author, trained, state, why, created"
    STEP = """plan, number, role, task, acceptance, needs, after, place, rule, private, state, work_order, outcome,
              why"""
    ADD = """INSERT INTO plans (id, goal, constraints, context, client, session, author, trained, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'proposed') ON CONFLICT (id) DO NOTHING"""
    ADD_STEP = """INSERT INTO plan_steps (plan, number, role, task, acceptance, needs, after, place, rule, private)
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (plan, number) DO NOTHING"""
    GET = f"SELECT {PLAN} FROM plans WHERE id = $1"
    LOCKED = "SELECT state FROM plans WHERE id = $1 FOR UPDATE"
    RECENT = f"SELECT {PLAN} FROM plans ORDER BY created DESC LIMIT $1"
    UNFINISHED = f"SELECT {PLAN} FROM plans WHERE state IN ('proposed', 'running') ORDER BY created"
    STEPS = f"SELECT {STEP} FROM plan_steps WHERE plan = $1 ORDER BY number"
    STATE = """UPDATE plans SET state = $2, why = $3,
               ended = CASE WHEN $2 IN ('proposed', 'running') THEN NULL ELSE now() END WHERE id = $1"""
    CLEAR = "DELETE FROM plan_steps WHERE plan = $1"
    AUTHOR = "UPDATE plans SET author = $2, trained = true WHERE id = $1"
    OF_ORDER = "SELECT plan FROM plan_steps WHERE work_order = $1"

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- plans

    async def add(
        self,
        goal: str,
        constraints: Sequence[str],
        context: str,
        client: str,
        session: str,
        author: str,
        trained: bool,
        drafts: Sequence[Draft],
        decisions: Sequence[Decision],
    ) -> Plan:
        """Records a proposed plan with its steps, numbered from 1."""
        id = uuid7()

        async def work(connection: asyncpg.Connection) -> None:
            values = (goal, list(constraints), context, client, session, author, trained)
            await connection.execute(self.ADD, id, *values)
            await self._add_steps(connection, id, drafts, decisions)

        await self._database.run(work)
        return await self.get(id)

    async def redraw(self, id: UUID, drafts: Sequence[Draft], decisions: Sequence[Decision]) -> Plan:
        """Puts a person's steps in the place of those that were proposed.

        Raises:
            NotFound: no such plan.
            Conflict: it has begun, or it has ended.
        """

        async def work(connection: asyncpg.Connection) -> None:
            await self._lock(connection, id, ("proposed",), "changed")
            await connection.execute(self.CLEAR, id)
            await self._add_steps(connection, id, drafts, decisions)
            await connection.execute(self.AUTHOR, id, "person")

        await self._database.run(work)
        return await self.get(id)

    async def approve(self, id: UUID) -> Plan:
        """A proposed plan may begin. Raises NotFound, or Conflict where it has ended; one that runs stays as it is."""

        async def work(connection: asyncpg.Connection) -> None:
            if await self._lock(connection, id, ("proposed", "running"), "approved") == "proposed":
                await connection.execute(self.STATE, id, "running", "")

        await self._database.run(work)
        return await self.get(id)

    RESUME = """UPDATE plan_steps SET state = 'waiting', work_order = NULL, why = ''
                WHERE plan = $1 AND state = 'failed'"""

    async def again(self, id: UUID) -> Plan:
        """A failed plan goes on: what failed is begun anew. Raises NotFound, or Conflict where it has not failed."""

        async def work(connection: asyncpg.Connection) -> None:
            if await self._lock(connection, id, ("failed", "running"), "gone on with") == "failed":
                await connection.execute(self.RESUME, id)
                await connection.execute(self.STATE, id, "running", "")

        await self._database.run(work)
        return await self.get(id)

    LET_GO = "UPDATE plan_steps SET state = 'cancelled' WHERE plan = $1 AND state IN ('waiting', 'running', 'reported')"
    LOSE = """UPDATE step_attempts SET state = 'lost', ended = now()
              WHERE plan = $1 AND state = 'running'"""

    async def cancel(self, id: UUID) -> Plan:
        """Ends a plan; what is with the Hands comes to its own end. Raises NotFound, or Conflict where it has ended."""

        async def work(connection: asyncpg.Connection) -> None:
            await self._lock(connection, id, ("proposed", "running", "cancelled"), "cancelled")
            await connection.execute(self.LET_GO, id)
            await connection.execute(self.LOSE, id)
            await connection.execute(self.STATE, id, "cancelled", "cancelled by a person")

        await self._database.run(work)
        return await self.get(id)

    async def close(self, id: UUID) -> Plan:
        """Ends a running plan whose steps are all done, or in which nothing can be begun any more."""

        async def work(connection: asyncpg.Connection) -> None:
            state = await connection.fetchval(self.LOCKED, id)
            steps = [_step(row) for row in await connection.fetch(self.STEPS, id)]
            if state != "running" or ready(steps) or any(step.state in UNDER_WAY for step in steps):
                return
            failed = [str(step.number) for step in steps if step.state == "failed"]
            ended = ("failed", f"step {', '.join(failed)} failed") if failed else ("done", "")
            await connection.execute(self.STATE, id, *ended)

        await self._database.run(work)
        return await self.get(id)

    async def get(self, id: UUID) -> Plan:
        """One plan; NotFound when there is none of that id."""
        row = await self._database.fetchrow(self.GET, id)
        if row is None:
            raise _unknown(id)
        return _plan(row)

    async def recent(self, limit: int = 20) -> list[Plan]:
        """The latest plans, newest first."""
        return [_plan(row) for row in await self._database.fetch(self.RECENT, limit)]

    async def unfinished(self) -> list[Plan]:
        """Plans that have not ended, oldest first."""
        return [_plan(row) for row in await self._database.fetch(self.UNFINISHED)]

    MOVING = """SELECT p.id FROM plans p WHERE p.state = 'running'
                OR EXISTS (SELECT FROM plan_steps s WHERE s.plan = p.id AND s.state = 'out') ORDER BY p.created"""

    async def moving(self) -> list[UUID]:
        """Plans that run, or of which something is still out."""
        return [row["id"] for row in await self._database.fetch(self.MOVING)]

    # -- steps

    async def steps(self, id: UUID) -> list[Step]:
        """The steps of a plan, in order."""
        return [_step(row) for row in await self._database.fetch(self.STEPS, id)]

    async def of_order(self, order: UUID) -> UUID | None:
        """The plan whose step a work order is."""
        return await self._database.fetchval(self.OF_ORDER, order)

    TAKE = """UPDATE plan_steps s SET state = 'running' FROM plans p
              WHERE p.id = s.plan AND p.state = 'running' AND s.plan = $1 AND s.number = $2 AND s.state = 'waiting'
              RETURNING 1"""
    BEGIN = "INSERT INTO step_attempts (id, plan, step, agent) VALUES ($1, $2, $3, $4)"
    BEGUN = "SELECT 1 FROM step_attempts WHERE id = $1"

    async def begin(self, step: Step, agent: str) -> UUID | None:
        """Takes a waiting step for an attempt at home; None where somebody else has it, or its plan runs no more."""
        id = uuid7()

        async def work(connection: asyncpg.Connection) -> bool:
            if await connection.fetchval(self.TAKE, step.plan, step.number) is None:
                # After a lost connection this very attempt may be there already.
                return await connection.fetchval(self.BEGUN, id) is not None
            await connection.execute(self.BEGIN, id, step.plan, step.number, agent)
            return True

        return id if await self._database.run(work) else None

    END = """UPDATE step_attempts SET state = $2, outcome = $3, ended = now() WHERE id = $1 AND state = 'running'
             RETURNING plan, step"""
    MOVE = """UPDATE plan_steps SET state = $3, outcome = $4, why = $5
              WHERE plan = $1 AND number = $2 AND state IN ('running', 'reported')"""
    ESCALATE = """UPDATE plan_steps SET state = 'waiting', place = 'hands', rule = $3, outcome = ''
                  WHERE plan = $1 AND number = $2 AND state IN ('running', 'reported') RETURNING 1"""

    async def end(self, attempt: UUID, state: Literal["done", "reported", "failed"], outcome: str, why: str) -> bool:
        """Ends an attempt at home and moves its step; False if it had ended before (then nothing changes)."""

        async def work(connection: asyncpg.Connection) -> bool:
            ended = "failed" if state == "failed" else "reported"
            row = await connection.fetchrow(self.END, attempt, ended, outcome)
            if row is not None:
                await connection.execute(self.MOVE, row["plan"], row["step"], state, outcome, why)
            return row is not None

        return await self._database.run(work)

    async def escalate(self, attempt: UUID, outcome: str, rule: str) -> bool:
        """Ends an attempt that came to nothing and hands its step on; False if it had ended before."""

        async def work(connection: asyncpg.Connection) -> bool:
            row = await connection.fetchrow(self.END, attempt, "failed", outcome)
            if row is not None:
                await connection.execute(self.ESCALATE, row["plan"], row["step"], rule)
            return row is not None

        return await self._database.run(work)

    async def review(self, step: Step, verdict: Literal["accept", "escalate", "reject"], why: str) -> None:
        """A person's word on a reported step. Raises Conflict where none is waited for."""
        if step.state != "reported":
            raise Conflict(
                f"Step {step.number} is {step.state}: it waits for no verdict.", "`soul plan show` says what does."
            )
        key = (step.plan, step.number)
        if verdict == "escalate":
            await self._database.execute(self.ESCALATE, *key, f"escalated by a person{': ' + why if why else ''}")
            return
        state = "done" if verdict == "accept" else "failed"
        await self._database.execute(self.MOVE, *key, state, step.outcome, why or f"{verdict} by a person")

    SEND = """UPDATE plan_steps s SET state = 'out', work_order = coalesce(s.work_order, $3) FROM plans p
              WHERE p.id = s.plan AND p.state = 'running' AND s.plan = $1 AND s.number = $2
              AND s.state = 'waiting' AND s.place = 'hands'"""
    ORDERED = "SELECT work_order FROM plan_steps WHERE plan = $1 AND number = $2 AND state = 'out'"

    async def send(self, step: Step) -> UUID | None:
        """Marks a waiting step as out, and chooses the id of its one work order; None where it cannot go."""
        await self._database.execute(self.SEND, step.plan, step.number, uuid7())
        return await self._database.fetchval(self.ORDERED, step.plan, step.number)

    HOME = """UPDATE plan_steps SET place = 'home', rule = $3, private = private OR $4
              WHERE plan = $1 AND number = $2 AND state = 'waiting'"""
    RETURN = """UPDATE plan_steps SET state = $3, outcome = $4, why = $5
                WHERE plan = $1 AND number = $2 AND state = $6"""

    async def keep(self, step: Step, rule: str, private: bool) -> None:
        """A waiting step stays at home; one that is `private` is so for good, and what builds on it, too."""
        await self._database.execute(self.HOME, step.plan, step.number, rule, private)

    async def returned(self, step: Step, done: bool, outcome: str, why: str) -> None:
        """What was out has come to its end, as its order has."""
        state = "done" if done else "failed"
        await self._database.execute(self.RETURN, step.plan, step.number, state, outcome, why, "out")

    async def give_up(self, step: Step, why: str) -> None:
        """A step that cannot even be begun."""
        await self._database.execute(self.RETURN, step.plan, step.number, "failed", "", why, "waiting")

    LOST = "UPDATE step_attempts SET state = 'lost', ended = now() WHERE state = 'running' RETURNING plan, step"
    COUNT = "SELECT count(*) FROM step_attempts WHERE plan = $1 AND step = $2 AND state = 'lost'"

    async def recover(self) -> int:
        """Steps at home that a daemon which is gone had begun wait again, a few times; how many there were."""

        async def work(connection: asyncpg.Connection) -> int:
            lost = await connection.fetch(self.LOST)
            for row in lost:
                key = (row["plan"], row["step"])
                if int(await connection.fetchval(self.COUNT, *key) or 0) < TRIES:
                    again = ("waiting", "", "")
                else:
                    again = ("failed", "", f"The daemon ended {TRIES} times in the middle of this step.")
                await connection.execute(self.RETURN, *key, *again, "running")
            return len(lost)

        return await self._database.run(work)

    ATTEMPTS = """SELECT id, step, agent, state, outcome, began, ended FROM step_attempts WHERE plan = $1
                  ORDER BY began, id"""

    async def attempts(self, id: UUID) -> list[dict[str, Any]]:
        """All attempts at home on the steps of a plan, oldest first."""
        return [dict(row) for row in await self._database.fetch(self.ATTEMPTS, id)]

    async def _add_steps(
        self, connection: asyncpg.Connection, id: UUID, drafts: Sequence[Draft], decisions: Sequence[Decision]
    ) -> None:
        for number, (draft, decision) in enumerate(zip(drafts, decisions, strict=True), 1):
            drawn = (draft.role, draft.task, draft.acceptance, list(draft.needs), list(draft.after))
            placed = (decision.place, decision.rule, decision.private)
            await connection.execute(self.ADD_STEP, id, number, *drawn, *placed)

    async def _lock(self, connection: asyncpg.Connection, id: UUID, states: tuple[str, ...], what: str) -> str:
        state = await connection.fetchval(self.LOCKED, id)
        if state is None:
            raise _unknown(id)
        if state not in states:
            raise Conflict(f"Plan {id} is {state} and cannot be {what}.", "`soul plan show` says more.")
        return state


def ready(steps: Sequence[Step]) -> list[Step]:
    """Steps that can be begun now."""
    done = {step.number for step in steps if step.state == "done"}
    return [step for step in steps if step.state == "waiting" and done.issuperset(step.after)]


def _unknown(id: UUID) -> NotFound:
    return NotFound(f"There is no plan {id}.", "`soul plan list` shows them.")


def _plan(row: asyncpg.Record) -> Plan:
    values: dict[str, Any] = dict(row)
    values["constraints"] = tuple(values["constraints"])
    return Plan(**values)


def _step(row: asyncpg.Record) -> Step:
    values: dict[str, Any] = dict(row)
    for name in ("needs", "after"):
        values[name] = tuple(values[name])
    return Step(**values)
