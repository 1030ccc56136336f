"""Servers of other processes and of this one, for the tests of the embedded Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from memory import cluster
from memory.postgres import EmbeddedPostgres
from memory.postmaster import Address

ROOT = Path(__file__).parents[2]
SECONDS = 60

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


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(path: Path, leave: int = 0) -> None:
    """Writes until only `leave` bytes fit any more."""
    disk = os.statvfs(path.parent)
    with path.open("wb", buffering=0) as ballast:
        os.posix_fallocate(ballast.fileno(), 0, disk.f_bavail * disk.f_frsize - leave)
