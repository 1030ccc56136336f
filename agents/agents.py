"""The agents of the house, opened together: the Director, the jobs, the work orders, the plans.

Knows how they hang together and what is done when the daemon comes up; each thing itself is in its own module.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import structlog
from anyio.abc import TaskGroup

from agents import roster
from agents.agent import Agent
from agents.controller import Controller
from agents.director import Director
from agents.dispatch import Dispatch
from agents.household import Household
from agents.jobs import Jobs
from agents.orders import Orders
from agents.outside import Outside
from agents.planner import Planner
from agents.pressure import PRESSURE
from agents.runs import Runs
from agents.toolbox import Toolbox
from agents.turn import TurnLimits
from engine.errors import SoulError

if TYPE_CHECKING:
    from engine.engine import Engine
    from memory.memory import Memory

log = structlog.get_logger()


@dataclass(frozen=True)
class Agents:
    """Who thinks and acts in this house."""

    director: Director
    jobs: Jobs
    orders: Orders
    runs: Runs
    dispatch: Dispatch
    outside: Outside
    household: Household
    planner: Planner
    controller: Controller
    tasks: TaskGroup
    """Ends with the agents."""

    @asynccontextmanager
    async def resting(self) -> AsyncGenerator[None]:
        """Waits for every turn that runs and lets none begin until the block ends."""
        async with AsyncExitStack() as stack:
            for agent in (self.director, *self.household.awake()):
                await stack.enter_async_context(agent.resting())
            yield

    def reread(self) -> None:
        """Lets every agent read its window in the background, for a model that was exchanged."""
        for agent in (self.director, *self.household.following()):
            self.tasks.start_soon(_reread, agent)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        memory: Memory,
        engine: Callable[[float], Awaitable[Engine]],
        toolbox: Toolbox,
        home: Path,
        roots: tuple[Path, ...] = (),
        limits: TurnLimits | None = None,
        pressure: float = PRESSURE,
    ) -> AsyncGenerator[Agents]:
        """Opens them over `memory`; `engine` is asked for (with seconds to wait) when a model is needed, so
        orders work without one. `home` holds agents.toml; Hands of ours may work under `roots` alone. `pressure` is the
        share of the context at which a window is let go.

        Jobs that ran in a daemon that is gone are marked interrupted, and their orders are settled. On leaving, running
        jobs are cancelled.
        """
        async with anyio.create_task_group() as tasks:
            jobs = Jobs(memory.database, tasks)
            await jobs.recover()
            director = Director(memory, engine, toolbox, limits or _limits(home), pressure)
            orders = Orders(memory.database)
            runs = Runs(memory.database, orders)
            outside = Outside(lambda: roster.read(home), home, roots)
            household = Household(memory, engine, toolbox, lambda text: outside.roster().rules.names(text))
            dispatch = Dispatch(director, household, jobs, orders, runs, outside)
            await dispatch.recover()
            planner = Planner(memory, director, household, jobs, orders, runs, dispatch, outside, tasks)
            await planner.recover()
            tasks.start_soon(planner.run, name="plans")
            controller = Controller(memory, director, outside)
            tasks.start_soon(controller.run, name="controller")
            yield cls(director, jobs, orders, runs, dispatch, outside, household, planner, controller, tasks)
            tasks.cancel_scope.cancel()


async def _reread(agent: Agent) -> None:
    try:
        await agent.reread()
    except SoulError as error:  # the next turn reads it, and says what is wrong
        log.warning("a window was not read beforehand", agent=agent.name, reason=str(error))


def _limits(home: Path) -> TurnLimits:
    """The Director's limits as its table in agents.toml has them; a broken file must not keep the house shut."""
    try:
        spec = roster.read(home).specs.get("director")
    except SoulError as error:
        log.error("agents.toml cannot be used", error=str(error))
        return TurnLimits()
    return TurnLimits(spec.steps, spec.tokens, spec.seconds) if isinstance(spec, roster.LocalSpec) else TurnLimits()
