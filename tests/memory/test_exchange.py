"""Memories that go out to a file and come in again: whole, word for word, once, and never against a person's wish."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import Conflict, Forbidden, InvalidInput, MissingExtra, NotFound
from memory import jsonl
from memory.database import Database, DatabaseConfig
from memory.exchange import Selection
from memory.forgetting import Wish
from memory.memory import Memory
from memory.packets import Packet
from memory.recall import Query
from memory.uuid7 import uuid7
from tests.houses import embedder

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PROSE = ("The harbour opens at six.", "Ada said: „Größe“ ist 7 Ω\n\tzwei Zeilen 🜁", "{}", "")


def packet(prose: str, **values: Any) -> Packet:
    base: dict[str, Any] = {"id": uuid7(), "time": NOON, "agent": "director", "session": "s", "sequence": 1}
    return Packet(**{**base, "kind": "said", "prose": prose, "origin": "person", **values})


def packets() -> list[Packet]:
    lived = [packet(prose, sequence=n, resonance=0.25, metadata={"n": [n, None]}) for n, prose in enumerate(PROSE)]
    return [*lived, packet("recall(harbour)", kind="call", agent="critic", work_order=uuid7(), generation="g1")]


async def quiet(_what: str, _share: float | None) -> None:
    return None


@pytest.fixture
async def memory(home: Path, database: Database) -> AsyncIterator[Memory]:
    async with Memory.open(database, embedder()) as opened:
        yield opened


@pytest.fixture
async def other(empty_database_url: str, home: Path) -> AsyncIterator[Memory]:
    """A second Soul."""
    async with (
        Database.open(DatabaseConfig(home, url=empty_database_url, pool_size=4)) as database,
        Memory.open(database, embedder()) as opened,
    ):
        yield opened


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*out*")] + [path.name for path in folder.glob(".out*")]


def without_mark(packet: Packet) -> dict[str, Any]:
    metadata = {name: value for name, value in packet.metadata.items() if name != "imported"}
    return {**vars(packet), "metadata": metadata}


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
async def test_what_goes_out_comes_in_as_it_was_with_its_vectors(
    memory: Memory, other: Memory, home: Path, name: str
) -> None:
    sent = packets()
    await memory.packets.write(sent)
    await memory.upkeep.settled()
    out = await memory.exchange.export(home / name, Selection(vectors=True), quiet)
    assert (out.packets, out.vectors, out.embedder) == (5, 5, embedder().id)
    assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    done = await other.exchange.bring_in(home / name, quiet)
    assert (done.packets, done.written, done.vectors, done.mixed) == (5, 5, 5, False)
    assert await other.packets.owed() == 0
    for one in sent:
        came = await other.packets.get(one.id)
        assert without_mark(came) == {**vars(one), "metadata": dict(one.metadata)}
        assert came.metadata["imported"]["file"] == name
    vectors = "SELECT id, embedding::text AS v, embedder FROM packets ORDER BY id"
    assert await other.database.fetch(vectors) == await memory.database.fetch(vectors)
    near = "SELECT near::text FROM nearness JOIN traces USING (no) ORDER BY id"
    assert await other.database.fetch(near) == await memory.database.fetch(near)
    hits = await other.recall.search(Query("when does the port open in the morning?"))
    assert hits[0].prose == PROSE[0]


async def test_importing_twice_is_importing_once(memory: Memory, other: Memory, home: Path) -> None:
    await memory.packets.write(packets())
    await memory.exchange.export(home / "out.jsonl", Selection(), quiet)
    assert (await other.exchange.bring_in(home / "out.jsonl", quiet)).written == 5
    again = await other.exchange.bring_in(home / "out.jsonl", quiet)
    assert (again.written, again.known) == (0, 5)
    assert await other.packets.count() == 5


async def test_without_vectors_they_are_owed_and_made(memory: Memory, other: Memory, home: Path) -> None:
    await memory.packets.write(packets())
    await memory.exchange.export(home / "out.jsonl", Selection(), quiet)
    assert (await other.exchange.bring_in(home / "out.jsonl", quiet)).vectors == 0
    await other.upkeep.settled()
    assert await other.database.fetchval("SELECT count(*) FROM nearness") == 5


class Other:
    """Another embedder of the same dimension."""

    id = "other"
    dimension = 384
    max_tokens = 256

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        return np.tile(np.eye(1, 384, dtype=np.float32), (len(texts), 1))


async def test_vectors_of_another_embedder_are_left_out_and_made_anew(
    memory: Memory, empty_database_url: str, home: Path
) -> None:
    await memory.packets.write(packets())
    await memory.upkeep.settled()
    await memory.exchange.export(home / "out.jsonl", Selection(vectors=True), quiet)
    async with (
        Database.open(DatabaseConfig(home, url=empty_database_url, pool_size=2)) as database,
        Memory.open(database, Other()) as other,
    ):
        done = await other.exchange.bring_in(home / "out.jsonl", quiet)
        assert (done.written, done.vectors, done.mixed, done.embedder) == (5, 0, True, embedder().id)
        await other.upkeep.settled()
        assert await database.fetch("SELECT DISTINCT e.name FROM packets JOIN embedders e ON e.id = embedder") == [
            ("other",)
        ]


async def test_the_same_id_with_another_text_is_reported_and_what_was_here_stays(
    memory: Memory, other: Memory, home: Path
) -> None:
    one, two = packet("It is blue."), packet("It is round.")
    await memory.packets.write([one, two])
    await other.packets.write([packet("It is green.", id=one.id)])
    await memory.exchange.export(home / "out.jsonl", Selection(), quiet)
    done = await other.exchange.bring_in(home / "out.jsonl", quiet)
    assert (done.written, done.conflicts, done.conflicting) == (1, 1, (one.id,))
    assert (await other.packets.get(one.id)).prose == "It is green."


async def test_what_was_forgotten_here_does_not_come_back(memory: Memory, home: Path) -> None:
    one, two = packet("My sister lives in the yellow house."), packet("It rains.")
    await memory.packets.write([one, two])
    await memory.exchange.export(home / "out.jsonl", Selection(), quiet)
    await memory.forgetting.carry_out(Wish(ids=(one.id,)), "person", "")
    done = await memory.exchange.bring_in(home / "out.jsonl", quiet)
    assert (done.written, done.known, done.forgotten) == (0, 1, 1)
    with pytest.raises(NotFound):
        await memory.packets.get(one.id)


async def test_a_selection_goes_by_time_kind_and_agent(memory: Memory, home: Path) -> None:
    hour = timedelta(hours=1)
    await memory.packets.write([packet(f"at {n}", time=NOON + n * hour) for n in range(4)])
    await memory.packets.write([packet("an order", kind="order"), packet("by her", agent="critic")])

    async def texts(**wanted: Any) -> list[str]:
        file = home / "out.jsonl"
        file.unlink(missing_ok=True)
        await memory.exchange.export(file, Selection(**wanted), quiet)
        return [json.loads(line)["prose"] for line in file.read_text().splitlines()[1:-1]]

    assert await texts(since=NOON + hour, until=NOON + 3 * hour) == ["at 1", "at 2"]
    assert await texts(kinds=("order",)) == ["an order"]
    assert await texts(agent="critic") == ["by her"]
    with pytest.raises(InvalidInput, match="no kind 'poem'"):
        await texts(kinds=("poem",))


def changed(line: int, **values: Any) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        lines[line] = json.dumps({**json.loads(lines[line]), **values})
        return lines

    return change


BAD: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "garbage": (lambda _: ["\x00\x01garbage"], "no export of a Soul's memory"),
    "nothing": (lambda _: [], "no export of a Soul's memory"),
    "other version": (changed(0, version=2), "is of version 2"),
    "cut between lines": (lambda lines: lines[:-2], "breaks off after 3 packets"),
    "cut in a line": (lambda lines: [*lines[:2], lines[2][:40]], "breaks off after 1 packets"),
    "a line lost": (lambda lines: [*lines[:2], *lines[3:]], "holds 3 packets where its last line says 4"),
    "more behind the end": (lambda lines: [*lines, lines[1]], "holds 4 packets where"),
    "other prose": (changed(2, prose="changed"), "line 3: the content hash is not that of the prose"),
    "no number": (changed(2, vector=[float("nan")] * 384), "line 3: vector.0: Input should be a finite number"),
    "too short": (changed(2, vector=[1.0]), "line 3: the vector has 1 numbers, not 384"),
    "no direction": (changed(2, vector=[0.0] * 384), "the vector has length 0, not 1"),
    "too large": (changed(2, vector=[1e300] * 384), "the vector has length inf"),
    "no zone": (changed(2, time="2026-11-21T10:00"), "line 3: time: Input should have timezone"),
    "before all time": (changed(2, time="0001-01-01T00:00:00+14:00"), "line 3: a value that cannot be kept"),
    "unknown kind": (changed(2, kind="poem"), "line 3: kind: "),
    "a passage": (changed(2, kind="chunk"), "a passage of a corpus is no memory"),
    "no id": (changed(2, id=7), "line 3: id: "),
    "too much resonance": (changed(2, resonance=2), "line 3: resonance: "),
    "metadata without value": (changed(2, metadata={"x": float("nan")}), "a value that cannot be kept"),
    "vectors of nobody": (changed(0, embedder=""), "the file names no embedder"),
    "no JSON": (lambda lines: [lines[0], "[1, 2", *lines[2:]], "line 2: the record: "),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_file_that_is_not_whole_and_sound_is_refused_and_nothing_is_written(
    memory: Memory, home: Path, what: str
) -> None:
    head = {"format": "soul packets", "version": 1, "embedder": embedder().id, "dimension": 384}
    records = [
        {"id": str(uuid7()), "time": NOON.isoformat(), "agent": "a", "session": "s", "sequence": n, "kind": "said"}
        | {"prose": f"text {n}", "content_hash": None, "vector": np.eye(1, 384)[0].tolist()}
        for n in range(4)
    ]
    lines = [json.dumps(one) for one in (head, *records, {"end": 4})]
    from memory.packets import content_hash

    lines = changed(2, content_hash=content_hash("text 1"))(lines)
    change, says = BAD[what]
    lines = change(lines)
    (home / "in.jsonl").write_text("\n".join(lines) + ("" if what == "cut in a line" else "\n"))
    with pytest.raises(InvalidInput) as raised:
        await memory.exchange.bring_in(home / "in.jsonl", quiet)
    assert says in str(raised.value)
    assert await memory.packets.count() == 0


async def test_an_endless_line_is_not_read_into_memory(
    memory: Memory, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 1 << 20)
    (home / "in.jsonl").write_bytes(b"x" * (3 << 20))
    with pytest.raises(InvalidInput, match="line 1: longer than 1 MiB"):
        await memory.exchange.bring_in(home / "in.jsonl", quiet)


async def test_a_parquet_file_that_was_cut_or_is_none_is_refused(memory: Memory, home: Path) -> None:
    await memory.packets.write(packets())
    await memory.exchange.export(home / "out.parquet", Selection(), quiet)
    whole = (home / "out.parquet").read_bytes()
    for spoiled in (whole[: len(whole) // 2], b"PAR1 no PAR1", b"", whole[:100] + b"\xff" * 200 + whole[300:]):
        (home / "in.parquet").write_bytes(spoiled)
        with pytest.raises(InvalidInput):
            await memory.exchange.bring_in(home / "in.parquet", quiet)
    foreign = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(foreign.table({"a": [1]}), home / "foreign.parquet")
    with pytest.raises(InvalidInput, match="no export of a Soul's memory"):
        await memory.exchange.bring_in(home / "foreign.parquet", quiet)


async def test_parquet_without_pyarrow_names_the_extra_and_leaves_no_file(
    memory: Memory, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"soul-mcp\[parquet\]"):
        await memory.exchange.export(home / "out.parquet", Selection(), quiet)
    assert names(home) == []


async def test_a_file_that_cannot_be_written_or_read_says_why(memory: Memory, home: Path) -> None:
    (home / "there.jsonl").write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        await memory.exchange.export(home / "there.jsonl", Selection(), quiet)
    assert (home / "there.jsonl").read_text() == "mine"
    with pytest.raises(NotFound, match="no folder"):
        await memory.exchange.export(home / "nowhere" / "out.jsonl", Selection(), quiet)
    with pytest.raises(InvalidInput, match=r"neither \.jsonl nor \.parquet"):
        await memory.exchange.export(home / "out.csv", Selection(), quiet)
    with pytest.raises(NotFound, match="no file"):
        await memory.exchange.bring_in(home / "nowhere.jsonl", quiet)
    (home / "folder.jsonl").mkdir()
    with pytest.raises(InvalidInput, match="is a folder"):
        await memory.exchange.bring_in(home / "folder.jsonl", quiet)
    if os.geteuid():
        (home / "there.jsonl").chmod(0)
        with pytest.raises(Forbidden):
            await memory.exchange.bring_in(home / "there.jsonl", quiet)


async def test_an_export_that_breaks_off_leaves_no_file_and_an_import_that_breaks_off_goes_on(
    memory: Memory, other: Memory, home: Path
) -> None:
    await memory.packets.write([packet(f"number {n}") for n in range(1200)])

    async def breaking(what: str, _share: float | None) -> None:
        if "1,000" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await memory.exchange.export(home / "out.jsonl", Selection(), breaking)
    assert names(home) == []
    await memory.exchange.export(home / "out.jsonl", Selection(), quiet)

    async def breaking_later(what: str, _share: float | None) -> None:
        if what.startswith("importing: 1,000"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await other.exchange.bring_in(home / "out.jsonl", breaking_later)
    done = await other.exchange.bring_in(home / "out.jsonl", quiet)
    assert (done.known, done.written) == (1000, 200)
    assert await other.packets.count() == 1200
