"""Forgetting: what a person wants gone is gone from every place, said before, and recorded without its words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agents.agent import Task
from agents.agents import Agents
from agents.ordering import place
from agents.planning import Draft
from agents.rules import Decision
from engine.errors import InvalidInput, NotFound
from engine.kv.removing import remove_shelves
from memory.database import Database, DatabaseConfig
from memory.forgetting import Wish
from memory.memory import Memory
from memory.notebook import replace
from memory.packets import Packet, content_hash
from memory.recall import Query
from memory.uuid7 import uuid7
from tests.houses import embedder, open_house
from tests.models import parrot
from tools.house import House

pytestmark = pytest.mark.anyio


SECRET = "My sister Ottilie lives in the yellow house at 14 Harbour Lane."
OTHER = "The harbour opens at six in the morning."


def said(prose: str, **values: Any) -> Packet:
    base: dict[str, Any] = {"id": uuid7(), "time": datetime.now(UTC), "agent": "director", "session": "s"}
    return Packet(**{**base, "sequence": 1, "kind": "said", "prose": prose, **values})


@pytest.fixture
async def memory(home: Path, database: Database) -> AsyncIterator[Memory]:
    async with Memory.open(database, embedder(), (home,)) as opened:
        yield opened


async def everywhere(database: Database, words: str) -> list[str]:
    """The tables in which these words stand."""
    tables = await database.fetch(
        """SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = 'public' AND c.relkind = 'r'"""
    )
    found: list[str] = []
    for table in tables:
        held = f"SELECT EXISTS (SELECT FROM {table['name']} t WHERE position($1 IN t::text) > 0)"
        if await database.fetchval(held, words):
            found.append(table["name"])
    return sorted(found)


async def test_a_packet_is_gone_with_everything_that_was_made_of_it(memory: Memory, database: Database) -> None:
    gone, stays = said(SECRET), said(OTHER)
    await memory.packets.write([gone, stays])
    number = await database.fetchval("SELECT no FROM traces WHERE id = $1", gone.id)
    await memory.forgetting.carry_out(Wish(ids=(gone.id,)), "person", "she asked for it")
    with pytest.raises(NotFound):
        await memory.packets.get(gone.id)
    assert await everywhere(database, "Ottilie") == []
    for statement in (
        "SELECT count(*) FROM traces WHERE no = $1",
        "SELECT count(*) FROM nearness WHERE no = $1",
        "SELECT count(*) FROM owed WHERE no = $1",
        "SELECT count(*) FROM postings, unnest(entries) e WHERE (e >> 32)::int = $1",
    ):
        assert await database.fetchval(statement, number) == 0
    assert await memory.packets.count() == 1
    (hit,) = await memory.recall.search(Query("harbour"))
    assert hit.id == stays.id


async def test_what_was_forgotten_is_recorded_without_a_word_of_it(memory: Memory, database: Database) -> None:
    packet = said(SECRET)
    await memory.packets.write([packet])
    await memory.forgetting.carry_out(Wish(ids=(packet.id,)), "person", "she asked for it")
    row = await database.fetchrow("SELECT id, by_whom, reason, content_hash, kind FROM forgotten")
    assert row is not None
    assert tuple(row) == (packet.id, "person", "she asked for it", content_hash(SECRET), "said")


async def test_a_plan_shows_what_would_go_and_changes_nothing(memory: Memory) -> None:
    packet = said(SECRET)
    await memory.packets.write([packet, said(OTHER)])
    plan = await memory.forgetting.plan(Wish(query="yellow Ottilie"))
    assert [(one.id, one.words) for one in plan.packets] == [(packet.id, SECRET)]
    assert plan.generations == ()
    assert await memory.packets.count() == 2


async def test_a_query_means_all_of_its_words(memory: Memory) -> None:
    await memory.packets.write([said(SECRET), said(OTHER)])
    assert len((await memory.forgetting.plan(Wish(query="harbour"))).packets) == 2
    with pytest.raises(NotFound, match="all of these words"):
        await memory.forgetting.plan(Wish(query="harbour zebra"))


async def test_a_wish_that_names_nothing_or_what_is_not_there_is_refused(memory: Memory) -> None:
    with pytest.raises(InvalidInput, match="Nothing is named"):
        await memory.forgetting.plan(Wish())
    with pytest.raises(NotFound, match="nothing was forgotten"):
        await memory.forgetting.plan(Wish(ids=(uuid7(),)))
    with pytest.raises(NotFound, match="no corpus"):
        await memory.forgetting.plan(Wish(corpus="nowhere"))


async def test_calls_and_results_that_quote_it_go_too_and_what_others_said_is_named(memory: Memory) -> None:
    packet, quoting = said(SECRET), said(f"You told me: {SECRET}", kind="answer")
    result = said(f"[2026-11-21] {SECRET}", kind="result", origin="tool:recall")
    await memory.packets.write([packet, quoting, result])
    plan = await memory.forgetting.carry_out(Wish(ids=(packet.id,)), "person", "")
    assert {one.id: one.quoted for one in plan.packets} == {packet.id: False, result.id: True}
    assert any(str(quoting.id) in line for line in plan.warnings)


async def test_a_notebook_that_holds_it_stays_and_is_named(memory: Memory) -> None:
    packet = said(SECRET)
    await memory.packets.write([packet])
    await memory.notebook.write(replace(f"Family: {SECRET}"), "r", "person", len)
    plan = await memory.forgetting.carry_out(Wish(ids=(packet.id,)), "person", "")
    assert "It stands word for word in notebook version 1, which stays as it is." in plan.warnings
    assert SECRET in (await memory.notebook.current()).content


async def test_generations_trained_on_it_are_named(memory: Memory) -> None:
    packet = said(SECRET, generation="generation-7")
    await memory.packets.write([packet])
    assert (await memory.forgetting.plan(Wish(ids=(packet.id,)))).generations == ("generation-7",)


async def test_a_corpus_goes_whole_and_its_files_stay(home: Path, memory: Memory, database: Database) -> None:
    (home / "family").mkdir()
    (home / "family" / "notes.md").write_text(SECRET)
    await memory.corpora.add("family", home / "family")
    plan = await memory.forgetting.plan(Wish(corpus="family"))
    assert (plan.corpus, plan.corpus_packets, plan.packets) == ("family", 1, ())
    await memory.forgetting.carry_out(Wish(corpus="family"), "person", "")
    assert await memory.corpora.list() == ()
    assert await everywhere(database, "Ottilie") == []
    assert await database.fetchval("SELECT corpus FROM forgotten") == "family"
    assert (home / "family" / "notes.md").exists()
    assert any("indexing them again" in line for line in plan.warnings)


async def test_one_passage_of_a_corpus_can_go(home: Path, memory: Memory) -> None:
    (home / "family").mkdir()
    (home / "family" / "notes.md").write_text(SECRET)
    (home / "family" / "other.md").write_text(OTHER)
    await memory.corpora.add("family", home / "family")
    await memory.forgetting.carry_out(Wish(query="Ottilie", corpus="family"), "person", "")
    assert (await memory.corpora.info("family")).chunks == 1
    assert [hit.prose for hit in await memory.recall.search(Query("harbour", corpus="family"))] == [OTHER]


@asynccontextmanager
async def house_with(home: Path, database: Database, replies: Any = "Aye.") -> AsyncIterator[House]:
    async with open_house(home, database, parrot(home / "parrot", replies)) as house:
        yield house


async def ask(house: House, words: str) -> None:
    director = (await house.agents.get()).director
    await director.answer(Task(words, (), "", "person", "s"), lambda _progress: None)


async def test_the_window_and_what_was_computed_of_it_go_on_without_it(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        memory, engine = await house.memory.get(), await house.engine.get()
        director = (await house.agents.get()).director
        await ask(house, "Good morning, nothing of note today.")
        await ask(house, SECRET)
        (packet,) = (await memory.forgetting.plan(Wish(query="Ottilie yellow"))).packets
        plan = await director.forget(Wish(ids=(packet.id,)), "person", "")
        assert plan.window_turns == 2
        assert not engine.exists("director")
        assert await everywhere(database, "Ottilie") == []
        await ask(house, "Still there?")
        window = await memory.windows.get("director")
        assert window is not None
        assert ["Good morning" in turn.content[:40] for turn in window.turns] == [True, False, False, False]
        assert "Ottilie" not in engine.chat.decode(engine.ids("director"))
        assert len(window.opening.ids) > 100


async def test_what_was_let_go_before_is_not_kept_computed_either(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        engine, director = await house.engine.get(), (await house.agents.get()).director
        await ask(house, SECRET)
        await director.flush(lambda _progress: None)
        plan = await director.forget(Wish(query="Ottilie yellow"), "person", "")
        assert (plan.window_turns, plan.opening) == (0, False)
        assert not engine.exists("director") or "Ottilie" not in engine.chat.decode(engine.ids("director"))


async def test_an_opening_that_still_tells_an_old_notebook_is_made_anew(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        memory, engine = await house.memory.get(), await house.engine.get()
        director = (await house.agents.get()).director
        packet = said(SECRET)
        await memory.packets.write([packet])
        await memory.notebook.write(replace(SECRET), "r", "person", len)
        await director.flush(lambda _progress: None)
        await memory.notebook.write(replace("Nothing of that."), "r", "person", len)
        plan = await director.forget(Wish(ids=(packet.id,)), "person", "")
        assert plan.opening
        await ask(house, "Good morning.")
        assert "Ottilie" not in engine.chat.decode(engine.ids("director"))


async def test_a_job_keeps_no_word_of_it(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        agents = await house.agents.get()

        async def work(_report: Any) -> str:
            await ask(house, SECRET)
            return f"You said: {SECRET}"

        id = await agents.jobs.start("director", SECRET, "person", "s", work)

        async def told(*_given: Any) -> None:
            return None

        await agents.jobs.wait(id, 30, told)
        plan = await agents.director.forget(Wish(query="Ottilie yellow"), "person", "")
        assert plan.records == 1
        job = await agents.jobs.get(id)
        assert (job.task, job.answer) == ("[forgotten]", "You said: [forgotten]")


async def test_an_order_no_longer_carries_it_among_its_nearest_memories(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        memory, agents = await house.memory.get(), await house.agents.get()
        gone, stays = said(SECRET), said(OTHER)
        await memory.packets.write([gone, stays])
        await place(memory, agents.director, agents.orders, "Find the harbour", (), "", "person", "s")
        await memory.forgetting.carry_out(Wish(ids=(gone.id,)), "person", "")
        assert await everywhere(database, "Ottilie") == []
        (order,) = await database.fetch("SELECT embedding_state::text AS state FROM orders")
        assert [one["id"] for one in json.loads(order["state"])["nearest"]] == [str(stays.id)]


async def reported(agents: Agents, words: str) -> UUID:
    """Both ways in which somebody reports: on a work order, and on a step of a plan at home; the plan's id."""
    order = await agents.orders.add("Ask around", (), "", ("It is said.",), {"nearest": []}, "person", "s")
    await agents.orders.report(order.id, f"They say: {words}", (), "person")
    await agents.orders.decide(order.id, "revise", f"Not only: {words}", "person")
    step = Draft(role="builder", task="Ask", acceptance="It is said", needs=(), after=())
    home = Decision("home", "home", False)
    plans = agents.planner.plans
    plan = await plans.add("Know it", (), "", "person", "s", "person", False, [step], [home])
    await plans.approve(plan.id)
    attempt = await plans.begin((await plans.steps(plan.id))[0], "builder")
    assert attempt is not None
    await plans.end(attempt, "reported", f"I found: {words}", f"It is so: {words}")
    return plan.id


async def test_what_was_reported_keeps_no_word_of_it(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        memory, agents = await house.memory.get(), await house.agents.get()
        await memory.packets.write([said(SECRET)])
        id = await reported(agents, SECRET)
        plan = await memory.forgetting.carry_out(Wish(query="Ottilie yellow"), "person", "")
        assert (plan.records, plan.warnings) == (3, ())
        assert await everywhere(database, "Ottilie") == []
        (step,) = await agents.planner.plans.steps(id)
        assert (step.outcome, step.why) == ("I found: [forgotten]", "It is so: [forgotten]")


def files_with(folder: Path, words: bytes) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and words in read(path))


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # the server removed it meanwhile
        return b""


async def test_after_scrubbing_no_file_of_the_home_holds_it(copied_home: Path) -> None:
    replies = {"": "Aye.", "Rewrite": "The port is 5433, and nothing else is to be kept."}
    async with (
        Database.open(DatabaseConfig(home=copied_home)) as database,
        house_with(copied_home, database, replies) as house,
    ):
        memory, engine = await house.memory.get(), await house.engine.get()
        director = (await house.agents.get()).director
        await memory.packets.write([said(f"{OTHER} {n}") for n in range(20)])
        await ask(house, SECRET)
        await memory.upkeep.settled()
        await database.execute("ANALYZE")
        await director.flush(lambda _progress: None)
        await ask(house, "Anything else?")
        assert await engine.saved("director")
        other_model = copied_home / "kv" / "of-other-weights" / "agents" / "director"
        other_model.mkdir(parents=True)
        (other_model / "ids.log").write_bytes(b"Ottilie")
        assert files_with(copied_home, b"Ottilie")
        await reported(await house.agents.get(), SECRET)
        plan = await director.forget(Wish(query="Ottilie yellow"), "person", "")
        assert files_with(copied_home / "kv", b"Ottilie") == []
        assert not list((copied_home / "kv").glob("*/agents/*"))
        assert await memory.forgetting.scrub(plan)
        assert files_with(copied_home, b"Ottilie") == []
        await ask(house, "Are you still there?")
        assert len(await memory.recall.search(Query("harbour", k=5))) == 5


def test_without_a_model_everything_that_was_computed_is_removed(home: Path) -> None:
    for folder in ("one-model/agents/director", "other-model/pool", "quarantine"):
        (home / "kv" / folder).mkdir(parents=True)
    assert remove_shelves(home / "kv", {home / "kv" / "one-model"}) == 2
    assert [path.name for path in (home / "kv").iterdir()] == ["one-model"]
    assert remove_shelves(home / "kv") == 1
    assert remove_shelves(home / "nowhere") == 0
