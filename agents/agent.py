"""One agent of the house at its work: a task comes in, one turn is run in the agent's own window, the answer goes out.

Knows how a task is put before an agent and what is written of it; how tokens come is the engine's affair, how a turn
loops is `agents.turn`'s, what happens when the window is full is its `Room`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import anyio

from agents.context import MARGIN, AgentContext
from agents.fence import fenced
from agents.pressure import Flushed
from agents.questions import bullets
from agents.toolbox import Toolbox
from agents.turn import Form, Progress, Turn, TurnLimits, TurnReport
from engine.errors import OverBudget
from engine.sampling import Sampling
from memory.packets import Kind, Packet
from memory.recall import Hit, Query
from memory.uuid7 import uuid7
from memory.window import WindowTurn

if TYPE_CHECKING:
    import asyncpg

    from engine.engine import Engine
    from memory.memory import Memory

UNTRAINED_TOKENS = 48
"""Longest reply of an untrained stand-in: its words mean nothing, so a person should not wait for many of them."""

LOADING_S = 900.0
"""How long a task waits for a model that is still loading; its caller gets a job id long before."""

UNTRAINED_FORM_TOKENS = 320
"""The same where the answer has to be a document."""

MEANT = 0.01
"""Resonance below which a packet is not put before an agent unasked."""
NEAREST = 4
NEAREST_TOKENS = 700


@dataclass(frozen=True)
class Task:
    """What somebody asks of an agent. `client` and `session` say who."""

    text: str
    constraints: tuple[str, ...]
    context: str
    client: str
    session: str
    form: Form | None = None

    @property
    def words(self) -> str:
        """All that was given with it."""
        return "\n".join([self.text, *self.constraints, self.context])


@dataclass(frozen=True)
class Answer:
    """An agent's answer, what it was given from memory, and what it cost."""

    text: str
    notice: str
    """What a reader has to be told about the model's words; empty where there is nothing to tell."""
    trained: bool
    """Whether the words mean anything."""
    trusted: bool
    """Whether they may decide something."""
    model: str
    sources: tuple[Hit, ...]
    report: TurnReport
    flushed: tuple[Flushed, ...]
    """The window was let go before or within this turn."""


@dataclass(frozen=True)
class Reading:
    """What of memory an agent is shown, and what becomes of its own words."""

    private: bool = False
    """All that it says is private."""
    shown: bool = False
    """It is shown what is private. Anybody else is shown nothing that `withheld` says a word about either, since what
    it says may leave the house."""
    withheld: Callable[[str], str] = field(default=lambda _: "")


class Room(Protocol):
    """Keeps an agent's window below its limit. The caller holds the agent's lock."""

    async def prepare(
        self, engine: Engine, incoming: int, reply: int, report: Callable[[Progress], None]
    ) -> tuple[str, Flushed | None]:
        """Room for a new turn, in tokens: (delta to tell first, what was done)."""
        ...

    async def within(
        self, engine: Engine, reply: int, report: Callable[[Progress], None]
    ) -> tuple[bool, Flushed | None]:
        """Room for one more reply of a turn that goes on: (is there room, what was done)."""
        ...


class Reopening:
    """The room of an agent that keeps no notebook: a full window is opened anew, its turns being packets already."""

    def __init__(self, context: AgentContext, most: int | None = None) -> None:
        """`most`: the tokens of the window, where that is fewer than the model allows."""
        self._context = context
        self._most = most

    async def prepare(
        self, engine: Engine, incoming: int, reply: int, report: Callable[[Progress], None]
    ) -> tuple[str, Flushed | None]:
        """As `Room`; OverBudget when the turn does not fit even into an empty window."""
        delta = await self._context.prepare(engine)
        limit = self._limit(engine)
        wanted = engine.chat.count(delta) + incoming + reply + MARGIN
        if len(self._context.window.ids) + wanted > limit:
            await self._context.reopen(engine)
            delta = await self._context.prepare(engine)
        if len(self._context.window.ids) + incoming + reply + MARGIN > limit:
            raise OverBudget(
                f"The task has {incoming:,} tokens; the context of {limit:,} has no room for it.",
                "Shorten the task or its context.",
            )
        return delta, None

    async def within(
        self, engine: Engine, reply: int, report: Callable[[Progress], None]
    ) -> tuple[bool, Flushed | None]:
        """As `Room`: a turn that goes on cannot let go of what it is about."""
        return len(self._context.window.ids) + reply + MARGIN <= self._limit(engine), None

    def _limit(self, engine: Engine) -> int:
        return min(engine.info.context_tokens, self._most or engine.info.context_tokens)


class Agent:
    """An agent of the house. One turn at a time: there is one window."""

    def __init__(
        self,
        memory: Memory,
        engine: Callable[[float], Awaitable[Engine]],
        context: AgentContext,
        room: Room,
        toolbox: Toolbox,
        limits: TurnLimits,
        reading: Reading = Reading(),
    ) -> None:
        self.name = context.agent
        self._memory = memory
        self._engine = engine
        self._context = context
        self._room = room
        self._toolbox = toolbox
        self._limits = limits
        self._reading = reading
        self._lock = anyio.Lock()
        self._sequence = itertools.count(1)

    @property
    def waiting(self) -> int:
        """Tasks that wait for this agent to be free."""
        return self._lock.statistics().tasks_waiting

    async def answer(self, task: Task, report: Callable[[Progress], None]) -> Answer:
        """One turn on `task`. What was asked is durable before the first token, what was answered before it returns.

        Raises:
            OverBudget: the task does not fit into the model's context.
            Unavailable: no model, or no database.
        """
        report(Progress("waiting for the model"))
        sources = await self._nearest(task.text)
        # Asked for within the lock: a turn ends on the model that it began with (`resting`).
        async with self._lock, self._thinking() as engine:
            report(Progress("assembling the context"))
            words = asked(task, sources)
            tokens = self._limits.tokens
            if not engine.info.trained:
                tokens = UNTRAINED_FORM_TOKENS if task.form else UNTRAINED_TOKENS
            limits = TurnLimits(self._limits.steps, tokens, self._limits.seconds)
            flushed: list[Flushed] = []

            async def room() -> bool:
                fits, done = await self._room.within(engine, tokens, report)
                flushed.extend([done] if done else [])
                return fits

            delta, done = await self._room.prepare(engine, engine.chat.count(words), tokens, report)
            if done:  # what has just left the view may be near
                flushed.append(done)
                sources = await self._nearest(task.text)
                words = asked(task, sources)
            said = self._packet(task.session, "said", task.text, task.client, {"constraints": list(task.constraints)})
            packets = [said]
            if task.context:
                packets.append(self._packet(task.session, "said", task.context, f"{task.client}:context"))
            text = f"{delta}\n\n{words}" if delta else words
            ids = tuple(engine.chat.turn("user", text))
            await self._context.commit([WindowTurn("user", text, ids, said.id)], packets)

            def make(kind: Kind, prose: str, origin: str, metadata: Mapping[str, Any] | None = None) -> Packet:
                packet = self._packet(
                    task.session, kind, prose, origin, {"model": engine.info.name, **(metadata or {})}
                )
                # A stand-in's words are kept, but must neither come back unasked nor be learned from.
                return packet if engine.info.trusted else replace(packet, resonance=0.0)

            turn = await Turn(engine, self._context, self._toolbox, limits, make, room, report, task.form).run()
        info = engine.info
        return Answer(turn.text, info.notice, info.trained, info.trusted, info.name, sources, turn, tuple(flushed))

    @asynccontextmanager
    async def _thinking(self) -> AsyncGenerator[Engine]:
        """The agent's model, which stays loaded until the block ends."""
        engine = await self._engine(LOADING_S)
        with engine.held():
            yield engine

    @asynccontextmanager
    async def resting(self) -> AsyncGenerator[None]:
        """Waits for the turn that runs and lets none begin until the block ends."""
        async with self._lock:
            yield

    async def reread(self) -> None:
        """Computes the stored window for the model that is loaded now, so that the next turn need not."""
        if await self._memory.windows.get(self.name) is None:
            return
        async with self._lock, self._thinking() as engine:
            await self._context.prepare(engine)
            ids = await self._context.missing(engine)
            if ids:
                async for _ in engine.generate(self.name, ids, Sampling(max_tokens=0)):
                    pass

    async def record(
        self,
        session: str,
        kind: Kind,
        prose: str,
        origin: str,
        work_order: UUID | None = None,
        *,
        along: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
        **metadata: Any,
    ) -> Packet:
        """Writes one packet about what happened around this agent (orders, outcomes, reviews, calls); what `along`
        writes is in the same transaction."""
        packet = self._packet(session, kind, prose, origin, metadata, work_order)

        async def work(connection: asyncpg.Connection) -> None:
            await self._memory.packets.add(connection, [packet])
            if along is not None:
                await along(connection)

        await self._memory.database.run(work)
        self._memory.packets.committed()
        return packet

    def _packet(
        self,
        session: str,
        kind: Kind,
        prose: str,
        origin: str,
        metadata: Mapping[str, Any] | None = None,
        work_order: UUID | None = None,
    ) -> Packet:
        return Packet(
            id=uuid7(),
            time=datetime.now(UTC),
            agent=self.name,
            session=session,
            sequence=next(self._sequence),
            kind=kind,
            prose=prose,
            origin=origin,
            work_order=work_order,
            metadata={**(metadata or {}), **({"private": True} if self._reading.private else {})},
        )

    async def _nearest(self, text: str) -> tuple[Hit, ...]:
        reading = self._reading
        query = Query(
            *(text[:2_000], NEAREST, self.name),
            min_resonance=MEANT,
            token_budget=NEAREST_TOKENS,
            private=reading.shown,
            without=await self._context.in_view(),
        )
        hits = await self._memory.recall.search(query)
        return tuple(hit for hit in hits if reading.shown or not reading.withheld(hit.prose))


def asked(task: Task, sources: tuple[Hit, ...]) -> str:
    """The user turn of a task: the nearest memories, what came with it, then its words and constraints.

    A memory's source stands behind it, as an answer cites it: who copies the one goes on with the other.
    The words stand last, next to where the answer begins: models small and large find better what they have read
    before they know the question than a question behind which they have read on (Anthropic, "Long context prompting
    tips": the query at the end).
    """
    parts: list[str] = []
    if sources:
        lines = "\n".join(f"{hit.prose} [{hit.citation}]" for hit in sources)
        parts.append(fenced(lines, "nearest memories"))
    if task.context:
        parts.append(fenced(task.context, f"context given by {task.client}"))
    parts.append(f"Task from {task.client}:\n{task.text}")
    if task.constraints:
        parts.append(f"Constraints:\n{bullets(task.constraints)}")
    if task.form:
        parts.append(task.form.says)
    return "\n\n".join(parts)
