"""The embedded server: started, shared, stopped; whose it is, where it may lie, what it refuses."""

# ruff: noqa: ASYNC221, ASYNC240
# A test has its event loop to itself, so that blocking it for a moment holds nobody up.

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import anyio
import asyncpg
import psutil
import pytest

from engine.errors import Conflict, Forbidden, StorageFull, Unavailable
from memory import cluster, postgres, postmaster
from memory.guard import USERS_LOCK
from memory.postgres import EmbeddedPostgres
from tests.memory.servers import (
    ROOT,
    SECONDS,
    alive,
    ask,
    daemon,
    ended,
    fill,
    first_line,
    server_of,
    small_disk,
    start_daemon,
)

pytestmark = pytest.mark.anyio

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of this system does not offer it")


# -- starting and stopping


async def test_a_fresh_home_gets_a_server_with_checksums_and_utf8(home: Path) -> None:
    async with server_of(home) as server:
        address = await server.ensure()
        assert await ask(address, "SHOW server_encoding") == "UTF8"
        assert await ask(address, "SHOW data_checksums") == "on"
        assert await ask(address, "SELECT lower('ÄÖÜ') || ('Z' < 'a')") == "äöütrue"
        assert (home / "postgres").stat().st_mode & 0o077 == 0
    ended(address.pid)


async def test_what_was_written_is_there_after_a_restart(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        await ask(await server.ensure(), "CREATE TABLE restarted AS SELECT 7 AS a")
    async with server_of(seasoned_home) as server:
        assert await ask(await server.ensure(), "SELECT a FROM restarted") == 7


async def test_asking_again_changes_nothing(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        assert await server.ensure() == await server.ensure()


async def test_the_server_does_not_listen_on_the_network(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        assert await ask(address, "SHOW listen_addresses") == ""
        connections = psutil.Process(address.pid).net_connections(kind="inet")
        assert not connections


async def test_the_server_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        assert os.getsid(address.pid) != os.getsid(0)


@pytest.mark.parametrize(
    "name",
    ["with space", 'quo\'te "double" $HOME `x`', "naïve-日本語", "comma,equals=1;#%25", "long-" + 30 * "abcdefg-"],
)
async def test_any_path_will_do(home: Path, seasoned_home: Path, name: str) -> None:
    strange = home / name
    async with server_of(strange) as server:  # initialises there, too
        address = await server.ensure()
        assert await ask(address, "SELECT 1") == 1
        assert address.socket_folder.stat().st_mode & 0o077 == 0
    async with server_of(strange) as server, server_of(strange) as other:
        assert await server.ensure() == await other.ensure()


async def test_a_socket_folder_that_somebody_else_prepared_is_not_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(home))
    far = home / ("far-" * 30)
    trap = home / f"{postmaster.tag_of(far / 'postgres')}-{os.geteuid()}"
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    async with server_of(far) as server:
        address = await server.ensure()
        assert address.socket_folder != trap
        assert address.socket_folder.stat().st_mode & 0o077 == 0


# -- several users


async def test_the_server_stays_until_its_last_user_leaves(seasoned_home: Path) -> None:
    first, second = EmbeddedPostgres(seasoned_home), EmbeddedPostgres(seasoned_home)
    address = await first.ensure()
    assert await second.ensure() == address
    assert not await first.stop()
    assert await ask(address, "SELECT 1") == 1
    assert await second.stop()
    assert not alive(address.pid)


async def test_processes_that_race_for_a_fresh_home_get_one_server(home: Path) -> None:
    racers = [start_daemon(home) for _ in range(3)]
    async with server_of(home) as server:
        address = await server.ensure()
        assert {first_line(racer) for racer in racers} == {str(address.pid)}
        for racer in racers:
            racer.communicate(timeout=SECONDS)


async def test_a_newcomer_right_after_a_kill_gets_a_server_that_stays(seasoned_home: Path) -> None:
    """It either waits for the old server to go down, or keeps it up: both may happen first."""
    for _ in range(3):
        with daemon(seasoned_home) as (process, _pid):
            process.kill()
        async with server_of(seasoned_home) as server:
            address = await server.ensure()
            assert await ask(address, "SELECT 1") == 1
            assert await server.ensure() == address


async def test_a_newcomer_waits_while_a_guard_takes_the_server_down(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        await server.ensure()
    waiting = anyio.Event()
    newcomer = EmbeddedPostgres(seasoned_home, report=lambda detail, fraction: waiting.set())
    async with anyio.create_task_group() as tasks:
        with (server.run / USERS_LOCK).open("r+") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            tasks.start_soon(newcomer.ensure)
            await waiting.wait()
            assert postmaster.find(newcomer.data) is None
    assert postmaster.find(newcomer.data) is not None
    await newcomer.stop()


# -- folders that do not fit


async def test_a_torn_initialisation_is_made_anew(home: Path) -> None:
    torn = home / "postgres.new-torn"
    torn.mkdir()
    (torn / "PG_VERSION").write_text("18")
    (home / "postgres").mkdir()
    async with server_of(home) as server:
        assert await ask(await server.ensure(), "SELECT 1") == 1
        assert not torn.exists()


async def test_a_folder_of_something_else_is_refused_and_left_alone(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "letter.txt").write_text("dear")
    async with server_of(home) as server:
        with pytest.raises(Conflict, match=r"not a complete Postgres data folder.*Move it away"):
            await server.ensure()
    assert [path.name for path in (home / "postgres").iterdir()] == ["letter.txt"]


async def test_data_of_another_version_are_refused_and_left_alone(copied_home: Path) -> None:
    (copied_home / "postgres" / "PG_VERSION").write_text("17\n")
    async with server_of(copied_home) as server:
        with pytest.raises(Conflict, match=r"written by Postgres 17.*Nothing was touched.*pg_dump of Postgres 17"):
            await server.ensure()
    assert not (copied_home / "postgres" / "postmaster.pid").exists()


async def test_a_server_that_cannot_start_gives_its_own_reason(seasoned_home: Path) -> None:
    server = EmbeddedPostgres(seasoned_home, settings={"shared_buffers": "nonsense"})
    with pytest.raises(Unavailable, match=r'invalid value for parameter "shared_buffers"'):
        await server.ensure()
    await server.stop()


async def test_a_home_held_by_a_process_that_does_not_let_go_is_said(
    seasoned_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_WAIT_S", 0.1)
    (seasoned_home / "run").mkdir(exist_ok=True)
    holder = EmbeddedPostgres(seasoned_home)
    async with server_of(seasoned_home) as server, holder._starting():
        with pytest.raises(Unavailable, match=r"held by another process.*lsof"):
            await server.ensure()


@as_root
async def test_a_full_disk_is_said_while_initialising_and_while_starting(home: Path, seasoned_home: Path) -> None:
    with small_disk(home, "20m"):
        async with server_of(home) as server:
            with pytest.raises(StorageFull, match=r"disk that holds .* is full"):
                await server.ensure()
        assert not list(home.glob("postgres*"))
    with small_disk(home, "80m"):
        subprocess.run(["cp", "-a", seasoned_home / "postgres", home / "postgres"], check=True)
        fill(home / "ballast")
        async with server_of(home) as server:
            with pytest.raises(StorageFull, match=r"disk that holds .* is full"):
                await server.ensure()
            (home / "ballast").unlink()
            assert await ask(await server.ensure(), "SELECT 1") == 1


# -- users


@as_root
@on_linux
async def test_root_runs_it_as_somebody_else_behind_a_closed_folder_without_opening_that(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    async with server_of(closed / "soul") as server:
        address = await server.ensure()
        assert psutil.Process(address.pid).uids().effective != 0
        assert await ask(address, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o077 == 0


@as_root
async def test_data_restored_by_root_are_given_back_to_the_server(copied_home: Path) -> None:
    subprocess.run(["chown", "-R", "0:0", copied_home / "postgres"], check=True)
    async with server_of(copied_home) as server:
        assert await ask(await server.ensure(), "SELECT 1") == 1


@as_root
@on_linux
async def test_an_ordinary_user_just_runs_it(home: Path) -> None:
    soul = home / "soul"
    soul.mkdir()
    os.chown(soul, 65534, 65534)
    home.chmod(0o755)
    output = run_as_nobody("print(await server.ensure() is not None, await server.stop())", soul)
    assert output.stdout.strip() == "True True", output.stderr
    assert (soul / "postgres").stat().st_uid == 65534


@as_root
@on_linux
async def test_a_folder_of_another_user_is_refused(copied_home: Path) -> None:
    copied_home.chmod(0o755)
    for folder in ("run", "logs"):
        (copied_home / folder).mkdir()
        os.chown(copied_home / folder, 65534, 65534)
    os.chown(copied_home / "postgres", 12345, 12345)
    output = run_as_nobody("await server.ensure()", copied_home)
    assert "belongs to user 12345, not to you" in output.stderr


def run_as_nobody(body: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs `body` with `server` as user nobody, who may read but not write beyond its rights (this interpreter may lie
    under a closed folder)."""
    program = (
        "import anyio, structlog, sys; from pathlib import Path; from memory.postgres import EmbeddedPostgres\n"
        "structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))\n"
        "async def main():\n"
        "    server = EmbeddedPostgres(Path(sys.argv[1]))\n"
        f"    {body}\n"
        "anyio.run(main)\n"
    )
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+dac_read_search",
         "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", sys.executable, "-c", program, home],
        capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, check=False,
    )  # fmt: skip


@as_root
async def test_root_without_the_right_to_pass_folders_gets_the_remedy(
    copied_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard_command = cluster.guard_command

    def without_capabilities(mode: str, owner: cluster.Owner) -> list[str]:
        return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *guard_command(mode, owner)]

    monkeypatch.setattr(cluster, "guard_command", without_capabilities)
    copied_home.chmod(0o700)
    async with server_of(copied_home) as server:
        with pytest.raises(
            Forbidden, match=r"does not run as root.*Set SOUL_HOME to a folder that other users can pass"
        ):
            await server.ensure()


# -- the log


async def test_the_log_holds_no_statement_and_no_row(seasoned_home: Path) -> None:
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        await ask(address, "CREATE TABLE diary (a text PRIMARY KEY)")
        await ask(address, "INSERT INTO diary VALUES ('my secret')")
        with pytest.raises(asyncpg.UniqueViolationError):
            await ask(address, "INSERT INTO diary VALUES ('my secret')")
    log = (seasoned_home / "logs" / "postgres.log").read_text()
    assert "duplicate key value" in log
    assert "secret" not in log
