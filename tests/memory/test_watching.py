"""Corpora that are worn follow their files, whatever happens to the folder."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from memory.database import Database
from memory.memory import Memory
from memory.recall import Query
from memory.watching import Watching

pytestmark = pytest.mark.anyio

PATIENCE_S = 20


@pytest.fixture
async def memory(database: Database, tmp_path: Path) -> AsyncIterator[Memory]:
    async with Memory.open(database, None, [tmp_path], watching=True) as memory:
        yield memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    root.mkdir()
    (root / "orchard.md").write_text("# Orchard\n\nThe quince tree bears fruit.\n")
    return root


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Asks again and again; a condition that nobody announces can only be asked for."""
    with anyio.fail_after(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110
            await anyio.sleep(0.02)


def make(folder: Path) -> None:
    folder.mkdir()


def found(memory: Memory, word: str) -> Callable[[], Awaitable[object]]:
    async def ask() -> object:
        return await memory.recall.search(Query(word, corpus="texts"))

    return ask


def gone(memory: Memory, word: str) -> Callable[[], Awaitable[object]]:
    async def ask() -> object:
        return not await memory.recall.search(Query(word, corpus="texts"))

    return ask


async def test_a_saved_file_is_found_and_a_deleted_one_is_not(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    (folder / "harbour.md").write_text("The pilot boards the vessel.")
    await until(found(memory, "vessel"))
    (folder / "harbour.md").unlink()
    await until(gone(memory, "vessel"))


async def test_an_editor_that_saves_by_renaming_is_followed_too(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder / "orchard.md")
    await memory.corpora.mount("director", "texts")
    for word in ("medlar", "damson"):
        (folder / ".new").write_text(f"The {word} tree.")
        (folder / ".new").rename(folder / "orchard.md")
        await until(found(memory, word))


async def test_what_was_worn_before_the_start_is_followed(database: Database, folder: Path, tmp_path: Path):
    async with Memory.open(database, None, [tmp_path]) as memory:
        await memory.corpora.add("texts", folder)
        await memory.corpora.mount("director", "texts")
        (folder / "while-away.md").write_text("The anvil rings.")
    async with Memory.open(database, None, [tmp_path], watching=True) as memory:
        await until(found(memory, "anvil"))
        (folder / "now.md").write_text("The bellows sigh.")
        await until(found(memory, "bellows"))


async def test_a_folder_that_goes_and_comes_back_is_taken_up_again(memory: Memory, folder: Path, tmp_path: Path):
    away = tmp_path / "elsewhere"
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    await until(found(memory, "quince"))
    shutil.move(folder, away)

    async def told() -> bool:
        return "nothing at" in memory.watching.state.get("texts", "")

    await until(told)
    assert await found(memory, "quince")()
    shutil.rmtree(away)
    make(folder)
    (folder / "again.md").write_text("The damson tree.")
    await until(found(memory, "damson"))
    (folder / "more.md").write_text("The medlar tree.")
    await until(found(memory, "medlar"))
    assert memory.watching.state == {"texts": ""}


async def test_what_is_taken_off_is_followed_no_more(memory: Memory, folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.md").write_text("The anvil rings.")
    await memory.corpora.add("texts", folder)
    await memory.corpora.add("other", other)
    await memory.corpora.mount("director", "texts", "other")
    await until(lambda: _names(memory, {"texts", "other"}))
    await memory.corpora.unmount("director", "texts")
    await until(lambda: _names(memory, {"other"}))
    async with memory.corpora.writing:
        pass  # a look that had begun before is over
    (folder / "harbour.md").write_text("The pilot boards the vessel.")
    (other / "b.md").write_text("The bellows sigh.")

    async def other_found() -> object:
        return await memory.recall.search(Query("bellows", corpus="other"))

    await until(other_found)
    assert await gone(memory, "vessel")()


async def _names(memory: Memory, names: set[str]) -> bool:
    return set(memory.watching.state) == names


async def test_a_corpus_removed_while_it_is_watched_stays_removed(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    (folder / "harbour.md").write_text("The pilot boards the vessel.")
    await memory.corpora.remove("texts")
    await until(lambda: _names(memory, set()))
    assert await memory.corpora.list() == ()


async def test_a_volume_that_tells_nothing_is_looked_at_from_time_to_time(
    database: Database, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def silent(self: Watching, roots: object, stop: object) -> str:
        return "OS file watch limit reached"

    monkeypatch.setattr(Watching, "_listen", silent)
    async with Memory.open(database, None, [tmp_path]) as memory:
        await memory.corpora.add("texts", folder)
        await memory.corpora.mount("director", "texts")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Watching(memory.corpora, rescan_s=0.05).run)
            await until(lambda: _indexed_again(memory))
            (folder / "harbour.md").write_text("The pilot boards the vessel.")
            await until(found(memory, "vessel"))
            tasks.cancel_scope.cancel()


async def _indexed_again(memory: Memory) -> bool:
    first = (await memory.corpora.info("texts")).indexed
    await anyio.sleep(0.02)
    return (await memory.corpora.info("texts")).indexed != first
