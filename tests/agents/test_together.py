"""Local agents, one of them on a model of its own, and two jobs of the Hands at once.

Nobody waits for another's prefill longer than one chunk.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from engine.compute import ComputeThread
from engine.engine import Engine, EngineConfig
from engine.runs import Generation, _Prefilling  # pyright: ignore[reportPrivateUsage]
from memory.database import Database
from tests.agents.workers import roster, worker
from tests.drawn import untrained
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House, Part
from tools.registry import create_server

pytestmark = pytest.mark.anyio

CHUNK = 64
TABLES = "\n[builder]\ntokens = 64\n\n[majordomo]\ntokens = 64\n\n[critic]\nmodel = {}\n"


class Rounds:
    """What each round of the compute thread did: chunks read, and which of those that decoded got their token."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chunks: list[int] = []
        self.left_out: list[str] = []
        self.both = 0
        chunk, turn = _Prefilling.chunk, ComputeThread._round  # pyright: ignore[reportPrivateUsage]

        def counted(prefilling: Any) -> bool:
            self.chunks[-1] += 1
            return chunk(prefilling)

        def watched(thread: Any) -> None:
            speaking = [run for run in thread.runs if isinstance(run, Generation) and run.phase == "decode"]
            decoding = [(run, len(run.context.ids)) for run in speaking]
            self.chunks.append(0)
            turn(thread)
            self.both += bool(decoding and self.chunks[-1])
            here = thread.runs
            self.left_out += [
                run.context.name for run, length in decoding if run in here and len(run.context.ids) == length
            ]

        monkeypatch.setattr(_Prefilling, "chunk", counted)
        monkeypatch.setattr(ComputeThread, "_round", watched)


async def test_nobody_waits_longer_than_one_chunk(
    home: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(monkeypatch)
    model = untrained(home / "models")
    answers: list[str] = []

    @asynccontextmanager
    async def small_chunks(part: Part[Any]) -> AsyncGenerator[Engine]:
        config = EngineConfig(home, model=str(model), download=False, prefill_chunk=CHUNK)
        async with Engine.open(config, part.report) as opened:
            yield opened

    async def ask(house: House, agent: str) -> None:
        async with Client(create_server(house, version="test")) as client:
            task = f"Say of {agent}: " + "one thing and another, " * 20
            given = {"agent": agent, "task": task, "wait_s": 120}
            answers.append(text(await client.call_tool("invoke_agent", given)))

    with tempfile.TemporaryDirectory(prefix="soul-work-") as work:
        roster(home, worker(home / "bin", 'report("final: done")'), Path(work))
        with (home / "agents.toml").open("a") as file:
            file.write(TABLES.format(json.dumps(str(parrot(home / "models" / "other", "Nay.", prefers="proceed")))))
        opening = open_house(home, database, model, engine_opener=small_chunks, roots=(Path(work),))
        async with opening as house, anyio.create_task_group() as tasks:
            await house.engine.get(60)
            for agent in ("director", "builder", "majordomo", "critic", "coder", "coder"):
                tasks.start_soon(ask, house, agent)
    assert len(answers) == 6
    assert sum(answer.startswith("Nay.") for answer in answers) == 1
    assert sum("final: done" in answer for answer in answers) == 2
    assert sum(rounds.chunks) > 15
    assert rounds.both > 5, "some read while others wrote"
    assert max(rounds.chunks) == 1
    assert rounds.left_out == []
