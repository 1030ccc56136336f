"""What the tools do, through a client of each era, over a real engine and a real database."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceLink

from engine.errors import Unavailable
from memory.database import Database
from tests.houses import open_house, text
from tests.models import parrot
from tests.tools.conftest import Call
from tools.house import House, Part
from tools.registry import create_server

pytestmark = pytest.mark.anyio


def found_id(words: str) -> str:
    return re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", words)[0]


async def resource(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    return content.text  # type: ignore[union-attr]


@pytest.fixture
def corpora(home: Path) -> tuple[Path, Path]:
    bread, stars = home / "bread", home / "stars"
    for folder, words in ((bread, "Sourdough wants a long cold proof."), (stars, "Betelgeuse is a red supergiant.")):
        folder.mkdir()
        (folder / "notes.md").write_text(f"# Notes\n\n{words}\n")
    return bread, stars


async def test_mounting_puts_a_corpus_on_and_takes_the_former_off(call: Call, corpora: tuple[Path, Path]) -> None:
    bread, stars = corpora
    assert "Indexed" in await call("mount_corpus", name="bread", path=str(bread))
    assert "[bread: notes.md:" in await call("recall", query="how long to proof sourdough")
    assert "Unmounted: bread." in await call("mount_corpus", name="stars", path=str(stars))
    words = await call("recall", query="how long to proof sourdough")
    assert "bread:" not in words
    assert "bread: notes.md" in await call("recall", query="how long to proof sourdough", corpus="*")
    assert "Mounted now: none" in await call("mount_corpus", name="stars", unmount=True)


async def test_several_corpora_are_mounted_by_their_names_with_commas(call: Call, corpora: tuple[Path, Path]) -> None:
    for folder in corpora:
        await call("mount_corpus", name=folder.name, path=str(folder))
    words = await call("mount_corpus", name="bread, stars")
    assert "Mounted bread, stars." in words
    assert "kinds: Markdown 1" in words
    for query, source in (("sourdough", "[bread: notes.md:"), ("supergiant", "[stars: notes.md:")):
        assert source in await call("recall", query=query)
    assert "Mounted now: none" in await call("mount_corpus", name="bread,stars", unmount=True)


async def test_indexing_reports_progress(client: Client, corpora: tuple[Path, Path]) -> None:
    heard: list[float] = []

    async def progress(done: float, _total: float | None, _message: str | None) -> None:
        heard.append(done)

    await client.call_tool("mount_corpus", {"name": "bread", "path": str(corpora[0])}, progress_callback=progress)
    assert heard


async def test_recall_links_each_hit_and_the_link_reads_the_whole_memory(client: Client, call: Call) -> None:
    await call("write_notebook", append="The schema is partitioned by corpus.", reason="decided")
    result = await client.call_tool("recall", {"query": "schema partitioned"})
    links = [block for block in result.content if isinstance(block, ResourceLink)]
    assert links
    assert "soul://memory/" in links[0].uri
    assert "The schema is partitioned by corpus." in await resource(client, links[0].uri)


async def test_the_notebook_counts_tokens_and_shows_what_changed(client: Client, call: Call) -> None:
    await call("write_notebook", content="port 5432\nname Ada", reason="first")
    words = await call("write_notebook", old="5432", new="5433", reason="moved")
    assert "Notebook version 2" in words
    assert "of 2,048 tokens used" in words
    assert "-port 5432\n+port 5433" in words
    assert "port 5433" in await resource(client, "soul://notebook")


async def test_the_director_answers_and_its_tokens_come_as_progress(client: Client) -> None:
    heard: list[str] = []

    async def progress(_done: float, _total: float | None, message: str | None) -> None:
        heard.append(message or "")

    result = await client.call_tool("invoke_agent", {"task": "Hello?"}, progress_callback=progress)
    assert text(result).startswith("Aye.")
    assert any(message.startswith("answering") for message in heard)


async def test_what_was_said_and_answered_is_remembered(call: Call) -> None:
    await call("invoke_agent", task="What is the port of the database?")
    assert "What is the port of the database?" in await call("recall", query="port of the database", kind="said")
    assert "Aye." in await call("recall", query="Aye", kind="answer")


async def test_a_task_that_takes_longer_becomes_a_job(call: Call) -> None:
    job = found_id(await call("invoke_agent", task="Hello?", wait_s=0))
    answer = await call("invoke_agent", job=job, wait_s=30)
    assert answer.startswith("Aye.")
    assert await call("invoke_agent", job=job) == answer


async def test_a_client_that_hangs_up_frees_the_director(house: House) -> None:
    server = create_server(house, version="t")
    async with Client(server) as client:
        with anyio.move_on_after(0.001):
            await client.call_tool("invoke_agent", {"task": "word " * 3000})
        result = await client.call_tool("invoke_agent", {"task": "Still there?"}, read_timeout_seconds=60)
        assert text(result).startswith("Aye.")


async def test_a_task_too_long_for_the_context_is_refused_with_figures(call: Call) -> None:
    words = await call("invoke_agent", task="Read this.", context="many different words " * 9000, error=True)
    assert "tokens" in words
    assert "soul corpus add" in words
    assert (await call("invoke_agent", task="And now?")).startswith("Aye.")


async def test_a_work_order_goes_out_comes_back_and_is_reviewed(client: Client, call: Call) -> None:
    words = await call("invoke_agent", agent="hands", task="Count the files", constraints=["read only"])
    order = found_id(words)
    assert "- read only" in words
    assert f'report_outcome(work_order="{order}"' in words
    verdict = await call("report_outcome", work_order=order, outcome="Counted 12 files.", artifacts=["count.txt"])
    assert "accept" in verdict
    assert "The order is closed." in verdict
    assert "is closed: accepted" in await call("report_outcome", work_order=order, outcome="Again.", error=True)
    data = json.loads(await resource(client, f"soul://orders/{order}"))
    assert data["state"] == "accepted"
    assert len(data["embedding_state"]["vector"]) == 384
    assert data["attempts"][0]["artifacts"] == ["count.txt"]


async def test_a_ratified_self_is_in_force_in_the_next_turn(client: Client, call: Call) -> None:
    words = await call("rewrite_self", proposal="I am a brief Soul.", reason="shorter", base_version=1)
    assert "Ratified: the self is now at version 2" in words
    assert "I am a brief Soul." in await resource(client, "soul://self")


async def test_an_untrained_stand_in_never_decides(home: Path, database: Database) -> None:
    model = parrot(home / "noise", "Noise.", trained=False, prefers="ratify")
    async with open_house(home, database, model) as house, Client(create_server(house, version="t")) as client:
        result = await client.call_tool("rewrite_self", {"proposal": "Obey.", "reason": "r"})
        assert "its verdict does not count" in text(result)
        assert "soul self approve" in text(result)
        order = found_id(text(await client.call_tool("invoke_agent", {"task": "Count", "agent": "hands"})))
        result = await client.call_tool("report_outcome", {"work_order": order, "outcome": "Done."})
        assert f"soul order review {order}" in text(result)
        answer = await client.call_tool("invoke_agent", {"task": "Hello?"})
        assert "untrained stand-in" in text(answer)
        survey = json.loads(await resource(client, "soul://status"))
        assert survey["memory"]["self_version"] == 1


async def test_recall_and_notebook_work_while_the_model_loads_and_after_it_failed(
    home: Path, database: Database
) -> None:
    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager
    from typing import Any

    goes_wrong = anyio.Event()

    @asynccontextmanager
    async def opener(part: Part[Any]) -> AsyncIterator[Any]:
        part.report("loading weights", 0.4)
        await goes_wrong.wait()
        raise Unavailable("model.safetensors is torn.", "Download it again.")
        yield

    async with (
        open_house(home, database, None, engine_opener=opener) as house,
        Client(create_server(house, version="t")) as client,
    ):
        written = await client.call_tool("write_notebook", {"append": "port 5433", "reason": "r"})
        assert "estimated: the model is not loaded" in text(written)
        assert "port 5433" in text(await client.call_tool("recall", {"query": "port"}))
        waiting = text(await client.call_tool("invoke_agent", {"task": "Hello?", "wait_s": 0.2}))
        assert "is still running" in waiting
        assert "model: loading, 40 % (loading weights)" in text(await client.call_tool("status", {}))
        goes_wrong.set()
        failed = await client.call_tool("invoke_agent", {"job": found_id(waiting), "wait_s": 30})
        assert failed.is_error
        assert "model.safetensors is torn. Download it again." in text(failed)
        assert "port 5433" in text(await client.call_tool("recall", {"query": "port"}))


async def test_every_resource_reads(client: Client) -> None:
    for name in ("self", "notebook", "corpora", "agents", "generations", "budget", "status"):
        assert await resource(client, f"soul://{name}"), name


async def test_a_resource_that_is_not_there_is_an_error_in_words(client: Client) -> None:
    for uri in ("soul://memory/17", "soul://memory/01a1fbd9-3180-7df2-9d79-ec37928f0db1", "soul://nothing"):
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
        assert str(caught.value)


async def test_the_prompts_render(client: Client) -> None:
    names = {prompt.name for prompt in (await client.list_prompts()).prompts}
    assert names == {"direct", "remember", "morning"}
    prompt = await client.get_prompt("direct", {"task": "rename the table"})
    assert "rename the table" in prompt.messages[0].content.text  # type: ignore[union-attr]


async def test_calls_of_a_client_are_recorded_with_their_results(call: Call, house: House) -> None:
    await call("recall", query="anything at all")
    memory = await house.memory.get()
    assert await memory.packets.count(kind="call") == 1
    assert await memory.packets.count(kind="result") == 1
