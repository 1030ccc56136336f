"""Brings a database to the schema of this program: numbered .sql files, forward only, each in one transaction.

Knows the order, the record and the checks. The files in memory/migrations are the only source of the schema; this
module knows nothing of what they say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from engine.errors import Conflict, Unavailable

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
OLDEST_SERVER = 15
OLDEST_PGVECTOR = (0, 8, 0)
LOCK_WAIT_MS = 60_000
LOCK_KEY = int.from_bytes(b"soulmigr", "big", signed=True)

TAKE_LOCK = "SELECT pg_advisory_lock($1)"
GIVE_LOCK = "SELECT pg_advisory_unlock($1)"
MAKE_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
READ_RECORD = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
WRITE_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"
READ_SERVER = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS vector_available,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector_installed
"""
UPDATE_VECTOR = "ALTER EXTENSION vector UPDATE"


@dataclass(frozen=True)
class Migration:
    """One file. `checksum` is the sha256 of its text with plain line ends, so that a checkout cannot change it."""

    version: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All migrations of `folder` in order.

    Raises:
        Conflict: a file name is not NNNN_name.sql, or a number occurs twice.
    """
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise Conflict(f"The migration {path.name} is not named NNNN_name.sql.", "Rename it.")
        version = int(match[1])
        if version in found:
            raise Conflict(
                f"Two migrations have the number {version:04}: {found[version].name} and {match[2]}.", "Renumber one."
            )
        sql = path.read_text(encoding="utf-8")
        found[version] = Migration(version, match[2], sql, hashlib.sha256(sql.encode()).hexdigest())
    return list(found.values())


async def migrate(
    connection: asyncpg.Connection,
    folder: Path = MIGRATIONS,
    report: Callable[[str, float | None], None] = lambda detail, fraction: None,
) -> list[Migration]:
    """Applies what is missing and returns it. Any number of processes may do so at once; one works, the others wait.

    Raises:
        Unavailable: the server is too old, has no pgvector, or somebody else is migrating for too long.
        Conflict: the database is newer than the program, or an applied migration was edited.
        asyncpg.PostgresError: a migration is wrong; nothing of it remains.
    """
    await _check_server(connection)
    migrations = read_migrations(folder)
    await connection.execute(f"SET lock_timeout = {LOCK_WAIT_MS}")
    try:
        await connection.execute(TAKE_LOCK, LOCK_KEY)
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable(
            f"Another process has been changing the schema for {LOCK_WAIT_MS // 1000} s.", "Call again when it is done."
        ) from error
    try:
        await connection.execute(MAKE_RECORD)
        pending = _pending(migrations, await connection.fetch(READ_RECORD))
        for done, migration in enumerate(pending):
            report(f"schema {migration.version:04}_{migration.name}", done / len(pending))
            await _apply(connection, migration)
        return pending
    finally:
        if not connection.is_closed():
            await connection.execute(GIVE_LOCK, LOCK_KEY)
            await connection.execute("RESET lock_timeout")


def _pending(migrations: Sequence[Migration], applied: Sequence[asyncpg.Record]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations}
    newest = 0
    for record in applied:
        version, name = record["version"], record["name"]
        newest = version
        if version not in known:
            raise Conflict(
                f"The database is newer than this program: it has the migration {version:04}_{name}.",
                "Upgrade soul-mcp, or set SOUL_HOME to another folder.",
            )
        if known[version].checksum != record["checksum"]:
            raise Conflict(
                f"The migration {version:04}_{name} was changed after it was applied to this database.",
                "Restore the file and put the change into a new migration.",
            )
    pending = [
        migration for migration in migrations if migration.version not in {record["version"] for record in applied}
    ]
    if pending and pending[0].version < newest:
        raise Conflict(
            f"The migration {pending[0].version:04}_{pending[0].name} is new, and {newest:04} is already applied.",
            f"Give it a number above {newest:04}.",
        )
    return pending


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute(migration.sql)
        await connection.execute(WRITE_RECORD, migration.version, migration.name, migration.checksum)
    log.info("schema migrated", version=migration.version, name=migration.name)


async def _check_server(connection: asyncpg.Connection) -> None:
    server = await connection.fetchrow(READ_SERVER)
    assert server is not None
    if server["major"] < OLDEST_SERVER:
        raise Unavailable(
            f"The database server is Postgres {server['version']}; {OLDEST_SERVER} or later is needed.",
            "Upgrade it, or unset SOUL_DATABASE_URL to use the embedded one.",
        )
    if server["encoding"] != "UTF8":
        raise Unavailable(
            f"The database is encoded in {server['encoding']}, not UTF8.",
            "Let SOUL_DATABASE_URL name one made with `CREATE DATABASE soul ENCODING 'UTF8' TEMPLATE template0`.",
        )
    available: str | None = server["vector_available"]
    installed: str | None = server["vector_installed"]
    wanted = ".".join(map(str, OLDEST_PGVECTOR))
    if installed is None and available is None:
        raise Unavailable(
            "The database server has no pgvector.",
            f"Install pgvector {wanted} or later on it, or unset SOUL_DATABASE_URL to use the embedded database.",
        )
    if installed and available and _numbers(installed) < OLDEST_PGVECTOR <= _numbers(available):
        await connection.execute(UPDATE_VECTOR)
        installed = available
    version = installed or available or ""
    if _numbers(version) < OLDEST_PGVECTOR:
        raise Unavailable(
            f"The database has pgvector {version}; {wanted} or later is needed.",
            "Upgrade pgvector on the server and run `ALTER EXTENSION vector UPDATE`.",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
