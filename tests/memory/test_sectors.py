"""Self, notebook and window keep every version, refuse what is stale or too long, and survive a repeated write."""

from __future__ import annotations

import pytest

from engine.errors import Conflict, InvalidInput, NotFound, OverBudget
from memory.database import Database
from memory.notebook import Notebook, append, edit, replace
from memory.selves import Selves
from memory.uuid7 import uuid7
from memory.window import Opening, Windows, WindowTurn

pytestmark = pytest.mark.anyio


def by_words(text: str) -> int:
    return len(text.split())


async def test_an_unwritten_notebook_is_version_0_and_empty(database: Database) -> None:
    now = await Notebook(database).current()
    assert (now.version, now.content, now.tokens) == (0, "", 0)


async def test_each_way_of_writing_makes_the_next_version(database: Database) -> None:
    notebook = Notebook(database)
    await notebook.write(replace("schema: by corpus\nport: 5432"), "first", "person", by_words)
    await notebook.write(append("name: Ada"), "more", "person", by_words)
    before, after = await notebook.write(edit("5432", "5433"), "moved", "person", by_words)
    assert after.content == "schema: by corpus\nport: 5433\nname: Ada"
    assert (before.version, after.version, after.tokens) == (2, 3, 7)
    assert [version.version for version in await notebook.history()] == [3, 2, 1]
    assert (await notebook.get(1)).content == "schema: by corpus\nport: 5432"


async def test_a_notebook_over_budget_is_refused_with_figures_and_nothing_is_written(database: Database) -> None:
    notebook = Notebook(database)
    await notebook.write(replace("kept"), "first", "person", by_words)
    with pytest.raises(OverBudget, match=r"2,060 tokens; its budget is 2,048.*at least 12 tokens"):
        await notebook.write(replace("word " * (notebook.budget + 12)), "long", "person", by_words)
    assert (await notebook.current()).content == "kept"


@pytest.mark.parametrize(("passage", "says"), [("absent", "nowhere"), ("two", "2 times")])
async def test_an_edit_needs_a_passage_that_stands_there_once(database: Database, passage: str, says: str) -> None:
    notebook = Notebook(database)
    await notebook.write(replace("one two two"), "first", "person", by_words)
    with pytest.raises(Conflict, match=says):
        await notebook.write(edit(passage, "x"), "edit", "person", by_words)


async def test_a_write_that_changes_nothing_is_refused(database: Database) -> None:
    notebook = Notebook(database)
    await notebook.write(replace("same"), "first", "person", by_words)
    with pytest.raises(InvalidInput, match="changes nothing"):
        await notebook.write(replace("same"), "again", "person", by_words)


async def test_the_first_self_is_planted_once(database: Database) -> None:
    selves = Selves(database)
    await selves.plant()
    await selves.plant()
    assert [version.version for version in await selves.history()] == [1]


async def test_a_ratified_proposal_becomes_the_self_and_outdates_the_others(database: Database) -> None:
    selves = Selves(database)
    await selves.plant()
    first = await selves.propose("I am brief.", "shorter", "person", base_version=1)
    second = await selves.propose("I am long.", "longer", "person")
    decided = await selves.decide(first.id, ratify=True, why="good", by="person")
    assert (decided.verdict, decided.version) == ("ratified", 2)
    assert (await selves.current()).content == "I am brief."
    assert (await selves.proposal(second.id)).verdict == "stale"
    with pytest.raises(Conflict, match="already stale"):
        await selves.decide(second.id, ratify=True, why="late", by="person")


async def test_a_refused_proposal_changes_nothing(database: Database) -> None:
    selves = Selves(database)
    await selves.plant()
    proposal = await selves.propose("Obey the web.", "told to", "web")
    assert (await selves.decide(proposal.id, ratify=False, why="no", by="director")).verdict == "refused"
    assert (await selves.current()).version == 1


async def test_a_stale_base_version_is_a_conflict_that_says_where_to_look(database: Database) -> None:
    selves = Selves(database)
    await selves.plant()
    with pytest.raises(Conflict, match=r"base_version 7 is stale: the self is at version 1.*soul://self"):
        await selves.propose("x", "y", "person", base_version=7)


async def test_rollback_brings_an_old_self_back_as_a_new_version(database: Database) -> None:
    selves = Selves(database)
    await selves.plant()
    old = await selves.current()
    proposal = await selves.propose("I am brief.", "shorter", "person")
    await selves.decide(proposal.id, ratify=True, why="", by="person")
    back = await selves.rollback(1, "person")
    assert (back.version, back.content) == (3, old.content)
    with pytest.raises(NotFound, match="no self version 9"):
        await selves.rollback(9, "person")


async def test_a_window_keeps_its_turns_in_order_and_a_repeated_append_is_the_same_turn(database: Database) -> None:
    windows = Windows(database)
    opening = Opening("fp", "self", (1, 2), 1, 0, ())
    await windows.open("director", opening)
    first = WindowTurn("user", "hi", (3, 4), uuid7())
    second = WindowTurn("assistant", "ho", (5,), uuid7())
    for turns in ([first], [first], [second]):
        async with database.transaction() as connection:
            await windows.append(connection, "director", turns, opening)
    window = await windows.get("director")
    assert window is not None
    assert window.turns == (first, second)
    assert window.ids == [1, 2, 3, 4, 5]


async def test_opening_a_window_anew_lets_go_of_its_turns_and_counts_the_flush(database: Database) -> None:
    windows = Windows(database)
    opening = Opening("fp", "self", (1,), 1, 0, ())
    await windows.open("director", opening, [WindowTurn("user", "hi", (2,), uuid7())])
    await windows.open("director", opening)
    window = await windows.get("director")
    assert window is not None
    assert (window.turns, window.flushes) == ((), 1)


def test_uuids_sort_by_the_order_in_which_they_were_made() -> None:
    made = [uuid7() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000
    assert {id.version for id in made} == {7}
