"""Corpora: indexed whole or not at all, refreshed by what changed, worn one at a time."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from engine.errors import Conflict, Forbidden, InvalidInput, NotFound
from memory.corpora import Corpora
from memory.database import Database
from memory.embedder import default_embedder
from memory.memory import Memory
from memory.recall import Query

pytestmark = pytest.mark.anyio

ORCHARD = "# Orchard\n\nThe quince tree bears fruit in October.\n\n## Grafting\n\nA scion is joined to a rootstock.\n"
HARBOUR = "# Harbour\n\nThe pilot boards the vessel beyond the breakwater.\n"
ROWS = """
SELECT (SELECT count(*) FROM packets WHERE corpus_id >= 16) AS packets,
       (SELECT count(*) FROM traces WHERE corpus_id >= 16) AS traces,
       (SELECT count(*) FROM postings WHERE corpus_id >= 16) AS postings,
       (SELECT count(*) FROM extents WHERE corpus_id >= 16) AS extents,
       (SELECT count(*) FROM owed WHERE corpus_id >= 16) AS owed,
       (SELECT count(*) FROM corpus_files) AS files,
       (SELECT count(*) FROM mounts) AS mounts,
       (SELECT count(*) FROM pg_inherits WHERE inhparent = 'packets'::regclass) AS partitions
"""


@pytest.fixture
async def memory(database: Database, tmp_path: Path) -> AsyncIterator[Memory]:
    """Memory without an embedder, which corpora do not need; they may lie under `tmp_path`."""
    async with Memory.open(database, None, [tmp_path]) as memory:
        yield memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    root.mkdir()
    (root / "orchard.md").write_text(ORCHARD)
    (root / "harbour.md").write_text(HARBOUR)
    return root


async def ids(database: Database) -> dict[str, set[object]]:
    rows = await database.fetch("SELECT session, id FROM packets WHERE corpus_id >= 16")
    return {path: {row["id"] for row in rows if row["session"] == path} for path in {row["session"] for row in rows}}


async def test_a_folder_is_indexed_and_its_words_found_at_once(memory: Memory, folder: Path):
    info = await memory.corpora.add("texts", folder)
    assert (info.name, info.path, info.files, info.mounted) == ("texts", folder, 2, False)
    assert info.chunks == info.owed >= 2
    assert info.bytes == len(ORCHARD) + len(HARBOUR)
    assert "quince" in info.terms
    (hit, *_) = await memory.recall.search(Query("who boards the vessel", corpus="texts"))
    assert hit.source == "harbour.md:1-3"
    assert hit.corpus == "texts"


async def test_progress_ends_with_all_files(memory: Memory, folder: Path):
    seen: list[tuple[int, int, str]] = []

    async def progress(done: int, total: int, what: str) -> None:
        seen.append((done, total, what))

    await memory.corpora.add("texts", folder, progress)
    assert [step[:2] for step in seen] == [(1, 2), (2, 2), (2, 2)]


async def test_a_second_run_touches_only_what_changed(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    before = await ids(memory.database)
    (folder / "harbour.md").write_text(HARBOUR.replace("pilot", "captain"))
    (folder / "new.md").write_text("# Forge\n\nThe anvil rings.\n")
    info = await memory.corpora.refresh("texts")
    after = await ids(memory.database)
    assert info.files == 3
    assert after["orchard.md"] == before["orchard.md"]
    assert after["harbour.md"].isdisjoint(before["harbour.md"])
    assert not await memory.recall.search(Query("pilot", corpus="texts"))
    assert len(await memory.recall.search(Query("captain", corpus="texts"))) == 1
    assert len(await memory.recall.search(Query("anvil", corpus="texts"))) == 1


async def test_text_that_moves_keeps_its_packet(memory: Memory, folder: Path):
    (folder / "orchard.md").write_text(ORCHARD.replace("A scion", "scion " * 200 + "A scion"))
    await memory.corpora.add("texts", folder)
    before = await ids(memory.database)
    (folder / "harbour.md").rename(folder / "port.md")
    await memory.corpora.refresh("texts")
    after = await ids(memory.database)
    assert after["port.md"] == before["harbour.md"]
    assert "harbour.md" not in after


async def test_deleted_files_are_forgotten(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    (folder / "harbour.md").unlink()
    info = await memory.corpora.refresh("texts")
    assert (info.files, info.bytes) == (1, len(ORCHARD))
    assert not await memory.recall.search(Query("vessel", corpus="texts"))


async def test_removing_a_corpus_leaves_nothing_of_it(memory: Memory, folder: Path):
    nothing = await memory.database.fetchrow(ROWS)
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    await memory.corpora.remove("texts")
    assert await memory.database.fetchrow(ROWS) == nothing
    assert await memory.corpora.list() == ()
    assert await memory.corpora.mounted("director") == ()
    assert (folder / "orchard.md").exists()


async def test_files_that_are_no_text_are_passed_over_with_the_reason(memory: Memory, folder: Path):
    (folder / "picture.png").write_bytes(b"\x89PNG\x00\x00")
    (folder / "hollow.txt").write_text(" \n")
    info = await memory.corpora.add("texts", folder)
    assert set(info.skipped) == {("picture.png", "binary"), ("hollow.txt", "empty")}
    assert info.files == 2


async def test_a_german_corpus_is_not_described_by_german_articles(memory: Memory, folder: Path):
    (folder / "orchard.md").write_text(
        "Der Apfel und die Birne sind nicht reif. Der Apfel und die Birne sind hart. " * 3
    )
    (folder / "harbour.md").write_text("Die Birne und der Apfel wurden gepflückt, und der Korb war nicht voll. " * 3)
    terms = (await memory.corpora.add("texts", folder)).terms
    assert {"apfel", "birne"} <= set(terms)
    assert not {"und", "die", "der", "sind", "nicht"} & set(terms)


async def test_files_that_may_have_been_misread_are_named_until_they_are_put_right(memory: Memory, folder: Path):
    odd = folder / "alt.txt"
    odd.write_bytes(("Die Straße führt über die Brücke nach Süden. " * 5).encode("cp1252"))
    (folder / "damaged.txt").write_bytes("Öl und Käse. ".encode() * 50 + b"\xe9")
    info = await memory.corpora.add("texts", folder)
    doubtful = dict(info.doubtful)
    assert set(doubtful) == {"alt.txt", "damaged.txt"}
    assert "which is a guess" in doubtful["alt.txt"]
    assert doubtful["damaged.txt"] == "damaged UTF-8: cannot be read at byte 750"
    assert (await memory.corpora.refresh("texts")).doubtful == info.doubtful
    odd.write_text("Die Straße führt über die Brücke nach Süden.")
    assert [path for path, _ in (await memory.corpora.refresh("texts")).doubtful] == ["damaged.txt"]


async def test_a_folder_without_text_says_what_it_found(memory: Memory, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInput, match="holds no text"):
        await memory.corpora.add("nothing", empty)
    (empty / "picture.png").write_bytes(b"\x89PNG\x00\x00")
    with pytest.raises(InvalidInput, match=r"picture\.png: binary"):
        await memory.corpora.add("nothing", empty)
    assert await memory.corpora.list() == ()


async def test_a_refresh_that_finds_nothing_keeps_what_was_there(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    (folder / "orchard.md").unlink()
    (folder / "harbour.md").unlink()
    with pytest.raises(InvalidInput, match="holds no text"):
        await memory.corpora.refresh("texts")
    assert len(await memory.recall.search(Query("vessel", corpus="texts"))) == 1


async def test_a_name_stands_for_one_path(memory: Memory, folder: Path, tmp_path: Path):
    await memory.corpora.add("texts", folder)
    with pytest.raises(Conflict, match="soul corpus remove texts"):
        await memory.corpora.add("texts", tmp_path)


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 65, "a/b", "a\x00", "*", "memory", "Self"])
async def test_names_that_could_be_mistaken_are_refused(memory: Memory, folder: Path, name: str):
    with pytest.raises(InvalidInput):
        await memory.corpora.add(name, folder)


async def test_a_path_outside_the_allowed_roots_is_forbidden(memory: Memory):
    with pytest.raises(Forbidden, match="allowed_roots"):
        await memory.corpora.add("etc", Path("/etc"))


async def test_what_a_person_added_from_anywhere_can_be_refreshed(database: Database, folder: Path, tmp_path: Path):
    corpora = Corpora(database, [tmp_path / "elsewhere"])
    with pytest.raises(Forbidden):
        await corpora.add("texts", folder)
    await corpora.add("texts", folder, anywhere=True)
    (folder / "new.md").write_text("# Forge")
    assert (await corpora.refresh("texts")).files == 3


async def test_a_path_that_leads_elsewhere_now_is_not_followed(memory: Memory, folder: Path, tmp_path: Path):
    await memory.corpora.add("texts", folder)
    shutil.move(folder, tmp_path / "secrets")
    folder.symlink_to(tmp_path / "secrets")  # noqa: ASYNC240
    with pytest.raises(Conflict, match="leads to"):
        await memory.corpora.refresh("texts")
    assert len(await memory.recall.search(Query("vessel", corpus="texts"))) == 1


async def test_recall_goes_on_while_corpora_come_and_go(memory: Memory, folder: Path):
    await memory.corpora.add("kept", folder)
    done = anyio.Event()

    async def ask() -> None:
        while not done.is_set():
            assert len(await memory.recall.search(Query("vessel", corpus="kept"))) == 1
            assert await memory.recall.search(Query("vessel", corpus="*"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        for n in range(5):
            await memory.corpora.add(f"passing-{n}", folder)
            await memory.corpora.mount("director", f"passing-{n}")
            await memory.corpora.remove(f"passing-{n}")
        done.set()


async def test_an_unknown_corpus_names_the_known_ones(memory: Memory, folder: Path):
    with pytest.raises(NotFound, match="soul corpus add"):
        await memory.corpora.info("texts")
    await memory.corpora.add("texts", folder)
    for call in (memory.corpora.info, memory.corpora.refresh, memory.corpora.remove):
        with pytest.raises(NotFound, match="Known are: texts"):
            await call("other")
    with pytest.raises(NotFound, match="Known are: texts"):
        await memory.corpora.mount("director", "other")


async def test_mounting_another_corpus_takes_the_first_one_off(memory: Memory, folder: Path):
    await memory.corpora.add("orchard", folder / "orchard.md")
    await memory.corpora.add("harbour", folder / "harbour.md")
    first = await memory.corpora.mount("director", "orchard")
    assert (first.unmounted, first.infos[0].mounted) == ((), True)
    assert len(await memory.recall.search(Query("quince"))) == 1
    second = await memory.corpora.mount("director", "harbour")
    assert second.unmounted == ("orchard",)
    assert await memory.corpora.mounted("director") == ("harbour",)
    assert not await memory.recall.search(Query("quince"))
    assert len(await memory.recall.search(Query("vessel"))) == 1


async def test_several_are_worn_together_and_taken_off_one_by_one(memory: Memory, folder: Path):
    for name in ("orchard", "harbour"):
        await memory.corpora.add(name, folder / f"{name}.md")
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    both = await memory.corpora.mount("director", "orchard", "harbour")
    assert [info.name for info in both.infos] == ["orchard", "harbour"]
    assert both.unmounted == ("texts",)
    for word in ("quince", "vessel"):
        assert len(await memory.recall.search(Query(word))) == 1
    with pytest.raises(NotFound):
        await memory.corpora.mount("director", "texts", "other")
    assert set(await memory.corpora.mounted("director")) == {"orchard", "harbour"}
    await memory.corpora.unmount("director", "orchard")
    assert await memory.corpora.mounted("director") == ("harbour",)
    with pytest.raises(InvalidInput, match="Name 1 to 16"):
        await memory.corpora.mount("director", *(f"c{n}" for n in range(17)))


async def test_mounting_the_same_corpus_again_changes_nothing(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    assert (await memory.corpora.mount("director", "texts")).unmounted == ()
    assert await memory.corpora.mounted("director") == ("texts",)


async def test_an_unknown_corpus_leaves_the_outfit_as_it_is(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    with pytest.raises(NotFound):
        await memory.corpora.mount("director", "other")
    assert await memory.corpora.mounted("director") == ("texts",)


async def test_each_agent_wears_its_own(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("critic", "texts")
    assert await memory.corpora.mounted("director") == ()
    assert not await memory.recall.search(Query("quince", agent="director"))
    assert len(await memory.recall.search(Query("quince", agent="critic"))) == 1


async def test_unmounting(memory: Memory, folder: Path):
    await memory.corpora.add("texts", folder)
    await memory.corpora.mount("director", "texts")
    await memory.corpora.unmount("director", "texts")
    assert await memory.corpora.mounted("director") == ()
    with pytest.raises(NotFound, match="It has mounted: nothing"):
        await memory.corpora.unmount("director", "texts")


async def test_several_corpora_at_once(memory: Memory, folder: Path):
    async with anyio.create_task_group() as tasks:
        for n in range(5):
            tasks.start_soon(memory.corpora.add, f"texts-{n}", folder)
        tasks.start_soon(memory.corpora.add, "texts-0", folder)
    infos = await memory.corpora.list()
    assert [info.name for info in infos] == [f"texts-{n}" for n in range(5)]
    assert len({info.chunks for info in infos}) == 1


async def test_the_vectors_follow_in_the_background(database: Database, folder: Path, tmp_path: Path):
    async with Memory.open(database, default_embedder(), [tmp_path]) as memory:
        await memory.corpora.add("texts", folder)
        await memory.upkeep.settled()
        assert (await memory.corpora.info("texts")).owed == 0
        (hit, *_) = await memory.recall.search(Query("a ship being guided into port", corpus="texts"))
        assert hit.source.startswith("harbour.md")


async def test_corpora_can_be_used_without_anyone_making_vectors(database: Database, folder: Path, tmp_path: Path):
    info = await Corpora(database, [tmp_path]).add("texts", folder)
    assert info.owed == info.chunks


async def test_a_corpus_can_be_indexed_in_a_language_of_its_own(memory: Memory, tmp_path: Path):
    (tmp_path / "kurz.md").write_text("Häuser, Gärten", "utf-8")
    await memory.corpora.add("kurz", tmp_path / "kurz.md", language="german")
    hits = await memory.recall.search(Query("Haus", corpus="kurz"))
    assert [hit.prose for hit in hits] == ["Häuser, Gärten"]
    with pytest.raises(Conflict, match="indexed in german"):
        await memory.corpora.add("kurz", tmp_path / "kurz.md", language="french")
    with pytest.raises(InvalidInput, match="no stemmer for 'klingon'"):
        await memory.corpora.add("lang", tmp_path / "kurz.md", language="klingon")
