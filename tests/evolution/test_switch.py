"""A promotion and a rollback while the house is open: no turn is cut, and what an agent had computed is there again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from agents.agent import Answer, Task
from engine.engine import Engine, Finished, Sampling
from engine.seedling.weights import seedling
from evolution.generations import Generations
from evolution.integrate import integrate
from evolution.ties import Ties
from memory.database import Database
from server.building import open_engine
from server.commands_evolution import go_over
from server.settings import Settings
from tests.evolution.making import adapter, quiet
from tests.houses import open_house
from tools.house import House

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def living(home: Path, database: Database) -> AsyncIterator[House]:
    """A house whose model is the generation in force of its home."""
    base = seedling()
    integrate(home, base, [adapter("week-1", base, 1, size=0.5)], Ties(1.0), setting="seedling", report=quiet)
    settings = Settings(home, model="seedling", download=False)
    async with open_house(home, database, None, engine_opener=lambda part: open_engine(part, settings)) as house:
        await house.engine.get(60)
        yield house


async def ask(house: House, text: str) -> Answer:
    agents = await house.agents.get()
    return await agents.director.answer(Task(text, (), "", "test", "s"), lambda _: None)


async def told(_what: str, _share: float | None) -> None:
    """Progress that nobody looks at."""


async def continued(engine: Engine) -> Finished:
    """What the Director would say next; its context is left as it was."""
    held = len(engine.ids("director"))
    asked = [*engine.chat.turn("user", "And the lighthouse?"), *engine.chat.reply_start()]
    finished = [
        event
        async for event in engine.generate("director", asked, Sampling(max_tokens=16))
        if isinstance(event, Finished)
    ]
    await engine.truncate("director", held)
    return finished[0]


async def test_after_a_rollback_the_next_answer_comes_from_the_old_cache_bit_for_bit(
    home: Path, database: Database
) -> None:
    generations = Generations(home)
    async with living(home, database) as house:
        await ask(house, "Where is the harbour?")
        engine = await house.engine.get()
        director = (await house.agents.get()).director
        await director.reread()  # closes the answer's turn, as it does below
        ids, anchor = engine.ids("director"), engine.info.fingerprint
        before = await continued(engine)

        generations.promote(1, unjudged=True)
        merged = await go_over(house, told)
        await director.reread()
        assert merged.info.fingerprint != anchor
        assert merged.ids("director")[: len(ids)] == ids
        assert (await continued(merged)).ids != before.ids

        generations.rollback()
        back = await go_over(house, told)
        await director.reread()  # what was only tried, and cut again, may be on disk
        assert back.info.fingerprint == anchor
        assert back.ids("director") == ids
        after = await continued(back)
        assert after.ids == before.ids
        assert after.cached_tokens >= len(ids) - 1


async def test_a_turn_in_flight_ends_on_the_old_weights_and_the_next_begins_on_the_new(
    home: Path, database: Database
) -> None:
    async with living(home, database) as house:
        anchor = (await house.engine.get()).info.fingerprint
        answers: list[Answer] = []
        began = anyio.Event()

        async def long_one() -> None:
            director = (await house.agents.get()).director
            task = Task("Tell me everything.", (), "", "test", "s")
            answers.append(await director.answer(task, lambda progress: began.set() if progress.tokens else None))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(long_one)
            await began.wait()
            Generations(home).promote(1, unjudged=True)
            merged = await go_over(house, told)
            assert len(answers) == 1
        assert answers[0].report.written > 1
        assert merged.info.fingerprint != anchor
        after = await ask(house, "And now?")
        assert after.report.written > 0
