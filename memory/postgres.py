"""The embedded Postgres of one SOUL_HOME: start it or attach to it, keep it while needed, stop it with its last user.

Knows locks, processes and sockets; verifies by connecting, never by trusting a file. Does not know any schema
(`memory.migrate`), what a data folder is made of (`memory.cluster`) or how queries are run (`memory.database`).

Locks in home/run make any number of processes right about one server:
    postgres.users   shared by each user for as long as it uses the server; the guard waits for it exclusively
    postgres.start   exclusive while somebody looks, starts or stops
    postgres.guard   exclusive for as long as a guard lives
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import psutil
import structlog

from engine.errors import InvalidInput, Unavailable
from memory import cluster, faults, postmaster
from memory.guard import FAST_SHUTDOWN_S, GUARD_LOCK, USERS_LOCK
from memory.postmaster import POLL_S, Address, Answer, knock

log = structlog.get_logger()

Report = Callable[[str, float | None], None]
"""Takes what is going on, and how far it has come (0..1) where that is known."""

LOCK_WAIT_S = 90.0
START_WAIT_S = 120.0
"""Recovery after a crash replays at most max_wal_size (512 MB)."""
DEAF_S = 5.0
"""A server that says it is ready and cannot be reached for this long has lost its socket: it is started anew."""
GUARD_WAIT_S = 5.0
START_LOCK = "postgres.start"
SOCKET_PATH_LIMIT = 103
"""Bytes of a socket's path on macOS; Linux takes 107."""
SOCKET_NAME = f".s.PGSQL.{cluster.PORT}"


def silent(_detail: str, _fraction: float | None = None) -> None:
    """The report of somebody who does not want one."""


class LastWords:
    """What guard and server say until the guard has ended: nothing, when all goes well."""

    def __init__(self) -> None:
        self._source, self._sink = os.pipe()
        os.set_blocking(self._source, False)
        self._said = b""

    def speak(self, command: list[str], environment: dict[str, str]) -> None:
        """Runs `command`, which leaves the speaker behind. Blocks for the 20 ms that takes."""
        try:
            subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._sink,
                stderr=self._sink,
                start_new_session=True,  # a Ctrl-C meant for the daemon must not reach the database
                check=False,
            )
        finally:
            os.close(self._sink)

    def read(self) -> bytes | None:
        """All that was said once the guard has ended; None while it lives. Does not block."""
        try:
            while chunk := os.read(self._source, 65_536):
                self._said += chunk
        except BlockingIOError:
            return None
        return self._said

    def close(self) -> None:
        os.close(self._source)


class EmbeddedPostgres:
    """The server of `home`, as one user of it. `ensure` may be called again at any time; `stop` ends the use."""

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None, report: Report = silent) -> None:
        self.home = home.expanduser().resolve()
        self.data = self.home / "postgres"
        self.run = self.home / "run"
        self.logs = self.home / "logs"
        self._settings = dict(settings or {})
        self._report = report
        self._users: int | None = None

    async def ensure(self) -> Address:
        """A server that answers, and this process as its user.

        Raises:
            SoulError: with the reason in the server's own words, and the remedy.
        """
        if "\n" in str(self.home):
            raise InvalidInput(
                "SOUL_HOME holds a line break, which Postgres cannot write down.", "Set it to a folder without one."
            )
        try:
            for folder in (self.home, self.run, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with self._starting():
                await self._join()
                return await self._attach() or await self._start()
        except OSError as error:
            raise faults.of_home(error, self.home) from error

    async def stop(self) -> bool:
        """Ends the use. The last user stops the server (a fast shutdown) and gets True."""
        if self._users is None:
            return False
        async with self._starting():
            descriptor, self._users = self._users, None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            else:
                await self._shut_down()
                return True
            finally:
                os.close(descriptor)

    # -- attach

    async def _attach(self) -> Address | None:
        """The running server, waited for while it starts or recovers; None when there is none (any more)."""
        deaf_since: float | None = None
        deadline = anyio.current_time() + START_WAIT_S
        while (running := postmaster.find(self.data)) is not None:
            answer = Answer.NOT_NOW
            if running.status == "stopping":
                # Told to stop by somebody, it may wait for clients that hold on (after a SIGTERM): hurry it.
                await self._shut_down()
                return None
            if running.status == "ready" and running.socket_folder is not None:
                address = Address(running.socket_folder, running.pid)
                answer = await knock(address)
                if answer is Answer.READY:
                    return address
            now = anyio.current_time()
            deaf_since = (deaf_since or now) if answer is Answer.NONE else None
            if deaf_since is not None and now - deaf_since > DEAF_S:
                log.warning("the database has lost its socket and is started anew", pid=running.pid)
                await self._shut_down()
                return None
            if now > deadline:
                raise self._too_slow(running.pid)
            self._report("waiting for the database, which is starting or recovering", None)
            await anyio.sleep(POLL_S)
        return None

    # -- start

    async def _start(self) -> Address:
        owner = cluster.owner_of(self.data)
        if not self.data.exists():
            self._report("making the database", None)
        await anyio.to_thread.run_sync(cluster.prepare, self.data, owner)
        await postmaster.clear_orphans(self.data)
        self._report("starting the database", None)
        return await self._launch(owner)

    async def _launch(self, owner: cluster.Owner) -> Address:
        """Starts guard and server and waits until the server answers."""
        socket_folder = self._socket_folder()
        words = LastWords()
        deadline = anyio.current_time() + START_WAIT_S
        try:
            await anyio.to_thread.run_sync(words.speak, *self._command(owner, socket_folder))
            while (last_words := words.read()) is None:
                running = postmaster.find(self.data)
                if running is not None and running.status == "ready":
                    address = Address(socket_folder, running.pid)
                    if await knock(address) is Answer.READY:
                        log.info("the database is up", pid=running.pid, folder=str(self.data))
                        return address
                if anyio.current_time() > deadline:
                    raise self._too_slow(running.pid if running is not None else 0)
                await anyio.sleep(POLL_S / 4)
        finally:
            words.close()
        raise faults.of_program(last_words.decode(errors="replace"), "start", self.data)

    def _command(self, owner: cluster.Owner, socket_folder: Path) -> tuple[list[str], dict[str, str]]:
        """The guard's command line and environment."""
        settings = cluster.settings(postmaster.tag_of(self.data), socket_folder, self._settings)
        environment = dict(cluster.ENVIRONMENT)
        if (stale := postmaster.stale_pid(self.data)) is not None:
            # Postgres would refuse to start while the pid in a stale postmaster.pid exists, whoever has it by now. It
            # looks past its grandparent's pid (pg_ctl tells it that in the same way). The file itself stays, and with
            # it the interlock against backends that still hold the old shared memory.
            environment["PG_GRANDPARENT_PID"] = str(stale)
        command = [
            *cluster.guard_command("serve", owner),
            *(str(self.run), str(self.logs / "postgres.log")),
            *(str(cluster.binaries().postgres), "-D", str(self.data)),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        return command, environment

    def _socket_folder(self) -> Path:
        """home/run where a socket's path may be that long, else a private folder under the temporary one."""
        if len(os.fsencode(self.run / SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
            return self.run
        folder = Path(tempfile.gettempdir()) / f"{postmaster.tag_of(self.data)}-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077:
            return folder
        # Somebody else made it, perhaps to listen in. Its place stands in postmaster.pid, so any name will do.
        return Path(tempfile.mkdtemp(prefix="soul-"))

    # -- stop

    async def _shut_down(self) -> None:
        """Fast shutdown of the running server, if there is one, and of its guard with it."""
        running = postmaster.find(self.data)
        if running is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                await self._signal(psutil.Process(running.pid))
        # Its guard still writes the log.
        with anyio.move_on_after(GUARD_WAIT_S):
            async with self._locked(GUARD_LOCK, fcntl.LOCK_SH, "waiting for the database to stop"):
                pass
        if running is not None and running.socket_folder not in (None, self.run):
            with contextlib.suppress(OSError):
                running.socket_folder.rmdir()

    async def _signal(self, server: psutil.Process) -> None:
        """Fast shutdown, and an immediate one where that does not help."""
        server.send_signal(signal.SIGINT)
        deadline = anyio.current_time() + FAST_SHUTDOWN_S
        while postmaster.find(self.data) is not None:
            if anyio.current_time() > deadline:
                log.warning("the database does not stop; it is stopped at once", pid=server.pid)
                server.send_signal(signal.SIGQUIT)
                return
            await anyio.sleep(POLL_S / 4)

    # -- locks

    async def _join(self) -> None:
        """Becomes a user of the server. Waits while a guard takes the previous one down."""
        if self._users is None:
            self._users = await self._lock(
                USERS_LOCK, fcntl.LOCK_SH, "waiting for the previous database server to stop"
            )

    @asynccontextmanager
    async def _locked(self, name: str, kind: int, waiting: str) -> AsyncGenerator[None]:
        descriptor = await self._lock(name, kind, waiting)
        try:
            yield
        finally:
            os.close(descriptor)

    def _starting(self) -> AbstractAsyncContextManager[None]:
        return self._locked(START_LOCK, fcntl.LOCK_EX, "waiting for another process that starts the database")

    async def _lock(self, name: str, kind: int, waiting: str) -> int:
        """A descriptor that holds the lock until it is closed."""
        descriptor = os.open(self.run / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = anyio.current_time() + LOCK_WAIT_S
        try:
            while True:
                try:
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    if anyio.current_time() > deadline:
                        raise self._held(name, waiting) from None
                self._report(waiting, None)
                await anyio.sleep(POLL_S)
        except BaseException:
            os.close(descriptor)
            raise

    def _held(self, name: str, waiting: str) -> Unavailable:
        return Unavailable(
            f"The database of {self.home} is held by another process ({waiting}).",
            f"Call again; if it stays so, end the process that holds {self.run / name} (`lsof` names it).",
        )

    def _too_slow(self, pid: int) -> Unavailable:
        return Unavailable(
            f"The database server (process {pid}) has not become ready within {START_WAIT_S:.0f} s.",
            f"See {self.logs / 'postgres.log'}, and call again.",
        )
