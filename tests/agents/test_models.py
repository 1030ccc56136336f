"""Agents with models of their own: all answer at the same time, each from its own window, cache format and context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from agents.roster import parse
from engine.errors import InvalidInput
from memory.database import Database
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House
from tools.registry import create_server

pytestmark = pytest.mark.anyio


async def invoke(house: House, **arguments: Any) -> str:
    async with Client(create_server(house, version="test")) as client:
        return text(await client.call_tool("invoke_agent", {"wait_s": 60, **arguments}))


async def test_agents_of_two_models_answer_at_the_same_time_and_go_on_after_a_restart(
    home: Path, database: Database
) -> None:
    first = parrot(home / "models" / "p", "Aye.")
    second = parrot(home / "models" / "q", "Nay.", name="contrary")
    (home / "agents.toml").write_text(
        f"""
[builder]

[critic]
model = "{second}"

[majordomo]
model = "contrary"
kv_format = "q8"
context = 2048
tokens = 64
"""
    )
    answers: dict[str, str] = {}
    expected = {"director": "Aye.", "builder": "Aye.", "critic": "Nay.", "majordomo": "Nay."}
    async with open_house(home, database, first) as house:

        async def ask(name: str) -> None:
            answers[name] = await invoke(house, agent=name, task=f"what about {name}?")

        async with anyio.create_task_group() as tasks:
            for name in ("director", "builder", "critic"):
                tasks.start_soon(ask, name)
        await ask("majordomo")
        assert {name: answer[:4] for name, answer in answers.items()} == expected
        engine = await house.engine.get()
        kept = [(one.info.name, one.status().kv_form, one.exists("critic")) for one in engine.companions.engines]
        assert kept == [("parrot", "exact", False), ("contrary", "exact", True), ("contrary", "q8-g64", False)]
        for name, one in (("director", 0), ("critic", 1), ("majordomo", 2)):
            assert await engine.companions.engines[one].saved(name)
        async with Client(create_server(house, version="test")) as client:
            assert "model beside it: contrary, " in text(await client.call_tool("status", {}))
        said = await invoke(house, agent="majordomo", task="stone " * 2500)
        assert "the context of 2,048 has no room for it" in said

    async with open_house(home, database, first) as house:
        for name in ("director", "critic", "majordomo"):
            again = await invoke(house, agent=name, task="And now?")
            assert again.startswith(expected[name])
            cached = int(again.split(" cached")[0].split()[-1].replace(",", ""))
            assert cached > 200, f"{name} went on from its cache on disk"


def test_what_the_director_thinks_on_is_a_setting_of_the_house() -> None:
    for body, setting in (
        ('model = "x"', "model"),
        ("context = 4096", "context_tokens"),
        ('kv_format = "q8"', "kv_format"),
    ):
        with pytest.raises(InvalidInput, match=rf"line 2: the Director's .*Set `{setting}` in config.toml"):
            parse(f"[director]\n{body}\n", Path("agents.toml"))
    with pytest.raises(InvalidInput, match="line 2: `kv_format` cannot be 'q4'"):
        parse('[builder]\nkv_format = "q4"\n', Path("agents.toml"))
