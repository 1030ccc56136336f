"""Plans at work: a goal becomes steps, the builder does those at home, the others go out as work orders.

Knows what is begun when, and what is done with what comes of it. Every move is a row first, so that a plan goes on
after a kill at any moment: a step at home is begun again, a step that was out ends as its one work order does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import anyio
import anyio.abc
import structlog

from agents.agent import Task
from agents.ordering import place
from agents.orders import CLIENT, CLOSED
from agents.planning import FORM, Draft, drawn, placed
from agents.plans import Plan, Plans, Step, ready
from agents.roster import ClaudeSpec, LocalSpec
from agents.turn import Progress
from engine.errors import NotFound, OverBudget, SoulError

if TYPE_CHECKING:
    from agents.director import Director
    from agents.dispatch import Dispatch
    from agents.household import Household
    from agents.jobs import Jobs
    from agents.orders import Orders
    from agents.outside import Outside
    from agents.runs import Runs
    from memory.memory import Memory

log = structlog.get_logger()

OUTCOME_CHARACTERS = 6_000
"""How much of an earlier step's outcome the next one gets."""
NEXT_S = 5.0
"""How long whoever ended a step waits for what its plan does next."""
Report = Callable[[Progress], None]


@dataclass
class _Moving:
    """A plan that is being moved on."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Planner:
    """Draws plans and sees them through."""

    def __init__(
        self,
        memory: Memory,
        director: Director,
        household: Household,
        jobs: Jobs,
        orders: Orders,
        runs: Runs,
        dispatch: Dispatch,
        outside: Outside,
        tasks: anyio.abc.TaskGroup,
    ) -> None:
        self._memory = memory
        self._director = director
        self._household = household
        self._jobs = jobs
        self._orders = orders
        self._runs = runs
        self._dispatch = dispatch
        self._outside = outside
        self._tasks = tasks
        self.plans = Plans(memory.database)
        self._moving: dict[UUID, _Moving] = {}
        self._wakes = 0
        self._woken = anyio.Event()
        orders.changed = self.wake

    # -- drawing

    async def draw(
        self,
        spec: LocalSpec,
        goal: str,
        constraints: Sequence[str],
        context: str,
        client: str,
        session: str,
        report: Report,
    ) -> Plan:
        """Has the architect `spec` draw a plan; it begins at once, but where a person has to approve it.

        Raises:
            InvalidInput: what it drew is no plan.
            OverBudget: the goal does not fit into the model's context.
            Unavailable: no model, or no database.
        """
        task = Task(goal, tuple(constraints), context, client, session, FORM)
        rules = self._outside.roster().rules
        private = bool(rules.names(task.words))
        answer = await self._household.agent(spec, private).answer(task, report)
        drafts = drawn(answer.text)
        decisions = placed(rules, drafts, goal, constraints, context, self._usd())
        author = f"{spec.name} ({answer.model})"
        plan = await self.plans.add(
            goal, constraints, context, client, session, author, answer.trained, drafts, decisions
        )
        steps = "\n".join(f"{number}. {draft.task}" for number, draft in enumerate(drafts, 1))
        kind = "answer" if answer.trusted else "event"  # a stand-in's plan is not recalled
        about: dict[str, Any] = {"plan": str(plan.id), **({"private": True} if private else {})}
        await self._director.record(session, kind, f"A plan for {goal}:\n{steps}", spec.name, **about)
        if answer.trusted and not rules.ask:
            plan = await self.plans.approve(plan.id)
            await self.see_through(plan.id)
        return await self.plans.get(plan.id)

    async def redraw(self, id: UUID, drafts: Sequence[Draft]) -> Plan:
        """Puts a person's steps into a plan that has not begun; the rules place them as they place a model's."""
        plan = await self.plans.get(id)
        rules = self._outside.roster().rules
        decisions = placed(rules, drafts, plan.goal, plan.constraints, plan.context, self._usd())
        return await self.plans.redraw(id, drafts, decisions)

    # -- a person's word

    async def approve(self, id: UUID) -> Plan:
        """A proposed plan begins. Raises as `Plans.approve`."""
        plan = await self.plans.approve(id)
        self.wake()
        return plan

    async def go(self, id: UUID) -> Plan:
        """A failed plan goes on with what failed. Raises as `Plans.again`."""
        plan = await self.plans.again(id)
        self.wake()
        return plan

    async def review(self, id: UUID, number: int, verdict: Literal["accept", "escalate", "reject"], why: str) -> Plan:
        """A person's verdict on a step at home. Raises NotFound, or Conflict where none is waited for."""
        plan = await self.plans.get(id)
        step = next((one for one in await self.plans.steps(id) if one.number == number), None)
        if step is None:
            raise NotFound(f"Plan {id} has no step {number}.", "`soul plan show` shows its steps.")
        if verdict == "escalate" and (refusal := await self._refusal(plan, step)):
            verdict, why = "reject", f"not handed on: {refusal}"
        await self.plans.review(step, verdict, why)
        self.wake()
        return plan

    async def cancel(self, id: UUID) -> Plan:
        """Stops a plan. What the Hands have begun comes to its own end; an order nobody began is closed."""
        if (moving := self._moving.get(id)) is not None:
            moving.scope.cancel()
            await moving.ended.wait()
        plan = await self.plans.cancel(id)
        for step in await self.plans.steps(id):
            if step.state == "out" and step.work_order is not None:
                try:
                    await self._orders.refuse(step.work_order, "Its plan was cancelled.")
                except NotFound:
                    await self.plans.returned(step, False, "", "Its plan was cancelled.")
        self.wake()
        return plan

    # -- moving on

    def wake(self) -> None:
        """Something has changed that a plan may wait for."""
        self._wakes += 1
        self._woken.set()

    async def recover(self) -> None:
        """Takes up what a daemon that is gone left; orders must have been settled before."""
        if lost := await self.plans.recover():
            log.warning("steps were lost with their daemon", steps=lost)
        self.wake()

    async def run(self) -> None:
        """Moves plans on whenever something changes, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            try:
                for id in await self.plans.moving():
                    self._start(id)
            except SoulError as error:
                log.warning("plans cannot be moved on now", error=str(error))

    async def see_through(self, id: UUID) -> None:
        """Moves one plan on until it has ended or waits for somebody else."""
        await self._start(id).ended.wait()

    async def after(self, order: UUID) -> str:
        """What is said to whoever ended a step's order, once its plan has moved on; "" for an order of no plan."""
        id = await self.plans.of_order(order)
        if id is None:
            return ""
        # What comes next may be an order for this very client; a step at home may take minutes.
        with anyio.move_on_after(NEXT_S):
            await self.see_through(id)
        return f"It is a step of a plan: soul://plans/{id} says what is next."

    def _start(self, id: UUID) -> _Moving:
        if id not in self._moving:
            self._moving[id] = _Moving()
            self._tasks.start_soon(self._move, id, self._moving[id], name=f"plan {id}")
        return self._moving[id]

    async def _move(self, id: UUID, moving: _Moving) -> None:
        seen = -1
        try:
            with moving.scope:
                while seen != self._wakes:
                    seen = self._wakes
                    while await self._advance(id):
                        pass
        except SoulError as error:
            log.warning("a plan cannot be moved on now", plan=str(id), error=str(error))
        except Exception:
            # One plan must not take the house down; the next change tries again.
            log.exception("a plan could not be moved on", plan=str(id))
        finally:
            del self._moving[id]
            moving.ended.set()

    async def _advance(self, id: UUID) -> bool:
        """Does what can be done now, outside first, since that takes its time; False when there is nothing."""
        for step in await self.plans.steps(id):
            if step.state == "out":
                await self._bring_home(step)
        plan = await self.plans.close(id)
        if plan.state != "running":
            return False
        can = ready(await self.plans.steps(id))
        for step in can:
            if step.place == "hands":
                await self._send(plan, step)
                return True
        for step in can:
            await self._at_home(plan, step)
            return True
        return False

    # -- at home

    async def _at_home(self, plan: Plan, step: Step) -> None:
        private = await self._private(plan, step)
        if private and not step.private:
            await self.plans.keep(step, private, True)
        roster = self._outside.roster()
        try:
            spec = roster.at_home(step.role)
            agent = self._household.agent(spec, bool(private))
        except SoulError as error:
            await self.plans.give_up(step, str(error))
            return
        attempt = await self.plans.begin(step, spec.name)
        if attempt is None:
            return
        words = f"{step.task}\n\nDone when: {step.acceptance}"
        task = Task(words, plan.constraints, await self._material(plan, step), f"plan of {plan.client}", plan.session)

        async def work(report: Report) -> str:
            try:
                answer = await agent.answer(task, report)
                if answer.report.stopped and answer.trusted:
                    return await self._hand_on(plan, step, attempt, answer.text, f"stopped at {answer.report.stopped}")
                report(Progress("the Director judges"))
                judged = await self._director.met(step, answer.text)
                if not judged.binding:
                    why = f"a stand-in would say {judged.words}; a person decides"
                    await self.plans.end(attempt, "reported", answer.text, why)
                elif judged.choice == "done":
                    await self.plans.end(attempt, "done", answer.text, judged.reason)
                else:
                    return await self._hand_on(plan, step, attempt, answer.text, judged.reason or "not met at home")
                return answer.text
            except OverBudget as error:
                return await self._hand_on(plan, step, attempt, "", error.fact)
            except SoulError as error:
                await self.plans.end(attempt, "failed", "", str(error))
                raise

        job = await self._jobs.start(spec.name, step.task, plan.client, plan.session, work)
        try:
            ended = await self._jobs.ended(job)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._jobs.cancel(job)
            raise
        if ended.state == "failed":
            # What the work could not note itself: a fault of ours.
            await self.plans.end(attempt, "failed", "", ended.answer)

    async def _hand_on(self, plan: Plan, step: Step, attempt: UUID, outcome: str, reason: str) -> str:
        """An attempt came to nothing: out with the step, or an end to it where it must not leave."""
        reason = " ".join(reason.split())[:300]
        if refusal := await self._refusal(plan, step):
            await self.plans.end(attempt, "failed", outcome, f"{reason}; not handed on: {refusal}")
        else:
            await self.plans.escalate(attempt, outcome, f"escalated: {reason}")
        return outcome

    # -- outside

    async def _send(self, plan: Plan, step: Step) -> None:
        if refusal := await self._refusal(plan, step):
            if step.rule.startswith("escalated"):
                await self.plans.give_up(step, f"not handed on: {refusal}")
            else:
                await self.plans.keep(step, refusal, bool(await self._private(plan, step)))
            return
        id = await self.plans.send(step)
        if id is not None:
            await self._order(plan, step, id)

    async def _order(self, plan: Plan, step: Step, id: UUID) -> None:
        """Places the step's one order and sends it out; placing it again changes nothing."""
        hands = self._outside.roster().rules.hands
        try:
            budget = None
            if hands != CLIENT:
                spec = self._outside.spec(hands)
                budget = {"minutes": spec.minutes, "rounds": spec.rounds}
            material = await self._material(plan, step)
            order = await place(
                *(self._memory, self._director, self._orders, step.task, plan.constraints, material),
                client=plan.client,
                session=plan.session,
                agent=hands,
                budget=budget,
                acceptance=(step.acceptance,),
                id=id,
                withheld=self._outside.roster().rules.names,
            )
            if hands != CLIENT:
                await self._dispatch.send(order)
        except SoulError as error:
            # Its agent is not in agents.toml any more, or its folder is not there.
            await self.plans.returned(step, False, "", str(error))
            await self._orders.refuse(id, str(error))

    async def _bring_home(self, step: Step) -> None:
        assert step.work_order is not None
        try:
            order = await self._orders.get(step.work_order)
        except NotFound:
            # The daemon ended between choosing the id and writing the order.
            plan = await self.plans.get(step.plan)
            if plan.state == "running":
                await self._order(plan, step, step.work_order)
            return
        if order.state not in CLOSED:
            return
        attempts = await self._orders.attempts(order.id)
        outcome, why = (attempts[-1].outcome, attempts[-1].why) if attempts else ("", "")
        await self.plans.returned(step, order.state == "accepted", outcome, order.why or why or order.state)

    # -- what a step reads, and whether it may leave

    async def _material(self, plan: Plan, step: Step) -> str:
        parts = [plan.context] if plan.context else []
        for one in await self.plans.steps(plan.id):
            if one.number in step.after:
                parts.append(f"Outcome of step {one.number}, {one.task}\n{one.outcome[:OUTCOME_CHARACTERS]}")
        return "\n\n".join(parts)

    async def _private(self, plan: Plan, step: Step) -> str:
        """Why the step is private, by all that whoever does it reads now; "" where it is not."""
        if step.private:
            return step.rule
        for one in await self.plans.steps(plan.id):
            if one.number in step.after and one.private:
                return f"private: it builds on step {one.number}, which is"
        words = "\n".join([step.task, step.acceptance, *plan.constraints, await self._material(plan, step)])
        named = self._outside.roster().rules.names(words)
        return f"private: it names {named!r}" if named else ""

    async def _refusal(self, plan: Plan, step: Step) -> str:
        """Why the step must not go out now; "" where it may."""
        if private := await self._private(plan, step):
            return private
        spent = 0.0
        for one in await self.plans.steps(plan.id):
            if one.work_order is not None:
                spent += sum(run.usd for run in await self._runs.of_order(one.work_order))
        return self._outside.roster().rules.costs(spent + self._usd())

    def _usd(self) -> float:
        """The most that one order to the Hands of the rules may cost."""
        roster = self._outside.roster()
        spec = roster.specs.get(roster.rules.hands)
        return spec.usd if isinstance(spec, ClaudeSpec) else 0.0
