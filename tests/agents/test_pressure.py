"""A window that grows too full: what is kept, who writes it, what is said about it, and what a break does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from agents.agent import Answer, Task
from agents.context import MARGIN
from agents.digest import Source, candidates, digest
from agents.director import Director
from agents.pressure import LEAST_REWRITE
from agents.rewriting import ADDED, fault, made, request
from agents.turn import Progress
from engine.engine import Engine
from engine.errors import OverBudget
from memory.database import Database
from memory.notebook import append, replace
from memory.window import Window
from tests.houses import open_house
from tests.models import parrot
from tools.house import House

pytestmark = pytest.mark.anyio

NOTES = "The port is 5433. Ada prefers short answers. Open: who signs the contract?"
REPLIES = {"": "Aye.", "Rewrite": NOTES}
"""`Rewrite` stands in the request for a new notebook."""
FILLER = "some words that fill the window " * 60


@asynccontextmanager
async def house_with(
    home: Path, database: Database, replies: object = REPLIES, context_tokens: int | None = 4096, **parrots: Any
) -> AsyncIterator[House]:
    model = parrot(home / "parrot", replies, **parrots)  # type: ignore[arg-type]
    async with open_house(home, database, model, context_tokens=context_tokens) as house:
        yield house


async def director_of(house: House) -> Director:
    return (await house.agents.get()).director


async def ask(house: House, words: str, heard: list[str] | None = None, context: str = "") -> Answer:
    def report(progress: Progress) -> None:
        if heard is not None:
            heard.append(progress.stage)

    return await (await director_of(house)).answer(Task(f"Question: {words}", (), context, "person", "s"), report)


async def window_of(house: House) -> Window:
    window = await (await house.memory.get()).windows.get("director")
    assert window is not None
    return window


async def fill(house: House, heard: list[str] | None = None) -> Answer:
    """Asks until the window is let go; the answer of the turn before which it was."""
    for number in range(20):
        answer = await ask(house, f"{number}?", heard, FILLER)
        if answer.flushed:
            return answer
    raise AssertionError("the pressure never came")


async def test_under_pressure_the_director_rewrites_its_notebook_and_goes_on(home: Path, database: Database) -> None:
    heard: list[str] = []
    async with house_with(home, database) as house:
        answer = await fill(house, heard)
        (flushed,) = answer.flushed
        notebook = await (await house.memory.get()).notebook.current()
        assert (notebook.content, notebook.author) == (NOTES, "director (parrot)")
        assert (flushed.cause, flushed.version, flushed.why) == ("pressure", 1, "")
        window = await window_of(house)
        assert NOTES in window.opening.text
        assert len(window.turns) == 2
        stages = [stage for stage in dict.fromkeys(heard) if stage.startswith("letting go")]
        assert [stage.partition(": ")[2] for stage in stages][1:] == [
            "rewriting the notebook",
            "archiving",
            "opening a new one",
        ]


async def test_the_window_never_grows_beyond_its_limit_and_the_rewrite_has_its_room(
    home: Path, database: Database
) -> None:
    async with house_with(home, database) as house:
        director, engine = await director_of(house), await house.engine.get()
        seen = await director.view()
        assert seen.limit == min(int(4096 * 0.95), 4096 - seen.reserved)
        for number in range(6):
            await ask(house, f"{number}?", context=FILLER)
            assert len((await window_of(house)).ids) + MARGIN <= seen.limit < engine.info.context_tokens


@pytest.mark.parametrize(
    ("context_tokens", "pressure", "share"), [(4096, 0.95, 0.89), (8192, 0.95, 0.94), (8192, 0.9, 0.9)]
)
async def test_the_window_is_let_go_at_its_share_but_in_small_contexts_where_the_rewrite_needs_room(
    home: Path, database: Database, context_tokens: int, pressure: float, share: float
) -> None:
    model = parrot(home / "parrot", REPLIES)
    async with open_house(home, database, model, context_tokens=context_tokens, pressure=pressure) as house:
        seen = await (await director_of(house)).view()
        assert seen.limit / seen.context_tokens == pytest.approx(share, abs=0.01)
        assert seen.context_tokens - seen.limit >= seen.reserved >= LEAST_REWRITE


async def test_a_rewrite_may_use_the_room_that_the_waiting_turn_asks_for(home: Path, database: Database) -> None:
    notes = " ".join(f"Item {n} costs {n * 7}." for n in range(300))
    async with house_with(home, database, {**REPLIES, "Rewrite": notes}) as house:
        answer = await fill(house)
        (flushed,) = answer.flushed
        assert flushed.why.endswith("more than 512")  # not the 256 that are kept free at least


async def test_what_the_notebook_may_be_made_of_stands_in_the_request_for_it(home: Path, database: Database) -> None:
    asked: list[str] = []
    async with house_with(home, database) as house:
        memory, engine = await house.memory.get(), await house.engine.get()
        await memory.notebook.write(replace("Port: 5433"), "r", "person", len)
        await ask(house, "We decided on partitions. The soup is good.")
        generate = engine.generate

        def heard(agent: str, ids: list[int], sampling: Any) -> Any:
            asked.append(engine.chat.decode(ids))
            return generate(agent, ids, sampling)

        engine.generate = heard  # type: ignore[method-assign]
        flushed = await (await director_of(house)).flush(lambda _progress: None)
        assert flushed.why == ""
        lines = ["Port: 5433 [1]", "- Question: We decided on partitions. [2]", "- The soup is good. [3]", "- Aye. [4]"]
        assert "\n\n" + "\n".join(lines) + f"\n{ADDED} [5]<|end|>" in asked[-1]


async def test_a_notebook_is_made_of_the_lines_that_are_kept_and_of_what_is_added(
    home: Path, database: Database
) -> None:
    chosen = "[1] stays\n[2] stays\n[3] goes\n[4] goes\n[5]\n- Open: who partitions?"
    async with house_with(home, database, {**REPLIES, "Rewrite": chosen}) as house:
        memory = await house.memory.get()
        await memory.notebook.write(replace("Port: 5433"), "r", "person", len)
        await ask(house, "We decided on partitions. The soup is good.")
        flushed = await (await director_of(house)).flush(lambda _progress: None)
        notebook = await memory.notebook.current()
        assert (flushed.why, notebook.author) == ("", "director (parrot)")
        assert notebook.content == "Port: 5433\n- Question: We decided on partitions.\n- Open: who partitions?"


async def test_every_turn_that_was_let_go_is_in_the_store_once(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        for number in range(6):
            await ask(house, f"{number}?", context=FILLER)
        packets = (await house.memory.get()).packets
        assert [await packets.count(kind=kind) for kind in ("said", "answer")] == [12, 6]


@pytest.mark.parametrize(
    ("rewrite", "why"),
    [
        ("...", "said next to nothing (1 words)"),
        ("note " * 1200, "more than 512"),
        (request(512), "repeated its prompt"),
        ("the port is the port is the port and " * 20, "went round in circles"),
    ],
)
async def test_a_rewrite_that_is_no_notebook_gives_way_to_a_digest_that_says_so(
    home: Path, database: Database, rewrite: str, why: str
) -> None:
    async with house_with(home, database, {**REPLIES, "Rewrite": rewrite}) as house:
        memory = await house.memory.get()
        await memory.notebook.write(replace("Ada decided on 2026-03-01 to use port 5433."), "r", "person", len)
        await ask(house, "We decided that the schema is partitioned by corpus. What do you think?")
        flushed = await (await director_of(house)).flush(lambda _progress: None)
        assert flushed.author == "digest"
        assert why in flushed.why
        notebook = await memory.notebook.current()
        assert "Ada decided on 2026-03-01 to use port 5433." in notebook.content
        assert "the schema is partitioned by corpus" in notebook.content
        assert why in notebook.reason


async def test_a_stand_in_is_not_asked_and_its_words_are_not_kept(home: Path, database: Database) -> None:
    async with house_with(home, database, {"": "Noise 42.", "Rewrite": NOTES}, trained=False) as house:
        await ask(house, "We decided on port 5433. Agreed")
        flushed = await (await director_of(house)).flush(lambda _progress: None)
        assert flushed.why == "the model is a stand-in"
        notebook = await (await house.memory.get()).notebook.current()
        assert "port 5433" in notebook.content
        assert "Noise" not in notebook.content


async def test_a_turn_that_fits_nowhere_is_refused_and_the_window_stays(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        await ask(house, "First?")
        before = await window_of(house)
        with pytest.raises(OverBudget, match=r"soul corpus add"):
            await ask(house, "word " * 6000)
        assert await window_of(house) == before


async def test_a_notebook_written_while_the_director_rewrites_it_is_not_lost(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        memory, director = await house.memory.get(), await director_of(house)
        await ask(house, "First?")
        finish = memory.flushes.finish

        async def written_meanwhile(*given: Any) -> bool:
            if not (await memory.notebook.current()).version:
                await memory.notebook.write(append("The deadline is 2026-12-24."), "r", "person", len)
            return await finish(*given)

        memory.flushes.finish = written_meanwhile  # type: ignore[method-assign]
        flushed = await director.flush(lambda _progress: None)
        assert "somebody wrote the notebook" in flushed.why
        assert "The deadline is 2026-12-24." in (await memory.notebook.current()).content


@pytest.mark.parametrize("step", ["rewriting", "archiving", "opening a new one"])
async def test_a_flush_that_was_broken_off_is_taken_up_by_the_next_turn(
    home: Path, database: Database, step: str
) -> None:
    async with house_with(home, database) as house:
        await ask(house, "First?")
        with anyio.CancelScope() as scope:

            def report(progress: Progress) -> None:
                if step in progress.stage:
                    scope.cancel()

            await (await director_of(house)).flush(report)
        assert scope.cancelled_caught
        flush = await (await director_of(house)).last_flush()
        assert flush is not None
        assert flush.state == {"rewriting": "held", "archiving": "rewritten", "opening a new one": "archived"}[step]
        assert [turn.role for turn in (await window_of(house)).turns] == ["user", "assistant"]
    async with house_with(home, database) as house:  # as after a restart
        answer = await ask(house, "Second?")
        assert [one.resumed for one in answer.flushed] == [True]
        memory = await house.memory.get()
        assert [version.content for version in await memory.notebook.history()] == [NOTES]
        assert ["Second?" in turn.content for turn in (await window_of(house)).turns] == [True, False]
        assert await memory.packets.count(kind="said") == 2


async def test_a_rewrite_that_was_broken_off_is_not_in_the_next_turns_context(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        await ask(house, "First?")
        engine, before = await house.engine.get(), await window_of(house)
        with anyio.CancelScope() as scope:

            def report(progress: Progress) -> None:
                if "archiving" in progress.stage:
                    scope.cancel()

            await (await director_of(house)).flush(report)
        assert len(engine.ids("director")) > len(before.ids)
        await (await director_of(house)).flush(lambda _progress: None)
        await ask(house, "Second?")
        ids = (await window_of(house)).ids
        assert list(engine.ids("director")) == ids[: len(engine.ids("director"))]


async def test_a_window_without_turns_is_let_go_and_the_notebook_stays(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        memory = await house.memory.get()
        await memory.notebook.write(replace("The port is 5433."), "r", "person", len)
        done = await (await director_of(house)).flush(lambda _progress: None)
        assert (done.turns, done.version, done.author) == (0, 1, "person")
        assert "The port is 5433." in (await window_of(house)).opening.text


async def test_a_second_flush_keeps_the_first_notebook_where_nothing_changes(home: Path, database: Database) -> None:
    async with house_with(home, database) as house:
        director = await director_of(house)
        for _ in range(2):
            await ask(house, "Again?")
            await director.flush(lambda _progress: None)
        assert [one.version for one in await (await house.memory.get()).notebook.history()] == [1]


async def test_tools_that_fill_the_window_in_mid_turn_leave_the_turn_whole(home: Path, database: Database) -> None:
    call = '<tool_call>{"name": "recall", "arguments": {"query": "Betelgeuse supergiant", "k": 20}}</tool_call>'
    replies = ["Aye.", call, "It is red, as far as I can see."]
    async with house_with(home, database, replies, context_tokens=6300) as house:
        memory = await house.memory.get()
        (home / "stars").mkdir()
        for number in range(20):
            words = f"Betelgeuse is a red giant, note {number}. " + "It shines far away in the winter sky. " * 6
            (home / "stars" / f"{number}.md").write_text(words)
        await memory.corpora.add("stars", home / "stars")
        await memory.corpora.mount("director", "stars")
        await ask(house, "First?", context=FILLER)
        answer = await ask(house, "Look at the stars")
        window = await window_of(house)
        assert answer.flushed
        assert answer.text == "It is red, as far as I can see."
        assert [turn.role for turn in window.turns] == ["user", "assistant", "tool", "assistant"]
        assert len(window.ids) <= 6300
        assert "Look at the stars" in window.turns[0].content


async def test_after_a_notebook_written_in_mid_window_a_turn_reads_itself_and_the_delta_alone(
    home: Path, database: Database
) -> None:
    async with house_with(home, database, context_tokens=4096) as house:
        engine: Engine = await house.engine.get()
        memory = await house.memory.get()
        await ask(house, "First?")
        await ask(house, "Second?")
        await memory.notebook.write(replace("The port is 5433. " * 20), "r", "person", len)
        answer = await ask(house, "Third?")
        turn = (await window_of(house)).turns[-2]
        assert "Your notebook was rewritten" in turn.content
        # The turn with its delta, and the mark that closed the answer before: it was drawn, and never read.
        own = len(turn.ids) + len(engine.chat.reply_start())
        assert answer.report.read - answer.report.cached <= own + 1


async def test_a_mounted_corpus_is_told_by_its_card_within_its_budget(home: Path, database: Database) -> None:
    async with house_with(home, database, context_tokens=8192) as house:
        memory, engine = await house.memory.get(), await house.engine.get()
        (home / "stars").mkdir()
        (home / "stars" / "notes.md").write_text("Betelgeuse is a red supergiant. " + " ".join(map(str, range(400))))
        await ask(house, "First?")
        await memory.corpora.add("stars", home / "stars")
        await memory.corpora.mount("director", "stars")
        (pending,) = (await (await director_of(house)).view()).deltas
        assert pending.sector == "outfit"
        assert pending.tokens <= 320
        await ask(house, "Second?")
        told = (await window_of(house)).turns[-2].content
        assert "[Mounted corpora now: stars.]\nstars: 1 files" in told
        assert engine.chat.count(told.partition("\n\nTask from")[0]) <= 320
        await (await director_of(house)).flush(lambda _progress: None)
        opening = (await window_of(house)).opening.text
        assert "main terms:" in opening.partition("# Mounted corpora")[2]


async def test_the_view_adds_up_and_knows_what_is_computed(home: Path, database: Database) -> None:
    async with house_with(home, database, context_tokens=8192) as house:
        director, memory = await director_of(house), await house.memory.get()
        before = await director.view()
        assert (before.turns, before.cached) == ((), 0)
        await ask(house, "First?")
        await memory.notebook.write(replace("The port is 5433."), "r", "person", len)
        seen = await director.view()
        assert [sector.name for sector in seen.sectors] == ["self", "role", "notebook", "outfit", "tools and marks"]
        assert sum(one.tokens for one in (*seen.sectors, *seen.turns)) == seen.tokens
        assert sum(one.cached for one in (*seen.sectors, *seen.turns)) == seen.cached == seen.tokens - 1
        assert [one.sector for one in seen.deltas] == ["notebook"]


async def test_a_clock_that_jumps_back_changes_neither_order_nor_outcome(
    home: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    async with house_with(home, database) as house:
        await ask(house, "First?")
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600 * 10**9)
        await ask(house, "Second?")
        turns = (await window_of(house)).turns
        assert ["Question: First" in turn.content[:60] for turn in turns] == [True, False, False, False]
        director = await director_of(house)
        await director.flush(lambda _progress: None)
        await ask(house, "Third?")
        await director.flush(lambda _progress: None)
        last = await director.last_flush()
        assert last is not None
        assert (last.state, last.turns) == ("done", 2)
        assert await (await house.memory.get()).packets.count(kind="said") == 3


def by_words(text: str) -> int:
    return len(text.split())


def test_a_digest_keeps_what_tells_something_verbatim_in_order_and_within_budget() -> None:
    said: list[tuple[Source, str]] = [
        (
            "said",
            "Well, hello there. We decided to call the schema soul_main. Nice weather today. It rains a lot here.",
        ),
        ("answer", "Understood. The deadline is Friday."),
        ("said", "What is the port? My name is Ada, and I prefer tea. What is the port?"),
    ]
    text = digest("Port: 5433", said, 26, by_words)
    assert text.splitlines() == [
        "Port: 5433",
        "We decided to call the schema soul_main.",
        "The deadline is Friday.",
        "My name is Ada, and I prefer tea.",
    ]
    assert text == digest("Port: 5433", said, 26, by_words)
    assert by_words(digest("Port: 5433", said, 8, by_words)) <= 8


def test_candidates_are_what_was_said_in_order_but_for_mere_questions() -> None:
    said: list[tuple[Source, str]] = [
        ("said", "The soup is good. We decided to call the schema soul_main. How are you?"),
        ("answer", "The deadline is Friday."),
    ]
    listed = [
        "Port: 5433",
        "- The soup is good.",
        "- We decided to call the schema soul_main.",
        "- The deadline is Friday.",
    ]
    assert candidates("Port: 5433", said, 100, by_words) == listed
    # What tells most stays where there is no room for all.
    fewer = candidates("Port: 5433", said, 18, by_words)
    assert fewer == [listed[0], *listed[2:]]
    assert candidates("", [], 100, by_words) == []


@pytest.mark.parametrize(
    ("answer", "notebook"),
    [
        ("[1] stays\n[2] goes\n[3] stays\n[4] nothing", "Port: 5433\n- Tea."),
        ("[2] goes\n[4]\n- Cake.\n  - Plum.", "Port: 5433\n- Tea.\n- Cake.\n  - Plum."),
        ("[1] goes\n[2] goes\n[4] - Cake.\nNothing", "- Tea.\n- Cake.\nNothing"),
        ("[2] goes", "Port: 5433\n- Tea."),  # what is not spoken of stays
        ("1: STAYS\n- [2] **goes**\n3. goes.\n[9] stays", "Port: 5433"),
        ("[1] goes\n[1] stays\n[2] goes\n[3] goes\n\n- No tea.\n- 5 goes by", "Port: 5433\n- No tea.\n- 5 goes by"),
        ("- Port: 5433 [1] stays\n[2] goes: small talk, [3] stays", "Port: 5433\n- Tea."),
        ("[1] goes\n[2] goes\n[3] goes", ""),
        ("- Port: 5434\n- stays tea", "- Port: 5434\n- stays tea"),  # written freely
        ("", ""),
    ],
)  # fmt: skip
def test_an_answer_keeps_lines_drops_them_and_adds_some(answer: str, notebook: str) -> None:
    assert made(answer, ["Port: 5433", "- The soup is good.", "- Tea."]) == notebook


def test_a_digest_of_an_endless_line_keeps_its_head_and_of_nothing_is_nothing() -> None:
    assert len(digest("", [("said", "x1 " * 100_000)], 5_000, by_words)) < 450
    assert digest("", [], 100, by_words) == ""


def test_a_plain_notebook_has_no_fault() -> None:
    assert fault(NOTES, broke_off=False, tokens=20, budget=100, asked=request(100)) == ""
    assert fault(NOTES, broke_off=True, tokens=20, budget=100, asked=request(100)) == "broke off at 100 tokens"
    assert fault("", broke_off=False, tokens=0, budget=100, asked=request(100)) == "was empty"
