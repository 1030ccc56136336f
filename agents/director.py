"""The Director: speaks for the Soul, reviews outcomes, ratifies or refuses a new self.

Knows what it is asked and what follows from its words; how a task becomes a turn is `agents.agent`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from agents import questions
from agents.agent import LOADING_S, Agent
from agents.context import AgentContext
from agents.judgement import Judgement, judge
from agents.orders import Attempt, Order
from agents.pressure import PRESSURE, Flushed, Pressure
from agents.sectors import View, view
from agents.toolbox import Toolbox
from agents.turn import Progress, TurnLimits
from engine.errors import Conflict, SoulError
from memory.flushes import Flush
from memory.forgetting import Plan, Wish

if TYPE_CHECKING:
    from agents.plans import Step
    from engine.engine import Engine
    from memory.memory import Memory
    from memory.selves import Proposal

log = structlog.get_logger()

DIRECTOR = "director"
JUDGING_S = 20.0
"""How long a review waits for a model that is still loading: its caller has no job id to come back with."""


class Director(Agent):
    """The one who speaks for the Soul, and the only one who writes its notebook when its window is full."""

    def __init__(
        self,
        memory: Memory,
        engine: Callable[[float], Awaitable[Engine]],
        toolbox: Toolbox,
        limits: TurnLimits,
        pressure: float = PRESSURE,
    ) -> None:
        context = AgentContext(DIRECTOR, memory, toolbox)
        self._pressure = Pressure(context, memory, pressure, limits.seconds)
        super().__init__(memory, engine, context, self._pressure, toolbox, limits)

    async def flush(self, report: Callable[[Progress], None]) -> Flushed:
        """Lets go of the window by hand; waits for the turn that runs."""
        async with self._lock:
            return await self._pressure.flush(await self._engine(LOADING_S), report)

    async def view(self) -> View:
        """What the Director sees now, and what the next turn will tell it."""
        return await view(await self._engine(LOADING_S), self._context, self._pressure)

    async def last_flush(self) -> Flush | None:
        """The latest flush; one that is unfinished is taken up by the next turn."""
        return await self._memory.flushes.last(DIRECTOR)

    async def forget(self, wish: Wish, by: str, reason: str) -> Plan:
        """Carries out what a person wants forgotten, between two turns; every context is then computed without it.

        Without a model, what earlier ones left on disk stays: the caller removes it (`engine.kv.removing`).
        """
        async with self._lock:
            plan = await self._memory.forgetting.carry_out(wish, by, reason)
            self._context.reload()
            try:
                engine = await self._engine(0)
            except SoulError:
                return plan
            # All of them, whole: the log of a context's ids and its older files keep what was cut off long ago.
            for one in engine.companions.engines:
                for name in [context.name for context in one.status().contexts]:
                    try:
                        await one.drop(name)
                    except Conflict:  # it speaks just now
                        late = f"What {name} has computed may hold it until it is dropped: soul agents drop {name}"
                        plan = replace(plan, warnings=(*plan.warnings, late))
            await engine.store.forget_others()
            log.info("forgotten", packets=len(plan.packets), corpus=plan.corpus, window_turns=plan.window_turns, by=by)
        return plan

    async def review(self, order: Order, attempt: Attempt) -> Judgement:
        """Judges an outcome by the order's acceptance criteria: accept, revise or reject."""
        question = questions.review(
            attempt.number, order.task, order.constraints, order.acceptance, attempt.outcome, attempt.artifacts
        )
        return await self._judge(f"review {order.id}", question, questions.REVIEW)

    async def object(
        self, order: Order, hands: str, instructions: str, model: Callable[[float], Awaitable[Engine]]
    ) -> Judgement:
        """The critic's word before an order leaves the house: proceed or object. `instructions` and `model` make it."""
        question = questions.leaving(hands, order.task, order.constraints, order.acceptance, order.context)
        engine = await model(JUDGING_S)
        with engine.held():
            opening = await self._context.opening_ids(engine)
            if instructions:
                opening = engine.chat.opening(instructions, [])
            return await judge(engine, f"critic {order.id}", opening, question, questions.OBJECT)

    async def met(self, step: Step, outcome: str) -> Judgement:
        """Whether a step that was done at home is done, or has to be handed on: done or escalate."""
        question = questions.met(step.task, step.acceptance, step.role, outcome)
        return await self._judge(f"step {step.number} of {step.plan}", question, questions.MET)

    async def matters(self, check: str, lines: str) -> Judgement:
        """Whether lines of a log matter: matters or noise."""
        return await self._judge(f"check {check}", questions.matters(check, lines), questions.MATTERS)

    async def ratify(self, proposal: Proposal, current: str) -> Judgement:
        """Judges a proposed self: ratify or refuse."""
        question = questions.ratify(proposal.author, current, proposal.content, proposal.reason)
        return await self._judge(f"ratify {proposal.id}", question, questions.RATIFY)

    async def _judge(self, context: str, question: str, options: tuple[str, ...]) -> Judgement:
        engine = await self._engine(JUDGING_S)
        opening = await self._context.opening_ids(engine)
        return await judge(engine, context, opening, question, options)
