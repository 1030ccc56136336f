"""A daemon's share of plans, in a process that may be killed at any moment: make them, see them through.

Usage: python -m bench.orders.plan_worker HOME URL PLANS SEED, with a model in HOME/models/p. Ends when PLANS plans are
there and all of them have ended; says a person's word where one is waited for. Each plan has a step at home, one for
the Hands, and one at home again.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import anyio

from agents.agents import Agents
from agents.planning import Draft, placed
from agents.toolbox import Toolbox
from engine.engine import Engine, EngineConfig
from memory.database import Database, DatabaseConfig
from memory.memory import Memory

STEPS = (
    Draft(role="builder", task="Recall the number.", acceptance="It is said.", needs=("memory",), after=()),
    Draft(role="builder", task="Write it down.", acceptance="It is written.", needs=("files",), after=(1,)),
    Draft(role="builder", task="Say what was written.", acceptance="It is said.", needs=("thought",), after=(2,)),
)
COUNT = "SELECT count(*) FROM plans"
CONNECTIONS = 6


async def main(home: Path, url: str, number: int, seed: int) -> None:
    dice = random.Random(seed)
    config = EngineConfig(home, model=str(home / "models" / "p"), download=False)
    async with (
        Database.open(DatabaseConfig(home=home, url=url, pool_size=CONNECTIONS)) as database,
        Memory.open(database, None, (home,)) as memory,
        Engine.open(config) as engine,
    ):

        async def loaded(seconds: float) -> Engine:
            return engine

        async with Agents.open(memory, loaded, Toolbox(), home, (home.parent,)) as agents:
            planner = agents.planner
            for order in await agents.orders.unfinished():
                if order.state == "reported":  # killed in the middle of its review: a person's word is waited for
                    await agents.orders.decide(order.id, "accept", "", "person")
            for _ in range(number - await database.fetchval(COUNT)):
                decisions = placed(agents.outside.roster().rules, STEPS, "", (), "", 0.0)
                goal = f"write a number, {dice.random()}"
                plan = await planner.plans.add(goal, (), "", "bench", "", "bench", True, STEPS, decisions)
                await planner.approve(plan.id)
            for plan in await planner.plans.unfinished():
                if plan.state == "proposed":  # killed before the approval
                    await planner.approve(plan.id)
                while (await planner.plans.get(plan.id)).state == "running":
                    await planner.see_through(plan.id)
                    await anyio.sleep(0.02)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
