"""Orders that Soul sends out itself: the critic, the Hands, the report, the review, and again until it is decided.

Knows the path of an order and who is called when; the rows are `agents.runs`', the Hands are `agents.hands`'. Whatever
happens, an order ends in one state: what the Hands did not report has failed, and is not run again unless its agent is
marked safe to repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import anyio.to_thread
import structlog

from agents.fence import fenced
from agents.hands.outcome import Assignment, HandsFailed, Outcome
from agents.hands.process import end_orphans
from agents.hands.words import again, first
from agents.orders import Attempt, Order, Orders
from agents.outside import Outside
from agents.reviewing import review
from agents.roster import ApiSpec, ClaudeSpec
from agents.turn import Progress
from engine.errors import Conflict, SoulError

if TYPE_CHECKING:
    from agents.director import Director
    from agents.household import Household
    from agents.jobs import Jobs
    from agents.runs import Runs

log = structlog.get_logger()

NOT_REPEATED = (
    "The daemon ended while this order was out; it is not run again, since {agent} is not marked safe_to_repeat in "
    "agents.toml. Look at what it did, then give a new order."
)


class Dispatch:
    """Sends orders out and brings them home."""

    def __init__(
        self, director: Director, household: Household, jobs: Jobs, orders: Orders, runs: Runs, outside: Outside
    ) -> None:
        self._director = director
        self._household = household
        self._jobs = jobs
        self._orders = orders
        self._runs = runs
        self._outside = outside

    async def send(self, order: Order, critic: bool = True) -> UUID:
        """Starts the order's job and returns its id. A revised order goes on where its Hands stopped.

        Raises:
            NotFound, InvalidInput: its agent is not, or not rightly, in agents.toml.
            Forbidden: its folder is not allowed.
        """
        spec = self._outside.spec(order.agent)
        self._outside.folder(spec, order)

        async def work(report: Callable[[Progress], None]) -> str:
            try:
                return await self._carry_out(order, spec, critic and order.state == "open", report)
            except BaseException as error:
                # What was begun has its end already; this is for what could not even begin.
                with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                    why = str(error) if isinstance(error, SoulError) else f"It was not begun: {type(error).__name__}."
                    await self._runs.close_unbegun(order.id, why)
                raise

        return await self._jobs.start(order.agent, order.task, order.client, order.session, work)

    async def recover(self) -> None:
        """Settles what a daemon that is gone left behind: its processes, its runs, its orders."""
        for run in await self._runs.running():
            killed = await anyio.to_thread.run_sync(end_orphans, str(run.id), run.pid, run.pid_started)
            repeats = self._repeats(run.agent)
            why = NOT_REPEATED.format(agent=run.agent)
            await self._runs.fail(run.id, "lost", "daemon ended", why, again=repeats)
            log.warning("a run was lost with its daemon", order=str(run.work_order), killed=killed, repeats=repeats)
        for id in await self._runs.unbegun():
            order = await self._orders.get(id)
            try:
                if self._repeats(order.agent):
                    await self.send(order, critic=False)
                    continue
                why = NOT_REPEATED.format(agent=order.agent)
            except SoulError as error:
                why = str(error)
            await self._runs.close_unbegun(id, why)

    def _repeats(self, agent: str) -> bool:
        try:
            return self._outside.spec(agent).safe_to_repeat
        except SoulError:
            return False  # it is not in agents.toml any more, or the file is broken

    async def _carry_out(
        self, order: Order, spec: ClaudeSpec | ApiSpec, critic: bool, report: Callable[[Progress], None]
    ) -> str:
        if critic and (objection := await self._objection(order, spec, report)):
            return objection
        while True:
            outcome, attempt = await self._run(order, spec, report)
            await self._director.record(
                order.session,
                "outcome",
                attempt.outcome,
                "hands",
                order.id,
                artifacts=list(attempt.artifacts),
                number=attempt.number,
                agent=spec.name,
            )
            report(Progress("the Director reviews"))
            reviewed = await review(self._director, self._orders, order, attempt, order.session)
            order = reviewed.order
            if order.state != "revise":
                return _told(reviewed.words, spec.name, outcome)

    async def _objection(
        self, order: Order, spec: ClaudeSpec | ApiSpec, report: Callable[[Progress], None]
    ) -> str | None:
        report(Progress("the critic reads the order"))
        try:
            critic = self._outside.roster().at_home("critic")
            model = self._household.model(critic)
            judgement = await self._director.object(order, spec.name, critic.instructions, model)
        except SoulError as error:
            log.info("no critic", order=str(order.id), error=str(error))
            return None
        said = f"{judgement.words}\n{judgement.reason}"
        await self._director.record(order.session, "review", said, "critic", order.id, binding=judgement.binding)
        if not judgement.binding or judgement.choice != "object":
            return None
        await self._orders.refuse(order.id, f"The critic objected: {judgement.reason}")
        return (
            f"Work order {order.id} was not sent out. The critic objected: {judgement.reason}\n"
            "Word it anew, with what the objection asks for."
        )

    async def _run(
        self, order: Order, spec: ClaudeSpec | ApiSpec, report: Callable[[Progress], None]
    ) -> tuple[Outcome, Attempt]:
        attempts = await self._orders.attempts(order.id)
        session = await self._runs.session(order.id)
        words = (
            again(order, spec.instructions, attempts[-1], bool(session))
            if attempts
            else first(order, spec.instructions)
        )
        folder = self._outside.folder(spec, order)
        hands = self._outside.hands(spec)
        run = await self._runs.begin(order.id)
        report(Progress(f"{spec.name} works"))

        async def started(pid: int, when: float) -> None:
            await self._runs.process(run, pid, when)

        try:
            outcome = await hands.carry_out(Assignment(run, words, folder, session), started)
            return outcome, await self._runs.report(run, outcome)
        except BaseException as error:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._fail(run, order, error)
            raise

    async def _fail(self, run: UUID, order: Order, error: BaseException) -> None:
        if isinstance(error, HandsFailed):
            cause, why = error.cause, str(error)
        elif isinstance(error, Conflict):
            return  # settled by somebody else; the report came too late
        elif isinstance(error, SoulError):
            cause, why = "service", str(error)
        elif isinstance(error, Exception):
            cause, why = "service", f"{type(error).__name__}; see logs/daemon.log."
        else:
            cause, why = "cancelled", "The job was cancelled while the Hands worked."
        await self._runs.fail(run, "failed", cause, why)
        await self._director.record(order.session, "event", f"The Hands failed ({cause}): {why}", "soul", order.id)


def _told(verdict: str, name: str, outcome: Outcome) -> str:
    """The verdict, then the outcome as data: whoever reads this must not follow what the Hands wrote."""
    lines = [verdict, "", fenced(outcome.words, f"outcome reported by {name}")]
    if outcome.artifacts:
        lines.append(fenced("\n".join(outcome.artifacts), f"artifacts named by {name}"))
    cost = f", {outcome.usd:.4f} US dollars" if outcome.usd else ""
    return "\n".join([*lines, f"({name}: {outcome.tokens:,} tokens{cost})"])
