"""The one door to Postgres: a warm pool, queries, transactions, and another try when the connection was lost.

Knows connections and failures. Does not know any table: the schema is `memory.migrate`'s files, and each query stands
in the module that needs it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
import asyncpg
import structlog
from pgvector.asyncpg import register_vector

from engine.errors import InvalidInput
from memory import cluster, faults
from memory.migrate import MIGRATIONS, migrate
from memory.postgres import EmbeddedPostgres, Report, silent
from memory.postmaster import Address

log = structlog.get_logger()
T = TypeVar("T")

ACQUIRE_WAIT_S = 30.0
CONNECT_WAIT_S = 10.0
LEAVE_WAIT_S = 10.0
FOREVER = 2**31 - 1
"""Queries after which the pool would replace a connection; a fresh one's first query is slow (93 ms at p99)."""

READ_SERVER = """
SELECT current_setting('server_version') AS server_version,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector_version,
       (SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
         WHERE extname = 'vector') AS vector_schema,
       pg_database_size(current_database()) AS bytes
"""


@dataclass(frozen=True)
class DatabaseConfig:
    """Where the memory is kept."""

    home: Path
    """SOUL_HOME; the embedded server's data lie in home/postgres."""
    url: str | None = None
    """SOUL_DATABASE_URL: somebody's own server instead of the embedded one."""
    pool_size: int = 12
    statement_timeout_s: float = 120.0
    """Time limit of one statement; `SET LOCAL statement_timeout = 0` in a transaction lifts it for long work."""
    migrations: Path = MIGRATIONS
    server_settings: dict[str, str] = field(default_factory=dict[str, str])
    """Settings of the embedded server that differ from `memory.cluster.settings`."""


@dataclass(frozen=True)
class DatabaseStatus:
    """How the database is, for `status` and `soul doctor`."""

    kind: str
    """`embedded` or `external`."""
    server_version: str
    pgvector_version: str
    data_bytes: int
    """Embedded: the data folder as it is now, WAL included. External: the database when it was opened."""
    connections: int
    idle_connections: int
    pid: int | None
    """The embedded server's process."""
    data_folder: Path | None


@dataclass(frozen=True)
class _Server:
    version: str
    vector_version: str
    vector_schema: str | None
    bytes_when_opened: int


class Database:
    """The Soul's Postgres, migrated and ready.

    A statement or a `run` that loses its connection (the server was killed, restarted, or the network broke) is
    repeated once, after the embedded server was brought back. It may then happen twice, when the connection broke
    between the commit and its answer: so ids are made by the client (UUIDv7) and writes are idempotent. What must
    not be repeated goes through `transaction`, which never is.

    Surroundings that fail (gone, slow, full, locked) raise `engine.errors`; what is the statement's own fault (a
    unique violation, wrong SQL) stays an `asyncpg.PostgresError`.
    """

    def __init__(self, config: DatabaseConfig, report: Report) -> None:
        self.config = config
        self._report = report
        self._embedded = (
            EmbeddedPostgres(config.home, settings=config.server_settings, report=report)
            if config.url is None
            else None
        )
        self._address: Address | None = None
        self._server = _Server("", "", None, 0)
        self._reviving = anyio.Lock()
        self._revivals = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, config: DatabaseConfig, report: Report = silent) -> AsyncIterator[Database]:
        """Starts or attaches to the server, migrates, warms the pool; closes and stops on the way out.

        Raises:
            SoulError: with the reason and the remedy.
        """
        database = cls(config, report)
        async with AsyncExitStack() as stack:
            with database._explained():
                if database._embedded is not None:
                    stack.push_async_callback(database._leave)
                    database._address = await database._embedded.ensure()
                await database._prepare()
                report("warming the connections", None)
                database._pool = await database._make_pool()
            stack.push_async_callback(database._close_pool)
            yield database

    # -- statements

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows."""
        return await self._statement(lambda connection: connection.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row, or None."""
        return await self._statement(lambda connection: connection.fetchrow(sql, *args))

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        return await self._statement(lambda connection: connection.fetchval(sql, *args))

    async def execute(self, sql: str, *args: object) -> str:
        """The command tag, such as `INSERT 0 1`."""
        return await self._statement(lambda connection: connection.execute(sql, *args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """One connection, one transaction: committed at the end of the block, rolled back when it raises. Not repeated.

        Before the block begins a lost connection is replaced.
        """
        with self._explained():
            connection = await self._acquire_alive()
            try:
                async with _in_transaction(connection):
                    yield connection
            finally:
                await self._release(connection)

    async def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """`work` in a transaction; once more after a lost connection, a serialization failure or a deadlock."""

        async def in_transaction(connection: asyncpg.Connection) -> T:
            async with _in_transaction(connection):
                return await work(connection)

        return await self._statement(in_transaction)

    def status(self) -> DatabaseStatus:
        """How the database is now, without asking it."""
        embedded = self._embedded
        return DatabaseStatus(
            kind="external" if embedded is None else "embedded",
            server_version=self._server.version,
            pgvector_version=self._server.vector_version,
            data_bytes=self._server.bytes_when_opened if embedded is None else _bytes_below(embedded.data),
            connections=self._pool.get_size(),
            idle_connections=self._pool.get_idle_size(),
            pid=self._address.pid if self._address is not None else None,
            data_folder=embedded.data if embedded is not None else None,
        )

    # -- trying again

    async def _statement(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        with self._explained():
            revivals = self._revivals
            try:
                return await self._attempt(work)
            except Exception as error:
                if faults.is_lost(error):
                    await self._revive(revivals, error)
                elif not faults.is_contended(error):
                    raise
            return await self._attempt(work)

    async def _attempt(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        connection = await self._pool.acquire(timeout=ACQUIRE_WAIT_S)
        try:
            return await work(connection)
        finally:
            await self._release(connection)

    async def _acquire_alive(self) -> asyncpg.Connection:
        revivals = self._revivals
        try:
            return await self._pool.acquire(timeout=ACQUIRE_WAIT_S)
        except Exception as error:
            if not faults.is_lost(error):
                raise
            await self._revive(revivals, error)
        return await self._pool.acquire(timeout=ACQUIRE_WAIT_S)

    async def _revive(self, seen: int, error: Exception) -> None:
        """Brings the embedded server back (once for all who noticed) and lets go of the connections to the old one."""
        async with self._reviving:
            if self._revivals != seen:
                return
            log.warning("the connection to the database was lost", error=f"{type(error).__name__}: {error}")
            if self._embedded is not None:
                self._address = await self._embedded.ensure()
            await self._pool.expire_connections()
            self._revivals += 1

    async def _release(self, connection: asyncpg.Connection) -> None:
        # Also when this task is being cancelled: the pool must get its connection back.
        with anyio.CancelScope(shield=True):
            await self._pool.release(connection, timeout=LEAVE_WAIT_S)

    # -- opening and closing

    async def _prepare(self) -> None:
        """Migrates, and learns where pgvector's types live (on Supabase not in `public`)."""
        connection = await self._connect(self.config.url)
        try:
            self._report("checking the schema", None)
            await migrate(connection, self.config.migrations, self._report)
            row = await connection.fetchrow(READ_SERVER)
            assert row is not None
            self._server = _Server(
                row["server_version"], row["vector_version"] or "", row["vector_schema"], row["bytes"]
            )
        finally:
            await connection.close(timeout=LEAVE_WAIT_S)

    async def _make_pool(self) -> asyncpg.Pool:
        size = self.config.pool_size
        return await asyncpg.create_pool(
            self.config.url,
            connect=self._connect,
            init=self._init_connection,
            min_size=size,
            max_size=size,
            max_queries=FOREVER,
            max_inactive_connection_lifetime=0,
        )

    async def _connect(self, dsn: str | None, **options: Any) -> asyncpg.Connection:
        """A connection to the server as it is now: a revived embedded server may have moved its socket."""
        if self._address is not None:
            options |= {
                "host": [str(self._address.socket_folder)],  # a list, since a plain string would be cut at commas
                "port": cluster.PORT,
                "user": cluster.USER,
                "database": cluster.USER,
                "ssl": False,
            }
        timeouts = {
            "application_name": "soul",
            "statement_timeout": str(int(self.config.statement_timeout_s * 1000)),
        }
        try:
            return await asyncpg.connect(dsn, timeout=CONNECT_WAIT_S, server_settings=timeouts, **options)
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            raise InvalidInput(
                f"SOUL_DATABASE_URL cannot be used: {error}.",
                "Write it as postgresql://user:password@host:5432/database.",
            ) from error

    async def _init_connection(self, connection: asyncpg.Connection) -> None:
        if self._server.vector_schema is not None:
            await register_vector(connection, schema=self._server.vector_schema)

    async def _close_pool(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(LEAVE_WAIT_S) as leaving:
            await self._pool.close()
        if leaving.cancelled_caught:
            self._pool.terminate()

    async def _leave(self) -> None:
        if self._embedded is not None:
            with anyio.CancelScope(shield=True):
                await self._embedded.stop()

    def _explained(self):  # noqa: ANN202
        return faults.explained(embedded=self._embedded is not None)


@asynccontextmanager
async def _in_transaction(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Commit or roll back, even when the task is being cancelled (which asyncpg's own block would break off)."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        if not connection.is_closed():
            with anyio.CancelScope(shield=True), anyio.move_on_after(LEAVE_WAIT_S):
                await transaction.rollback()
        raise
    with anyio.CancelScope(shield=True):
        await transaction.commit()


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118
            except FileNotFoundError:
                continue  # the server removed it meanwhile
    return total
