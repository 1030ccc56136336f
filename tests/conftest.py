"""The database every test may have: one embedded server per run, a migrated template, a clone of it per test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import asyncpg
import pytest

from memory import cluster
from memory.database import Database, DatabaseConfig
from memory.migrate import migrate
from memory.postgres import EmbeddedPostgres
from memory.postmaster import Address

TEMPLATE = "soul_template"
TEMPLATE_LOCK = 7_305_808
CONNECTIONS_PER_TEST = 4
FAST_AND_FORGETFUL = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "120"}
"""No test of this server pulls its plug; those that do start one of their own."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home() -> Iterator[Path]:
    """A fresh SOUL_HOME, with a path short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="soul-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def untouched_home() -> Iterator[Path]:
    """A SOUL_HOME whose data folder is initialised already; it is only ever copied."""
    folder = Path(tempfile.mkdtemp(prefix="soul-"))
    cluster.prepare(folder / "postgres", cluster.owner_of(folder / "postgres"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def seasoned_home(untouched_home: Path) -> Iterator[Path]:
    """An initialised SOUL_HOME that tests share: they may kill its server, leave its files, and find other schemas."""
    folder = Path(tempfile.mkdtemp(prefix="soul-"))
    yield _copy(untouched_home, folder)
    shutil.rmtree(folder)


@pytest.fixture
def copied_home(home: Path, untouched_home: Path) -> Path:
    """An initialised SOUL_HOME whose files a test may spoil."""
    return _copy(untouched_home, home)


def _copy(home: Path, to: Path) -> Path:
    subprocess.run(["cp", "-a", home / "postgres", to / "postgres"], check=True)
    return to


def database_url(address: Address, name: str) -> str:
    return f"postgresql://{cluster.USER}@/{name}?host={quote(str(address.socket_folder), safe='')}&port={cluster.PORT}"


@pytest.fixture(scope="session")
def test_server() -> Iterator[Address]:
    """One server for all xdist workers: they find it by the run's id, and the last one stops and removes it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"soul-tests-{run[:12]}"
    server = EmbeddedPostgres(folder, settings=FAST_AND_FORGETFUL)
    address = anyio.run(_start, server)
    yield address
    if anyio.run(server.stop):
        shutil.rmtree(folder, ignore_errors=True)


async def _start(server: EmbeddedPostgres) -> Address:
    address = await server.ensure()
    admin = await asyncpg.connect(database_url(address, "postgres"))
    try:
        await admin.execute("SELECT pg_advisory_lock($1)", TEMPLATE_LOCK)
        if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", TEMPLATE):
            await _make_template(admin, address)
    finally:
        await admin.close()
    return address


async def _make_template(admin: asyncpg.Connection, address: Address) -> None:
    # Under another name until it is complete: a test run that breaks off here leaves no half template.
    await admin.execute(f"CREATE DATABASE {TEMPLATE}_new")
    connection = await asyncpg.connect(database_url(address, f"{TEMPLATE}_new"))
    try:
        await migrate(connection)
    finally:
        await connection.close()
    await admin.execute(f"ALTER DATABASE {TEMPLATE}_new RENAME TO {TEMPLATE}")


@pytest.fixture
async def empty_database_url(test_server: Address) -> AsyncIterator[str]:
    """The URL of a database without any schema, dropped afterwards."""
    async with _clone(test_server, "template1") as url:
        yield url


@pytest.fixture
async def clone_url(test_server: Address) -> AsyncIterator[str]:
    """The URL of a migrated database of this test's own, dropped afterwards."""
    async with _clone(test_server, TEMPLATE) as url:
        yield url


@pytest.fixture
async def database(clone_url: str, home: Path) -> AsyncIterator[Database]:
    """A migrated, empty Database of this test's own."""
    async with Database.open(DatabaseConfig(home, url=clone_url, pool_size=CONNECTIONS_PER_TEST)) as opened:
        yield opened


class _clone:
    """A database copied from a template for as long as the block lasts."""

    def __init__(self, address: Address, template: str) -> None:
        self._address = address
        self._template = template
        self._name = f"test_{uuid.uuid4().hex}"

    async def __aenter__(self) -> str:
        await self._admin(f"CREATE DATABASE {self._name} TEMPLATE {self._template} STRATEGY file_copy")
        return database_url(self._address, self._name)

    async def __aexit__(self, *_: object) -> None:
        await self._admin(f"DROP DATABASE {self._name} WITH (FORCE)")

    async def _admin(self, statement: str) -> None:
        admin = await asyncpg.connect(database_url(self._address, "postgres"))
        try:
            await admin.execute(statement)
        finally:
            await admin.close()
