"""Migrations: forward only, once each, all or nothing, and refused where the database does not fit the program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from engine.errors import Conflict, Unavailable
from memory import migrate as migrations
from memory.migrate import migrate, read_migrations

pytestmark = pytest.mark.anyio

FIRST = "CREATE TABLE words (word text); INSERT INTO words VALUES ('one');"
SECOND = "ALTER TABLE words ADD COLUMN meaning text;"


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_words.sql").write_text(FIRST)
    (tmp_path / "0002_meaning.sql").write_text(SECOND)
    return tmp_path


async def test_missing_migrations_are_applied_in_order_and_only_once(
    connection: asyncpg.Connection, folder: Path
) -> None:
    assert [migration.version for migration in await migrate(connection, folder)] == [1, 2]
    assert await migrate(connection, folder) == []
    assert await connection.fetchval("SELECT count(*) FROM words") == 1


async def test_progress_is_reported(connection: asyncpg.Connection, folder: Path) -> None:
    said: list[tuple[str, float | None]] = []
    await migrate(connection, folder, lambda detail, fraction: said.append((detail, fraction)))
    assert said == [("schema 0001_words", 0.0), ("schema 0002_meaning", 0.5)]


async def test_of_a_failing_migration_nothing_remains(connection: asyncpg.Connection, folder: Path) -> None:
    (folder / "0002_meaning.sql").write_text("CREATE TABLE half (a int); SELECT no_such_column;")
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(connection, folder)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == 1


async def test_an_edited_migration_is_noticed(connection: asyncpg.Connection, folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0001_words.sql").write_text(FIRST + "\n-- better")
    with pytest.raises(Conflict, match="0001_words was changed after it was applied"):
        await migrate(connection, folder)


async def test_line_ends_of_a_checkout_are_no_edit(connection: asyncpg.Connection, folder: Path) -> None:
    (folder / "0001_words.sql").write_bytes(b"CREATE TABLE words\n(word text);\n")
    await migrate(connection, folder)
    (folder / "0001_words.sql").write_bytes(b"CREATE TABLE words\r\n(word text);\r\n")
    assert await migrate(connection, folder) == []


async def test_a_database_newer_than_the_program_is_refused(connection: asyncpg.Connection, folder: Path) -> None:
    await migrate(connection, folder)
    (folder / "0002_meaning.sql").unlink()
    with pytest.raises(Conflict, match=r"newer than this program.*Upgrade soul-mcp"):
        await migrate(connection, folder)


async def test_a_migration_that_comes_too_late_is_refused(connection: asyncpg.Connection, folder: Path) -> None:
    (folder / "0001_words.sql").rename(folder / "0004_words.sql")
    (folder / "0002_meaning.sql").rename(folder / "0005_meaning.sql")
    await migrate(connection, folder)
    (folder / "0003_late.sql").write_text("SELECT 1;")
    with pytest.raises(Conflict, match=r"0003_late is new, and 0005 is already applied"):
        await migrate(connection, folder)


async def test_processes_that_migrate_at_once_apply_each_file_once(empty_database_url: str, folder: Path) -> None:
    applied: list[int] = []

    async def one() -> None:
        connection = await asyncpg.connect(empty_database_url)
        try:
            applied.extend(migration.version for migration in await migrate(connection, folder))
        finally:
            await connection.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)
    assert applied == [1, 2]


async def test_a_schema_held_by_another_process_is_said(
    empty_database_url: str, connection: asyncpg.Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_MS", 50)
    holder = await asyncpg.connect(empty_database_url)
    await holder.execute(migrations.TAKE_LOCK, migrations.LOCK_KEY)
    with pytest.raises(Unavailable, match="Another process has been changing the schema"):
        await migrate(connection, folder)
    await holder.close()


@pytest.mark.parametrize("name", ["1_words.sql", "0003-words.sql", "0003_Words.sql"])
async def test_a_misnamed_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(Conflict, match=f"{name} is not named NNNN_name.sql"):
        read_migrations(folder)


async def test_a_number_used_twice_is_named(folder: Path) -> None:
    (folder / "0002_again.sql").write_text("SELECT 1;")
    with pytest.raises(Conflict, match="Two migrations have the number 0002"):
        read_migrations(folder)


async def test_a_server_without_pgvector_is_refused(connection: asyncpg.Connection, folder: Path) -> None:
    await connection.execute("SET extension_control_path = '/nowhere'")
    with pytest.raises(Unavailable, match=r"no pgvector.*Install pgvector 0\.8\.0"):
        await migrate(connection, folder)


async def test_an_old_server_is_refused(
    connection: asyncpg.Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_SERVER", 99)
    with pytest.raises(Unavailable, match="99 or later is needed"):
        await migrate(connection, folder)


async def test_an_old_pgvector_is_updated_where_the_server_has_a_newer_one(
    connection: asyncpg.Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute("CREATE EXTENSION vector")
    newest = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    monkeypatch.setattr(migrations, "OLDEST_PGVECTOR", tuple(map(int, newest.split("."))))
    await connection.execute("UPDATE pg_extension SET extversion = '0.8.4' WHERE extname = 'vector'")
    await migrate(connection, folder)
    assert await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'") == newest


async def test_a_database_in_another_encoding_is_refused(empty_database_url: str, folder: Path) -> None:
    admin = await asyncpg.connect(empty_database_url)
    await admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    connection = await asyncpg.connect(empty_database_url, database="latin")
    try:
        with pytest.raises(Unavailable, match="encoded in LATIN1, not UTF8"):
            await migrate(connection, folder)
    finally:
        await connection.close()
        await admin.execute("DROP DATABASE latin")
        await admin.close()


async def test_the_programs_own_migrations_are_in_order_and_apply(connection: asyncpg.Connection) -> None:
    applied = await migrate(connection)
    versions = [migration.version for migration in applied]
    assert versions == sorted(set(versions))
