"""`kill -9` around a flush; the long form is `python -m bench.flush`. And a server that dies in the middle of one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agents.agent import Task
from agents.turn import Progress
from bench.flush.killing import models, run, violations
from memory.database import Database, DatabaseConfig
from tests.houses import open_house

pytestmark = pytest.mark.anyio

POINTS = 15


@pytest.mark.timeout(600)  # two minutes alone on two cores, and more beside other tests
async def test_kills_around_a_flush_leave_every_turn_in_the_store_and_the_notebook_whole(
    home: Path, clone_url: str
) -> None:
    outcome = await run(home, clone_url, POINTS, seed=7)
    assert outcome.violations == []
    assert outcome.points == POINTS
    assert outcome.flushes > POINTS // 2


def test_what_must_not_be_is_noticed() -> None:
    rows: dict[str, list[Any]] = {
        "turns": [{"role": "user", "content": "Task from person:\nQuestion 1: x", "packet": 1, "id": None}],
        "twice": [{"id": 1}],
        "kept": [{"session": "turn 1", "said": 1, "answers": 0}, {"session": "turn 2", "said": 2, "answers": 1}],
        "notebooks": [{"version": 2, "content": "half of", "author": "director"}],
        "flushes": [{"state": "held"}, {"state": "rewritten"}],
    }
    found = " ".join(violations(rows, "# Notebook (version 1)\nother\n\n# Mounted corpora\nnone", {1}, last=True))
    for said in (
        "is not in the store",
        "twice in the store",
        "question 1 was answered and is kept as (1, 0)",
        "question 2 is kept as (2, 1)",
        "the window holds questions [1]",
        "versions are [2]",
        "is not whole",
        "none of its versions",
        "unfinished flushes",
    ):
        assert said in found


@pytest.mark.parametrize("step", ["rewriting", "archiving", "opening a new one"])
async def test_a_database_that_dies_in_mid_flush_is_brought_back_and_the_flush_ends(
    copied_home: Path, step: str
) -> None:
    model = models(copied_home)[0]
    async with (
        Database.open(DatabaseConfig(home=copied_home)) as database,
        open_house(copied_home, database, model, context_tokens=4096) as house,
    ):
        director = (await house.agents.get()).director
        await director.answer(Task("Question 1", (), "", "person", "s"), lambda _progress: None)
        killed: list[int] = []

        def report(progress: Progress) -> None:
            pid = database.status().pid
            if step in progress.stage and not killed and pid is not None:
                killed.append(pid)
                os.kill(pid, signal.SIGQUIT)  # Postgres' own crash: no goodbye, recovery at the next start

        done = await director.flush(report)
        assert killed
        assert (done.version, done.resumed) == (1, False)
        memory = await house.memory.get()
        assert len(await memory.notebook.history()) == 1
        window = await memory.windows.get("director")
        assert window is not None
        assert window.turns == ()
        assert await memory.packets.count(kind="said") == 1
