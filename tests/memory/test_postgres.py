"""The embedded server: started, shared, stopped, and brought back after every way to lose it."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC240
# A test has its event loop to itself, so that blocking it for a moment holds nobody up.

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import asyncpg
import psutil
import pytest

from engine.errors import Conflict, Forbidden, StorageFull, Unavailable
from memory import cluster, postgres, postmaster
from memory.postgres import EmbeddedPostgres
from memory.postmaster import Address

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SECONDS = 60
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of this system does not offer it")

DAEMON = """
import anyio, structlog, sys
from pathlib import Path
from memory.postgres import EmbeddedPostgres

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    print((await server.ensure()).pid, flush=True)
    await anyio.to_thread.run_sync(sys.stdin.read)
    await server.stop()

anyio.run(main)
"""
"""Uses the server until its stdin is closed, as a daemon would; prints the postmaster's pid."""


@pytest.fixture
def copied_home(home: Path, seasoned_home: Path) -> Path:
    """An initialised SOUL_HOME whose files a test may spoil."""
    subprocess.run(["cp", "-a", seasoned_home / "postgres", home / "postgres"], check=True)
    return home


@asynccontextmanager
async def server_of(home: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home)
    try:
        yield server
    finally:
        await server.stop()


async def ask(address: Address, statement: str) -> object:
    connection = await asyncpg.connect(
        host=[str(address.socket_folder)], port=cluster.PORT, user=cluster.USER, database=cluster.USER, ssl=False
    )
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def start_daemon(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DAEMON, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def daemon(home: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that uses the server of `home`, and the postmaster's pid."""
    process = start_daemon(home)
    try:
        yield process, int(first_line(process))
    finally:
        process.communicate(timeout=SECONDS)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def ended(pid: int) -> None:
    """Returns when the process is gone."""
    try:
        psutil.Process(pid).wait(SECONDS)
    except psutil.NoSuchProcess:
        return


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


async def test_a_newcomer_waits_for_the_server_that_is_going_down(seasoned_home: Path) -> None:
    with daemon(seasoned_home) as (process, pid):
        process.kill()
    async with server_of(seasoned_home) as server:
        address = await server.ensure()
        assert address.pid != pid
        assert await ask(address, "SELECT 1") == 1
    ended(pid)


# -- every way to lose it


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


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Writes until nothing fits any more."""
    with path.open("wb", buffering=0) as ballast:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while ballast.write(b"x" * block):
                    pass
            except OSError:
                continue


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
