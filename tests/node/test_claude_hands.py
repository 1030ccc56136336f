"""The real `claude` command as the Hands of Soul, over a scripted stand-in of the Messages API."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree

import pytest
from mcp import Client

from agents.orders import Order
from memory.database import Database
from tests.agents.workers import roster
from tests.houses import open_house, text
from tests.models import parrot
from tests.node.messages_api import Asked, Block, MessagesApi, messages_api, use
from tools.house import House
from tools.registry import create_server

pytestmark = [pytest.mark.anyio, pytest.mark.node, pytest.mark.timeout(180)]

CLAUDE = Path(__file__).parent / "node_modules" / ".bin" / "claude"
JUDGES = {"": "proceed", "draft": "revise", "final": "accept"}
Script = Callable[[Asked], list[Block]]


@pytest.fixture
def work() -> Iterator[Path]:
    if not CLAUDE.exists():
        pytest.skip("run `make protocol`, which installs the claude command into tests/node")
    folder = Path(tempfile.mkdtemp(prefix="soul-work-"))
    yield folder
    rmtree(folder)


@asynccontextmanager
async def house_with(
    home: Path, database: Database, work: Path, script: Script, monkeypatch: pytest.MonkeyPatch, **limits: object
) -> AsyncGenerator[tuple[House, MessagesApi]]:
    """A house whose coder is the real claude, which talks to `script`."""
    names = ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"]
    with messages_api(script) as api:
        monkeypatch.setenv("HOME", str(home / "person"))
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        if limits.pop("key", True):
            monkeypatch.setenv("ANTHROPIC_API_KEY", "not-a-key")
        else:
            monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        (home / "person").mkdir()
        roster(home, CLAUDE, work, **{"tools": ["Read", "Write"], "environment": names, **limits})
        model = parrot(home / "models" / "judge", {"": "So it is."}, prefers=JUDGES)
        async with open_house(home, database, model, roots=(work,)) as house:
            yield house, api


async def invoke(house: House, task: str) -> tuple[str, Order]:
    async with Client(create_server(house, version="test")) as client:
        said = text(await client.call_tool("invoke_agent", {"agent": "coder", "task": task, "wait_s": 120}))
    (order,) = await (await house.agents.get()).orders.recent()
    return said, order


def report(outcome: str, *artifacts: str) -> Block:
    return use("StructuredOutput", outcome=outcome, artifacts=list(artifacts))


async def test_claude_carries_an_order_out_is_told_to_revise_and_goes_on_in_its_session(
    home: Path, database: Database, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = work / "proof.txt"

    def script(asked: Asked) -> list[Block]:
        revised = "was reviewed by" in str(asked.messages)
        steps = {
            (False, 0): use("Write", file_path=str(proof), content="draft: some hours\n"),
            (False, 1): report("Wrote a draft.", "proof.txt"),
            (True, 2): use("Read", file_path=str(proof)),
            (True, 3): use("Write", file_path=str(proof), content="final: 24 hours, cold\n"),
        }
        return [steps.get((revised, len(asked.results)), report("Wrote the final time.", "proof.txt"))]

    async with house_with(home, database, work, script, monkeypatch) as (house, api):
        said, order = await invoke(house, "--help is not an option here: write the proofing time into proof.txt")
        agents = await house.agents.get()
        attempts = await agents.orders.attempts(order.id)
        runs = await agents.runs.of_order(order.id)
    assert order.state == "accepted", said
    assert [one.verdict for one in attempts] == ["revise", "accept"]
    assert attempts[1].artifacts == ("proof.txt",)
    assert proof.read_text() == "final: 24 hours, cold\n"
    assert runs[0].session == runs[1].session != ""
    assert runs[0].usd > 0
    assert "Task: --help is not an option here" in str(api.asked[0].messages)
    assert set(api.asked[0].tool_names) == {"Read", "Write", "StructuredOutput"}, "it has these tools and no MCP server"


async def test_claude_cannot_leave_its_folder_and_what_was_denied_is_said(
    home: Path, database: Database, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = home / "person" / "diary.txt"
    # What a project's settings allow does not count.
    (work / ".claude").mkdir()
    (work / ".claude" / "settings.json").write_text('{"permissions": {"defaultMode": "bypassPermissions"}}')
    (work / "link").symlink_to(home / "person")

    def script(asked: Asked) -> list[Block]:
        steps = [
            use("Write", file_path=str(outside), content="was here"),
            use("Write", file_path=str(work / "link" / "diary.txt"), content="was here"),
            use("Read", file_path=str(home / "agents.toml")),
            use("Glob", pattern=f"{home}/*"),
            use("Glob", pattern=f"{{{home}/*,*}}"),
            use("Glob", pattern="*", path=str(home)),
            use("Grep", pattern="coder", path=str(home)),
            use("Glob", pattern="*.md"),
            report("final: could not"),
        ]
        return [steps[min(len(asked.results), len(steps) - 1)]]

    (work / "mine.md").touch()
    tools = ["Read", "Write", "Glob", "Grep"]
    async with house_with(home, database, work, script, monkeypatch, tools=tools, turns=12) as (house, api):
        said, order = await invoke(house, "write my diary")
        results = api.asked[-1].results
        assert "denied" in results[0]
        assert not any("agents.toml" in result for result in results[3:7]), "not even names are seen"
        assert "must stay below the working folder" in results[3]
        assert "mine.md" in results[7]
    assert not outside.exists()
    assert order.state == "accepted"
    assert "Refused to the Hands" in said
    assert said.count("diary.txt") == 2
    assert "Read" in said


@pytest.mark.parametrize(
    ("limits", "cause", "words"),
    [
        ({"turns": 2}, "turn limit", "used its 2 turns"),
        ({"usd": 0.0001}, "money limit", "spent its 0.0001 US dollars"),
        ({"key": False}, "not logged in", "Run `claude` once"),
    ],
)
async def test_limits_and_a_missing_login_are_told_apart(
    home: Path,
    database: Database,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, object],
    cause: str,
    words: str,
) -> None:
    (work / "a.txt").write_text("a")

    def script(asked: Asked) -> list[Block]:
        return [use("Read", file_path=str(work / "a.txt"))]

    async with house_with(home, database, work, script, monkeypatch, **limits) as (house, _):
        said, order = await invoke(house, "read on and on")
        (run,) = await (await house.agents.get()).runs.of_order(order.id)
    assert words in said
    assert (order.state, run.state, run.cause) == ("failed", "failed", cause)
