"""A daemon's share of work orders, in a process that may be killed at any moment: settle, send out, decide as a person.

Usage: python -m bench.orders.worker HOME URL ORDERS SEED. Ends when ORDERS orders are there and all of them are closed.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import anyio

from agents.agents import Agents
from agents.hands.outcome import Outcome
from agents.orders import Order, ReviewVerdict
from agents.toolbox import Toolbox
from agents.turn import Progress
from engine.engine import Engine
from engine.errors import Conflict, NotFound, Unavailable
from memory.database import Database, DatabaseConfig
from memory.memory import Memory

FAULTS = ("none", "none", "none", "none", "kill", "hang", "garbage", "status", "login")
VERDICTS: tuple[ReviewVerdict, ...] = ("accept", "accept", "reject", "revise")
AT_ONCE = 8
COUNT = "SELECT count(*) FROM orders"


async def no_engine(seconds: float) -> Engine:
    raise Unavailable("There is no model here.", "A person decides.")


async def main(home: Path, url: str, number: int, seed: int) -> None:
    dice = random.Random(seed)
    async with (
        Database.open(DatabaseConfig(home=home, url=url, pool_size=AT_ONCE)) as database,
        Memory.open(database, None, (home,)) as memory,
        Agents.open(memory, no_engine, Toolbox(), home, (home.parent,)) as agents,
    ):
        limit = anyio.CapacityLimiter(AT_ONCE)

        async def see_through(order: Order) -> None:
            async with limit:
                await _see_through(agents, order, dice)

        async with anyio.create_task_group() as tasks:
            for order in await agents.orders.unfinished():
                if order.state == "reported":
                    tasks.start_soon(see_through, order)
            for _ in range(number - await database.fetchval(COUNT)):
                name = dice.choice(("once", "again"))
                task = f"fault={dice.choice(FAULTS)}"
                tasks.start_soon(_place, agents, name, task, see_through, limit)
        # What was taken up again after a kill runs in jobs that nobody here started.
        while agents.jobs.running:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        for order in await agents.orders.unfinished():
            await see_through(order)


async def _place(agents: Agents, name: str, task: str, see_through: object, limit: anyio.CapacityLimiter) -> None:
    async with limit:
        order = await agents.orders.add(task, [], "", [], {}, "bench", "", name, {"rounds": 2, "minutes": 1})
        await _wait(agents, order)
    await see_through(await agents.orders.get(order.id))  # type: ignore[operator]


async def _wait(agents: Agents, order: Order) -> None:
    async def told(progress: Progress, text: str) -> None:
        pass

    await agents.jobs.wait(await agents.dispatch.send(order, critic=False), 60, told)


async def _see_through(agents: Agents, order: Order, dice: random.Random) -> None:
    """Reports again what was reported, reports late what was lost, and decides until nothing is open."""
    while (order := await agents.orders.get(order.id)).state == "reported":
        last = (await agents.orders.attempts(order.id))[-1]
        for run in await agents.runs.of_order(order.id):
            late = Outcome(last.outcome if run.state == "reported" else "late")
            try:
                await agents.runs.report(run.id, late)
            except Conflict:
                assert run.state != "reported" or late.text != last.outcome, "a repeated report was refused"
        decided, _ = await agents.orders.decide(order.id, dice.choice(VERDICTS), "", f"person {dice.random()}")
        if decided.state == "revise":
            try:
                await _wait(agents, decided)
            except NotFound:
                return


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
