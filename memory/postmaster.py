"""Is there a server on this data folder, and does it answer? Reads what a Postgres leaves behind and checks it.

Knows postmaster.pid, process titles and how to knock at the socket. Starts and stops nothing, except that it clears
away the children of a server that was killed.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg
import psutil
import structlog

from memory import cluster

log = structlog.get_logger()

MAKE_DATABASE = f'CREATE DATABASE "{cluster.USER}"'

ORPHANS_WAIT_S = 10.0
POLL_S = 0.02
KNOCK_S = 5


@dataclass(frozen=True)
class Address:
    """Where the server answers: the folder of its socket, which only this user's processes can pass."""

    socket_folder: Path
    pid: int


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says, after its process was found to be a server of this very folder."""

    pid: int
    socket_folder: Path | None
    status: str
    """starting, ready, standby or stopping; empty while the file is being written."""


class Answer(enum.Enum):
    """What came back from the socket."""

    READY = enum.auto()
    NOT_NOW = enum.auto()
    """The server is there; it starts, recovers or stops."""
    NONE = enum.auto()
    """Nobody is there."""


def tag_of(data: Path) -> str:
    """The cluster name of a data folder, which stands in the command line or title of all its processes."""
    return "soul-" + hashlib.sha256(os.fsencode(data)).hexdigest()[:12]


def find(data: Path) -> Postmaster | None:
    """The running server of this folder; None where postmaster.pid is absent, torn, stale or about another process."""
    lines = _pid_file(data)
    if not lines or not _serves(int(lines[0]), data):
        return None
    folder = Path(lines[4]) if len(lines) > 4 and lines[4] else None
    return Postmaster(int(lines[0]), folder, lines[7].strip() if len(lines) > 7 else "")


def stale_pid(data: Path) -> int | None:
    """The pid in a postmaster.pid that some unrelated process has by now."""
    lines = _pid_file(data)
    return int(lines[0]) if lines and psutil.pid_exists(int(lines[0])) and not _serves(int(lines[0]), data) else None


def _pid_file(data: Path) -> list[str]:
    """Lines of postmaster.pid: pid, data folder, start time, port, socket folder, address, shared memory, status."""
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return lines if lines and lines[0].strip().isdecimal() else []


def _serves(pid: int, data: Path) -> bool:
    """Is `pid` a server process of this data folder?

    Each of them works inside the folder. Where that cannot be seen (root in a container without CAP_SYS_PTRACE), the
    cluster name in the command line or title tells.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        try:
            return Path(process.cwd()).samefile(data)
        except (psutil.AccessDenied, OSError):
            return any(tag_of(data) in part for part in process.cmdline())
    except psutil.Error:
        return False


async def clear_orphans(data: Path) -> None:
    """Waits for the children of a killed postmaster, which mostly leave at once, and ends those that don't.

    A child in a long computation does not notice for minutes, and Postgres will not start while one is left. Their
    shared memory is lost in any case: the next start recovers from the WAL.
    """
    if not _pid_file(data):
        return  # a clean stop leaves none
    deadline = anyio.current_time() + ORPHANS_WAIT_S
    while orphans := [process for process in psutil.process_iter() if _serves(process.pid, data)]:
        if anyio.current_time() > deadline:
            for process in orphans:
                log.warning("a process of a killed database server is ended", pid=process.pid)
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(orphans, timeout=ORPHANS_WAIT_S)
            return
        await anyio.sleep(POLL_S)


async def knock(address: Address) -> Answer:
    """Opens a session at the socket and closes it. Makes the Soul's empty database where it is not there yet.

    Raises:
        asyncpg.PostgresError: the server answers with something else than "not now".
    """
    try:
        try:
            await _session(address, cluster.USER)
        except asyncpg.InvalidCatalogNameError:
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await _session(address, "postgres", MAKE_DATABASE)
    except asyncpg.CannotConnectNowError:
        return Answer.NOT_NOW
    except asyncpg.TooManyConnectionsError:
        return Answer.READY
    except (OSError, asyncpg.PostgresConnectionError):
        return Answer.NONE
    return Answer.READY


async def _session(address: Address, database: str, statement: str = "") -> None:
    connection = await asyncpg.connect(
        # A list, since a plain string would be cut at commas.
        host=[str(address.socket_folder)],
        port=cluster.PORT,
        user=cluster.USER,
        database=database,
        ssl=False,
        timeout=KNOCK_S,
    )
    try:
        if statement:
            await connection.execute(statement)
    finally:
        await connection.close(timeout=KNOCK_S)
