"""The Director: answers tasks, reviews outcomes, ratifies or refuses a new self.

Knows what it is asked and what follows from its words; how tokens come is the engine's affair, how a turn loops is
`agents.turn`'s.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import structlog

from agents.context import AgentContext
from agents.fence import fenced, shortened
from agents.judgement import Judgement, judge
from agents.orders import Attempt, Order
from agents.pressure import PRESSURE, Flushed, Pressure
from agents.sectors import View, view
from agents.toolbox import Toolbox
from agents.turn import Progress, Turn, TurnLimits, TurnReport
from engine.errors import SoulError
from memory.flushes import Flush
from memory.forgetting import Plan, Wish
from memory.packets import Kind, Packet
from memory.recall import Hit, Query
from memory.uuid7 import uuid7
from memory.window import Window, WindowTurn

if TYPE_CHECKING:
    from engine.engine import Engine
    from memory.memory import Memory
    from memory.selves import Proposal

log = structlog.get_logger()

DIRECTOR = "director"
UNTRAINED_TOKENS = 48
"""Longest reply of an untrained stand-in: its words mean nothing, so a person should not wait for many of them."""

LOADING_S = 900.0
"""How long a task waits for a model that is still loading; its caller gets a job id long before."""
JUDGING_S = 20.0
"""How long a review waits for one: its caller has no job id to come back with."""

MEANT = 0.01
"""Resonance below which a packet is not put before the Director unasked."""
NEAREST = 4
NEAREST_TOKENS = 700
REVIEW_CHARACTERS = 8_000


@dataclass(frozen=True)
class Task:
    """What somebody asks of the Director. `client` and `session` say who."""

    text: str
    constraints: tuple[str, ...]
    context: str
    client: str
    session: str


@dataclass(frozen=True)
class Answer:
    """The Director's answer, what it was given from memory, and what it cost."""

    text: str
    notice: str
    model: str
    sources: tuple[Hit, ...]
    report: TurnReport
    flushed: tuple[Flushed, ...]
    """The window was let go before or within this turn."""


class Director:
    """The one who speaks for the Soul. One turn at a time: there is one window."""

    def __init__(
        self,
        memory: Memory,
        engine: Callable[[float], Awaitable[Engine]],
        toolbox: Toolbox,
        limits: TurnLimits,
        pressure: float = PRESSURE,
    ) -> None:
        self._memory = memory
        self._engine = engine
        self._toolbox = toolbox
        self._limits = limits
        self._lock = anyio.Lock()
        self._context = AgentContext(DIRECTOR, memory, toolbox)
        self._pressure = Pressure(self._context, memory, pressure, limits.seconds)
        self._sequence = itertools.count(1)

    @property
    def waiting(self) -> int:
        """Tasks that wait for the Director to be free."""
        return self._lock.statistics().tasks_waiting

    async def answer(self, task: Task, report: Callable[[Progress], None]) -> Answer:
        """One turn on `task`. What was asked is durable before the first token, what was answered before it returns.

        Raises:
            OverBudget: the task does not fit into the model's context.
            Unavailable: no model, or no database.
        """
        report(Progress("waiting for the model"))
        engine = await self._engine(LOADING_S)
        sources = await self._nearest(task.text)
        async with self._lock:
            report(Progress("assembling the context"))
            words = asked(task, sources)
            tokens = self._limits.tokens if engine.info.trained else UNTRAINED_TOKENS
            limits = TurnLimits(self._limits.steps, tokens, self._limits.seconds)
            flushed: list[Flushed] = []

            async def room() -> bool:
                fits, done = await self._pressure.within(engine, tokens, report)
                flushed.extend([done] if done else [])
                return fits

            delta, done = await self._pressure.prepare(engine, engine.chat.count(words), tokens, report)
            flushed.extend([done] if done else [])
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
                # An untrained stand-in's words are kept, but must not come back as if they meant something.
                return packet if engine.info.trained else replace(packet, resonance=0.0)

            turn = await Turn(engine, self._context, self._toolbox, limits, make, room, report).run()
        return Answer(turn.text, engine.info.notice, engine.info.name, sources, turn, tuple(flushed))

    async def flush(self, report: Callable[[Progress], None]) -> Flushed:
        """Lets go of the window by hand; waits for the turn that runs."""
        engine = await self._engine(LOADING_S)
        async with self._lock:
            return await self._pressure.flush(engine, report)

    async def view(self) -> View:
        """What the Director sees now, and what the next turn will tell it."""
        return await view(await self._engine(LOADING_S), self._context, self._pressure)

    async def last_flush(self) -> Flush | None:
        """The latest flush; one that is unfinished is taken up by the next turn."""
        return await self._memory.flushes.last(DIRECTOR)

    async def forget(self, wish: Wish, by: str, reason: str) -> Plan:
        """Carries out what a person wants forgotten, between two turns; the window is then computed without it."""
        async with self._lock:
            plan = await self._memory.forgetting.carry_out(wish, by, reason)
            self._context.reload()
            with contextlib.suppress(SoulError):  # without a model nothing is computed
                engine = await self._engine(0)
                window = await self._memory.windows.get(DIRECTOR)
                # What was let go before may still be computed: it is cut off when the next turn comes.
                if engine.exists(DIRECTOR) and not _begins(window, engine.ids(DIRECTOR)):
                    await engine.drop(DIRECTOR)
            log.info("forgotten", packets=len(plan.packets), corpus=plan.corpus, window_turns=plan.window_turns, by=by)
        return plan

    async def review(self, order: Order, attempt: Attempt) -> Judgement:
        """Judges an outcome by the order's acceptance criteria: accept, revise or reject."""
        engine = await self._engine(JUDGING_S)
        opening = await self._context.opening_ids(engine)
        question = review_question(order, attempt)
        return await judge(engine, f"review {order.id}", opening, question, ("accept", "revise", "reject"))

    async def ratify(self, proposal: Proposal, current: str) -> Judgement:
        """Judges a proposed self: ratify or refuse."""
        engine = await self._engine(JUDGING_S)
        opening = await self._context.opening_ids(engine)
        question = ratify_question(proposal, current)
        return await judge(engine, f"ratify {proposal.id}", opening, question, ("ratify", "refuse"))

    async def record(
        self, session: str, kind: Kind, prose: str, origin: str, work_order: UUID | None = None, **metadata: Any
    ) -> Packet:
        """Writes one packet about what happened around the Director (orders, outcomes, reviews, calls)."""
        packet = self._packet(session, kind, prose, origin, metadata, work_order)
        await self._memory.packets.write([packet])
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
            agent=DIRECTOR,
            session=session,
            sequence=next(self._sequence),
            kind=kind,
            prose=prose,
            origin=origin,
            work_order=work_order,
            metadata=dict(metadata or {}),
        )

    async def _nearest(self, text: str) -> tuple[Hit, ...]:
        query = Query(text[:2_000], NEAREST, DIRECTOR, min_resonance=MEANT, token_budget=NEAREST_TOKENS)
        return await self._memory.recall.search(query)


def _begins(window: Window | None, held: tuple[int, ...]) -> bool:
    """Whether all that is held is of the window as it is stored now."""
    return window is not None and tuple(window.ids[: len(held)]) == held


def review_question(order: Order, attempt: Attempt) -> str:
    """What the Director is asked about an attempt; what the Hands reported stands behind the fence."""
    artifacts = "\n".join(attempt.artifacts) or "(none named)"
    return (
        f"Review attempt {attempt.number} on your work order.\n\nTask: {order.task}\n"
        f"Constraints:\n{_bullets(order.constraints)}\nAcceptance criteria:\n{_bullets(order.acceptance)}\n\n"
        f"{fenced(shortened(attempt.outcome, REVIEW_CHARACTERS), 'outcome reported by the Hands')}\n"
        f"{fenced(shortened(artifacts, 2_000), 'artifacts named by the Hands')}\n\n"
        "Do the criteria hold? Answer accept, revise or reject, then why in one or two sentences."
    )


def ratify_question(proposal: Proposal, current: str) -> str:
    """What the Director is asked about a proposed self, which stands behind the fence."""
    return (
        f"Somebody ({proposal.author}) proposes a new self for you.\n\nYour self now:\n{current}\n\n"
        f"{fenced(proposal.content, 'proposed self')}\n{fenced(proposal.reason, 'reason given')}\n\n"
        "Would you still be yourself, honest and faithful to the person you serve? "
        "Answer ratify or refuse, then why in one or two sentences."
    )


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "- (none)"


def asked(task: Task, sources: tuple[Hit, ...]) -> str:
    """The user turn of a task: its words, constraints, context and the nearest memories, each in its place."""
    parts = [f"Task from {task.client}:\n{task.text}"]
    if task.constraints:
        parts.append(f"Constraints:\n{_bullets(task.constraints)}")
    if task.context:
        parts.append(fenced(task.context, f"context given by {task.client}"))
    if sources:
        lines = "\n".join(f"[{hit.citation}] {hit.prose}" for hit in sources)
        parts.append(fenced(lines, "nearest memories"))
    return "\n\n".join(parts)
