"""A database that dies under the writers, and a clock that jumps back."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import asyncpg
import pytest

from bench.endurance.looking import Acknowledged, lost
from memory.database import Database, DatabaseConfig
from memory.exchange import Selection
from memory.memory import Memory
from memory.packets import Packet, content_hash
from memory.recall import Query
from memory.uuid7 import uuid7

pytestmark = pytest.mark.anyio

WRITERS = 4
WRITES = 25


def packet(prose: str, sequence: int = 1) -> Packet:
    return Packet(uuid7(), datetime.now(UTC), "director", "s", sequence, "said", prose)


def kill(database: Database) -> None:
    pid = database.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGQUIT)  # Postgres' own crash: no goodbye, recovery at the next start


async def test_a_database_that_dies_in_mid_write_loses_nothing_and_writes_nothing_twice(copied_home: Path) -> None:
    async with Database.open(DatabaseConfig(home=copied_home)) as database, Memory.open(database, None) as memory:
        acknowledged = Acknowledged(copied_home, 0)

        async def write(writer: int) -> None:
            for number in range(WRITES):
                if writer == 0 and number in (5, 15):
                    kill(database)
                one = packet(f"zq{writer}x{number}q stands in one packet alone")
                await memory.packets.write([one])
                acknowledged.ids[one.id] = (f"zq{writer}x{number}q", content_hash(one.prose))

        async with anyio.create_task_group() as tasks:
            for writer in range(WRITERS):
                tasks.start_soon(write, writer)
        assert await lost(memory, acknowledged) == []
        assert await memory.packets.count() == WRITERS * WRITES


async def test_one_write_outlives_two_deaths_of_the_database(copied_home: Path) -> None:
    async with Database.open(DatabaseConfig(home=copied_home)) as database, Memory.open(database, None) as memory:
        attempts = 0
        one = packet("written although the server died twice under it")

        async def write(connection: asyncpg.Connection) -> None:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                kill(database)
            await memory.packets.add(connection, [one])

        await database.run(write)
        assert attempts == 3
        assert await memory.packets.count() == 1


async def test_a_database_that_dies_in_mid_import_is_brought_back_and_the_import_ends(copied_home: Path) -> None:
    async with Database.open(DatabaseConfig(home=copied_home)) as database, Memory.open(database, None) as memory:
        await memory.packets.write([packet(f"number {number}") for number in range(1100)])

        async def quiet(_what: str, _share: float | None) -> None:
            return None

        await memory.exchange.export(copied_home / "out.jsonl", Selection(), quiet)
        await database.execute("TRUNCATE packets, traces, postings, extents, owed")

        async def killing(what: str, _share: float | None) -> None:
            if what.startswith("importing: 500"):
                kill(database)

        done = await memory.exchange.bring_in(copied_home / "out.jsonl", killing)
        assert (done.written + done.known, done.conflicts) == (1100, 0)
        assert await memory.packets.count() == 1100


async def test_a_clock_that_jumps_back_changes_neither_the_order_of_ids_nor_what_since_finds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Memory.open(database, None) as memory:
        before = packet("The harbour opens at six.", 1)
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600 * 10**9)
        earlier = datetime.now(UTC) - timedelta(hours=1)
        ids = [before.id, *(uuid7() for _ in range(3))]
        after = Packet(ids[-1], earlier, "director", "s", 2, "said", "The harbour closes at nine.")
        await memory.packets.write([before, after])
        assert ids == sorted(ids)
        half = datetime.now(UTC) - timedelta(minutes=30)
        assert [hit.id for hit in await memory.recall.search(Query("harbour", since=half))] == [before.id]
        assert [hit.id for hit in await memory.recall.search(Query("harbour", until=half))] == [after.id]
        assert len(await memory.recall.search(Query("harbour"))) == 2


async def test_a_packet_from_the_future_is_found_like_any_other(database: Database) -> None:
    async with Memory.open(database, None) as memory:
        ahead = Packet(uuid7(), datetime.now(UTC) + timedelta(days=400), "director", "s", 1, "said", "The harbour.")
        await memory.packets.write([ahead])
        (hit,) = await memory.recall.search(Query("harbour"))
        assert hit.id == ahead.id
        assert 0 < hit.score < 10
