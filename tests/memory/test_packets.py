"""Packets: written once, kept word for word, forgotten by no retry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import anyio
import asyncpg
import pytest

from engine.errors import InvalidInput, NotFound
from memory import postings
from memory.database import Database
from memory.memory import Memory
from memory.packets import Packet, Packets
from memory.recall import Query
from memory.uuid7 import uuid7

pytestmark = pytest.mark.anyio

ENTRIES = "SELECT count(*) AS rows, coalesce(sum(n), 0) AS entries FROM postings"


def packet(prose: str, **changes: object) -> Packet:
    base = Packet(uuid7(), datetime(2026, 11, 21, 10, 2, tzinfo=UTC), "director", "session", 0, "said", prose)
    return replace(base, **changes)  # type: ignore[arg-type]


async def found(database: Database, text: str, **more: object) -> list[str]:
    """What recall by words finds."""
    async with Memory.open(database, None) as memory:
        return [hit.prose for hit in await memory.recall.search(Query(text, **more))]  # type: ignore[arg-type]


async def test_a_packet_comes_back_as_it_was_written(database: Database):
    packets = Packets(database)
    written = packet(
        "What we decided:\n\tpostings\twithout a dictionary 🙂",
        origin="person",
        resonance=0.25,
        generation="g3",
        work_order=uuid7(),
        metadata={"lines": [1, 2], "deep": {"a": None}},
    )
    await packets.write([written])
    assert await packets.get(written.id) == written


async def test_writing_again_changes_nothing(database: Database):
    packets = Packets(database)
    written = [packet(f"thing number {n}") for n in range(3)]
    await packets.write(written)
    before = await database.fetchrow(ENTRIES)
    await packets.write([replace(written[0], prose="something else"), *written])
    assert await packets.count() == 3
    assert (await packets.get(written[0].id)).prose == "thing number 0"
    assert await database.fetchrow(ENTRIES) == before


async def test_characters_that_postgres_refuses_are_dropped(database: Database):
    packets = Packets(database)
    written = packet("nul\x00 bell\x07 lone\ud800 end", session="s\x00", metadata={"k\x00": ["v\x00"]})
    await packets.write([written])
    read = await packets.get(written.id)
    assert (read.prose, read.session, read.metadata) == ("nul bell lone end", "s", {"k": ["v"]})


async def test_a_megabyte_is_kept_and_found(database: Database):
    packets = Packets(database)
    await packets.write([written := packet("haystack " * 120_000 + "needle")])
    assert len((await packets.get(written.id)).prose) > 1_000_000
    assert len(await found(database, "needle")) == 1


async def test_empty_and_wordless_packets_are_kept(database: Database):
    packets = Packets(database)
    await packets.write([packet(""), packet("!?"), packet("the")])
    assert await packets.count() == 3
    assert await packets.owed() == 3


async def test_all_of_a_write_or_none_of_it(database: Database):
    packets = Packets(database)
    with pytest.raises(InvalidInput, match="resonance"):
        await packets.write([packet("first"), packet("second", resonance=1.5)])
    assert await packets.count() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "gossip"}, "no kind 'gossip'.*said"),
        ({"resonance": float("nan")}, "between 0 and 1"),
        ({"time": datetime(2026, 1, 1)}, "time zone"),
        ({"corpus": "docs"}, "soul corpus add"),
    ],
)
async def test_misuse_is_refused_with_its_remedy(database: Database, changes: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        await Packets(database).write([packet("x", **changes)])


async def test_an_unknown_id_is_not_found(database: Database):
    with pytest.raises(NotFound, match="recall"):
        await Packets(database).get(UUID(int=7))


async def test_packets_are_counted_by_agent_kind_and_session(database: Database):
    packets = Packets(database)
    await packets.write([packet("a"), packet("b", agent="critic"), packet("c", kind="call", session="other")])
    assert await packets.count() == 3
    assert await packets.count(agent="critic") == 1
    assert await packets.count(kind="call") == 1
    assert await packets.count(session="other", agent="critic") == 0


async def test_many_writers_at_once_lose_nothing(database: Database):
    packets = Packets(database)

    async def write(writer: int) -> None:
        for n in range(10):
            await packets.write([packet(f"common words of writer {writer} line {n}")])

    async with anyio.create_task_group() as tasks:
        for writer in range(8):
            tasks.start_soon(write, writer)
    assert await packets.count() == 80
    assert len(await found(database, "writer", k=100)) == 80


async def test_packets_and_a_callers_rows_commit_together(database: Database):
    packets = Packets(database)
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.transaction() as connection:
            await packets.add(connection, [packet("never")])
            await connection.execute("INSERT INTO nowhere VALUES (1)")
    assert await packets.count() == 0


async def test_compaction_merges_rows_and_finds_the_same(database: Database):
    packets = Packets(database)
    for n in range(30):
        await packets.write([packet(f"postings compaction number {n}")])
    before = await database.fetchrow(ENTRIES)
    expected = await found(database, "compaction", k=100)
    await database.run(lambda connection: postings.compact(connection, postings.LIVED))
    after = await database.fetchrow(ENTRIES)
    assert before is not None
    assert after is not None
    assert after["entries"] == before["entries"]
    assert after["rows"] < before["rows"]
    assert sorted(await found(database, "compaction", k=100)) == sorted(expected)
    assert await packets.count() == 30


async def test_compaction_drops_what_was_removed(database: Database):
    packets = Packets(database)
    await packets.write(written := [packet("kept words"), packet("removed words")])
    number = await database.fetchval("SELECT no FROM traces WHERE id = $1", written[1].id)

    async def remove(connection: asyncpg.Connection) -> None:
        await postings.remove(connection, postings.LIVED, [number])

    await database.run(remove)
    assert await found(database, "words") == ["kept words"]
    await database.run(lambda connection: postings.compact(connection, postings.LIVED))
    entries = await database.fetch("SELECT unnest(entries) >> 32 AS no FROM postings")
    assert number not in {row["no"] for row in entries}
    assert await packets.count() == 1
