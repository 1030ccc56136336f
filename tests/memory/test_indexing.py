"""What a second look reads, and what bad luck in the middle of one leaves: all of it or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from engine.errors import InvalidInput
from memory import sources
from memory.corpora import Corpora
from memory.database import Database, DatabaseConfig
from memory.describing import telling
from memory.memory import Memory
from memory.recall import Query
from tests.memory import documents
from tests.memory.servers import ROOT

pytestmark = pytest.mark.anyio

FILES = 200
OLD_FOLDER = Path(json.__file__).parent
"""Files of the standard library, which nobody changes."""

INDEX = """
import anyio, sys
from pathlib import Path
from memory.corpora import Corpora
from memory.database import Database, DatabaseConfig

async def main(home, url, folder):
    async def progress(done, total, what):
        print(done, flush=True)

    async with Database.open(DatabaseConfig(Path(home), url=url, pool_size=2)) as database:
        await Corpora(database, [Path("/")]).add("texts", Path(folder), progress)

anyio.run(main, *sys.argv[1:])
"""


def write(root: Path, word: str, count: int = FILES) -> Path:
    root.mkdir(exist_ok=True)
    for n in range(count):
        (root / f"{n:03}.md").write_text(f"# Part {n}\n\nThe {word} number {n} stands in the orchard.\n")
    return root


@pytest.fixture
async def memory(database: Database, tmp_path: Path) -> AsyncIterator[Memory]:
    async with Memory.open(database, None, [tmp_path, OLD_FOLDER]) as memory:
        yield memory


async def hits(database: Database, word: str) -> int:
    async with Memory.open(database, None) as memory:
        return len(await memory.recall.search(Query(word, k=100, corpus="texts")))


async def test_unchanged_files_are_not_read_again(memory: Memory, monkeypatch: pytest.MonkeyPatch):
    first = await memory.corpora.add("json", OLD_FOLDER)

    def unread(path: Path, file_mb: float) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(sources, "load", unread)
    again = await memory.corpora.refresh("json")
    assert again.indexed is not None and first.indexed is not None and again.indexed > first.indexed
    assert (again.files, again.chunks) == (first.files, first.chunks)


async def test_what_was_passed_over_is_not_read_again_either(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 2)
    (folder / "picture.bin").write_bytes(bytes(100))
    await memory.corpora.add("texts", folder)
    assert await memory.corpora.look_again("texts") == 0
    assert (await memory.corpora.info("texts")).skipped == (("picture.bin", "binary"),)
    (folder / "picture.bin").write_text("The medlar is text after all.")
    assert await memory.corpora.look_again("texts") == 1
    assert await memory.recall.search(Query("medlar", corpus="texts"))
    assert (await memory.corpora.info("texts")).skipped == ()


async def test_a_change_that_keeps_size_and_time_is_noticed(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 1)
    file = folder / "000.md"
    await memory.corpora.add("texts", folder)
    before = file.stat()
    file.write_text(file.read_text().replace("quince", "medlar"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await memory.corpora.look_again("texts") == 1
    assert await memory.recall.search(Query("medlar", corpus="texts"))


async def test_a_file_that_grows_too_large_goes_with_the_reason(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 2)
    await memory.corpora.add("texts", folder)
    with (folder / "000.md").open("ab") as file:
        file.truncate(9_000_000)
    info = await memory.corpora.refresh("texts")
    assert info.files == 1
    assert info.skipped[0][1].endswith("the limit is the setting `corpus_file_mb`")
    assert len(await memory.recall.search(Query("quince", corpus="texts"))) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_passed_over(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 2)
    (folder / "000.md").chmod(0)
    assert (await memory.corpora.add("texts", folder)).skipped == (("000.md", "may not be read"),)


async def test_a_folder_that_changes_while_it_is_read_is_indexed_as_it_was_met(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince")

    async def meddle(done: int, total: int, what: str) -> None:
        if done == 1:
            (folder / "150.md").unlink()
            (folder / "151.md").write_text("The medlar came meanwhile.")
            (folder / "152.md").unlink()
            (folder / "152.md").mkdir()
            (folder / "new.md").write_text("The damson came too late.")

    info = await memory.corpora.add("texts", folder, meddle)
    assert info.files == FILES - 2
    assert dict(info.skipped) == {"150.md": "gone while it was being read", "152.md": "cannot be read: Is a directory"}
    assert await memory.recall.search(Query("medlar", corpus="texts"))
    assert (await memory.corpora.refresh("texts")).files == FILES - 1


async def test_documents_are_found_beside_texts_and_cited_by_page(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 2)
    for n in range(3):
        (folder / f"paper-{n}.pdf").write_bytes(documents.pdf(["The cover.", f"The medlar{n} is sweet."]))
    info = await memory.corpora.add("texts", folder)
    assert (info.files, info.kinds) == (5, ("PDF 3", "Markdown 2"))
    (hit,) = await memory.recall.search(Query("medlar1", corpus="texts"))
    assert hit.source == "paper-1.pdf:p2"


async def test_two_who_index_one_corpus_at_once_do_so_one_after_the_other(database: Database, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince")
    # Each has a lock of its own, as two daemons over one database have.
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(Corpora(database, [tmp_path]).add, "texts", folder)
    info = await Corpora(database, [tmp_path]).info("texts")
    assert (info.files, info.chunks) == (FILES, FILES)
    assert await database.fetchval("SELECT count(*) FROM traces WHERE corpus_id >= 16") == FILES


async def test_a_database_that_is_killed_in_the_middle_loses_nothing(home: Path, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince")
    killed: list[int] = []

    async with Database.open(DatabaseConfig(home)) as database:

        async def kill(done: int, total: int, what: str) -> None:
            if done == 100 and not killed:
                pid = database.status().pid
                assert pid is not None
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        async with Memory.open(database, None, [tmp_path]) as memory:
            info = await memory.corpora.add("texts", folder, kill)
            assert killed
            assert (info.files, info.chunks) == (FILES, FILES)
            assert len(await memory.recall.search(Query("quince", k=50, corpus="texts"))) == 50


@pytest.mark.parametrize("at", [1, 130, FILES])
async def test_who_is_killed_while_indexing_leaves_all_or_nothing(
    database: Database, clone_url: str, home: Path, tmp_path: Path, at: int
):
    folder = write(tmp_path / "texts", "quince")
    await _killed_at(at, home, clone_url, folder)
    listed = await Corpora(database, [tmp_path]).list()
    assert not listed or listed[0].chunks == FILES
    assert (await Corpora(database, [tmp_path]).add("texts", folder)).chunks == FILES
    assert await hits(database, "quince") == 100

    write(folder, "medlar")
    await _killed_at(at, home, clone_url, folder)
    old, new = await hits(database, "quince"), await hits(database, "medlar")
    assert (old, new) in ((100, 0), (0, 100))
    await Corpora(database, [tmp_path]).refresh("texts")
    assert (await hits(database, "quince"), await hits(database, "medlar")) == (0, 100)


async def _killed_at(at: int, home: Path, url: str, folder: Path) -> None:
    command = [sys.executable, "-c", INDEX, str(home), url, str(folder)]
    async with await anyio.open_process(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        said = b""
        while f"\n{at}\n".encode() not in b"\n" + said:
            said += await process.stdout.receive()
        process.kill()


async def test_a_refresh_that_fails_changes_nothing(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 3)
    await memory.corpora.add("texts", folder)
    for file in folder.iterdir():
        file.write_bytes(bytes(50))
    with pytest.raises(InvalidInput, match=r"000\.md: binary"):
        await memory.corpora.refresh("texts")
    assert len(await memory.recall.search(Query("quince", corpus="texts"))) == 3


async def test_the_card_says_kinds_and_folders(memory: Memory, tmp_path: Path):
    folder = write(tmp_path / "texts", "quince", 3)
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("def graft(scion):\n    return scion\n")
    (folder / "src" / "b.cs").write_text("class Graft {}\n")
    info = await memory.corpora.add("texts", folder)
    assert info.kinds == ("Markdown 3", "C# 1", "Python 1")
    assert info.sources == (". 3", "src/ 2")


def test_words_that_stand_everywhere_tell_less_than_those_that_stand_here():
    counts, in_files = {"system": 90, "quince": 60}, {"system": 5, "quince": 5}
    assert telling(counts, in_files, 10)[0] == "system"
    assert telling(counts, in_files, 10, [(100, {"system": [900, 95]})])[0] == "quince"
