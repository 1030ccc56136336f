"""The embedded server comes back, with all that was committed, after every way to lose it."""

# ruff: noqa: ASYNC220
# A test has its event loop to itself, so that blocking it for a moment holds nobody up.

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import asyncpg
import psutil
import pytest

from memory import cluster, postgres, postmaster
from tests.memory.servers import alive, ask, daemon, ended, server_of

pytestmark = pytest.mark.anyio

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of this system does not offer it")


async def test_a_killed_daemon_takes_the_server_with_it(seasoned_home: Path) -> None:
    with daemon(seasoned_home) as (process, pid):
        process.kill()
    ended(pid)
    log = (seasoned_home / "logs" / "postgres.log").read_text()
    assert f"[{pid}] LOG:  received fast shutdown request" in log


async def test_a_killed_postmaster_is_started_again_with_all_that_was_committed(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        await ask(address, "CREATE TABLE survived AS SELECT 7 AS a")
        os.kill(address.pid, signal.SIGKILL)
        again = await server.ensure()
        assert again.pid != address.pid
        assert await ask(again, "SELECT a FROM survived") == 7


async def test_daemon_and_postmaster_killed_together_leave_nothing_that_hinders(seasoned_home: Path) -> None:
    with daemon(seasoned_home) as (process, pid):
        os.kill(pid, signal.SIGKILL)
        process.kill()
    async with server_of(seasoned_home) as server:
        assert await ask(await server.ensure(), "SELECT 1") == 1


@on_linux
async def test_a_killed_guard_takes_the_server_with_it(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        os.kill(psutil.Process(address.pid).ppid(), signal.SIGKILL)
        ended(address.pid)
        assert (await server.ensure()).pid != address.pid


async def test_a_terminated_guard_stops_the_server_fast_though_clients_are_connected(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        client = await asyncpg.connect(host=[str(address.socket_folder)], user=cluster.USER, ssl=False)
        os.kill(psutil.Process(address.pid).ppid(), signal.SIGTERM)
        ended(address.pid)
        client.terminate()


async def test_a_server_that_waits_for_its_clients_to_leave_is_hurried(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        client = await asyncpg.connect(host=[str(address.socket_folder)], user=cluster.USER, ssl=False)
        os.kill(address.pid, signal.SIGTERM)
        while (running := postmaster.find(server.data)) is not None and running.status == "ready":
            await anyio.lowlevel.checkpoint()
        assert (await server.ensure()).pid != address.pid
        client.terminate()


async def test_a_backend_that_survives_its_postmaster_is_ended(
    seasoned_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "ORPHANS_WAIT_S", 0.3)
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        client = await asyncpg.connect(host=[str(address.socket_folder)], user=cluster.USER, ssl=False)
        backend = await client.fetchval("SELECT pg_backend_pid()")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_spin, client)
            # The endless loop has begun once the server says so.
            while await ask(address, f"SELECT state FROM pg_stat_activity WHERE pid = {backend}") != "active":
                await anyio.lowlevel.checkpoint()
            os.kill(address.pid, signal.SIGKILL)
            again = await server.ensure()
        assert not alive(backend)
        assert await ask(again, "SELECT 1") == 1


async def _spin(client: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await client.execute("DO 'BEGIN LOOP END LOOP; END'")


async def test_a_stale_pid_file_whose_pid_went_to_another_process_does_not_hinder(copied_home: Path) -> None:
    async with server_of(copied_home) as server:
        address = await server.ensure()
        os.kill(address.pid, signal.SIGKILL)
        ended(address.pid)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        for path in (copied_home / "postgres" / "postmaster.pid", copied_home / "run" / f"{postgres.SOCKET_NAME}.lock"):
            path.write_text(path.read_text().replace(f"{address.pid}\n", f"{stranger.pid}\n", 1))
        async with server_of(copied_home) as server:
            assert await ask(await server.ensure(), "SELECT 1") == 1
            assert stranger.poll() is None
        stranger.kill()


async def test_a_server_whose_socket_was_removed_is_started_anew(
    seasoned_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "DEAF_S", 0.1)
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        (address.socket_folder / postgres.SOCKET_NAME).unlink()
        again = await server.ensure()
        assert again.pid != address.pid
        assert await ask(again, "SELECT 1") == 1
