"""Local agents beside the Director: each has its own window on the one model, its own tools, and knows its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from memory.database import Database
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House
from tools.registry import create_server

pytestmark = pytest.mark.anyio

TABLES = """
[builder]
tools = ["recall"]

[critic]
instructions = "You object to everything."

[elsewhere]
role = "builder"
model = "another/model"

[wrong]
role = "builder"
tools = ["shell"]
"""


async def invoke(house: House, **arguments: Any) -> str:
    async with Client(create_server(house, version="test")) as client:
        return text(await client.call_tool("invoke_agent", {"wait_s": 60, **arguments}))


def call(**arguments: str) -> str:
    given = ", ".join(f'"{name}": "{one}"' for name, one in arguments.items())
    return f'<tool_call>{{"name": "invoke_agent", "arguments": {{{given}}}}}</tool_call>'


async def test_local_agents_answer_at_the_same_time_from_windows_of_their_own(home: Path, database: Database) -> None:
    (home / "agents.toml").write_text(TABLES)
    answers: dict[str, str] = {}
    async with open_house(home, database, parrot(home / "models" / "p", "Aye.")) as house:

        async def ask(name: str) -> None:
            answers[name] = await invoke(house, agent=name, task=f"what about {name}?")

        async with anyio.create_task_group() as tasks:
            for name in ("director", "builder", "critic"):
                tasks.start_soon(ask, name)
        engine, memory = await house.engine.get(), await house.memory.get()
        openings = {}
        for name in ("director", "builder", "critic"):
            assert answers[name].startswith("Aye.")
            window = await memory.windows.get(name)
            assert window is not None
            assert len(window.turns) == 2
            assert tuple(window.ids[: len(engine.ids(name))]) == engine.ids(name)
            openings[name] = window.opening.text
        assert "You are the critic of this Soul, named critic.\nYou object to everything." in openings["critic"]
        assert "You carry out one step at a time" in openings["builder"]
        said = await invoke(house, agent="elsewhere", task="x")
        assert "The model another/model is not on this disk, and downloads are switched off" in said
        assert "asks for a tool 'shell'" in await invoke(house, agent="wrong", task="x")


async def test_a_full_window_of_a_local_agent_is_opened_anew_and_the_notebook_stays(
    home: Path, database: Database
) -> None:
    (home / "agents.toml").write_text("[builder]\ntokens = 64\n")
    model = parrot(home / "models" / "p", "Aye.")
    async with open_house(home, database, model, context_tokens=2048) as house:
        memory = await house.memory.get()
        before = (await memory.notebook.current()).version
        for _ in range(16):
            assert (await invoke(house, agent="builder", task="stone " * 90)).startswith("Aye.")
        window = await memory.windows.get("builder")
        assert window is not None
        assert len(window.turns) < 32
        assert len(window.ids) <= 2048
        assert (await memory.notebook.current()).version == before
        assert "has no room for it" in await invoke(house, agent="builder", task="stone " * 2000)


@pytest.mark.parametrize(
    ("called", "words"),
    [
        ("builder", "An agent cannot call itself"),
        ("director", "Only the Director calls other agents"),
        ("critic", "Only the Director calls other agents"),
    ],
)
async def test_only_the_director_calls_other_agents_and_nobody_calls_itself(
    home: Path, database: Database, called: str, words: str
) -> None:
    (home / "agents.toml").write_text('[builder]\ntools = ["invoke_agent"]\n\n[critic]\n')
    model = parrot(home / "models" / "p", [call(task="go on", agent=called), "Then not."])
    async with open_house(home, database, model) as house:
        assert (await invoke(house, agent="builder", task="ask around")).startswith("Then not.")
        results = await database.fetch("SELECT prose FROM packets WHERE agent = 'builder' AND kind = 'result'")
        assert [words in row["prose"] for row in results] == [True]
