"""The one door to Postgres: a warm pool, statements, transactions, and another try when the connection was lost.

Knows connections and failures. Does not know any table: the schema is `memory.migrate`'s files, and each query stands
in the module that needs it.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import asyncpg
import structlog

from memory import faults
from memory.connector import Connector, DatabaseConfig
from memory.postgres import Report, silent

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["Database", "DatabaseConfig", "DatabaseStatus"]

log = structlog.get_logger()
T = TypeVar("T")

ACQUIRE_WAIT_S = 30.0
ACQUIRE_ATTEMPTS = 3
"""A crashing server may be met before it has noticed, while it recovers, and when it is back."""
LOST_ATTEMPTS = 3
"""A server that is killed once more while one write is being repeated costs that write nothing."""
CONTENDED_ATTEMPTS = 4
CONTENDED_WAIT_S = 0.1
"""Two that wait for each other's rows may meet again at once, unless each waits for a time of its own."""
LEAVE_WAIT_S = 10.0
FOREVER = 2**31 - 1
"""Queries after which the pool would replace a connection; a fresh one's first query is slow (93 ms at p99)."""


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


class Database:
    """The Soul's Postgres, migrated and ready.

    A statement or a `run` that loses its connection (the server was killed, restarted, or the network broke) is
    repeated, twice at most, after the embedded server was brought back. It may then happen again, when the connection
    broke between the commit and its answer: so ids are made by the client (UUIDv7) and writes are idempotent. What must
    not be repeated goes through `transaction`, which never is.

    Surroundings that fail (gone, slow, full, locked) raise `engine.errors`; what is the statement's own fault (a
    unique violation, wrong SQL) stays an `asyncpg.PostgresError`.
    """

    def __init__(self, connector: Connector, pool: asyncpg.Pool) -> None:
        self._connector = connector
        self._pool = pool
        self._reviving = anyio.Lock()
        self._revivals = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, config: DatabaseConfig, report: Report = silent) -> AsyncGenerator[Database]:
        """Starts or attaches to the server, migrates, warms the pool; closes and stops on the way out.

        Raises:
            SoulError: with the reason and the remedy.
        """
        connector = Connector(config, report)
        try:
            with _explained(connector):
                await connector.open()
                report("warming the connections", None)
                pool = await _warm_pool(connector)
            try:
                yield cls(connector, pool)
            finally:
                await _close(pool)
        finally:
            await connector.close()

    # -- statements

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows."""

        async def work(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            return await connection.fetch(sql, *args)

        return await self._repeatable(work)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row, or None."""

        async def work(connection: asyncpg.Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(sql, *args)

        return await self._repeatable(work)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""

        async def work(connection: asyncpg.Connection) -> Any:
            return await connection.fetchval(sql, *args)

        return await self._repeatable(work)

    async def execute(self, sql: str, *args: object) -> str:
        """The command tag, such as `INSERT 0 1`."""

        async def work(connection: asyncpg.Connection) -> str:
            return await connection.execute(sql, *args)

        return await self._repeatable(work)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[asyncpg.Connection]:
        """One connection, one transaction: committed at the end of the block, rolled back when it raises. Not repeated.

        Before the block begins a lost connection is replaced.
        """
        with _explained(self._connector):
            connection, transaction = await self._begin()
            try:
                async with _completed(connection, transaction):
                    yield connection
            finally:
                await self._release(connection)

    async def run(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """`work` in a transaction; up to LOST_ATTEMPTS times where the connection was lost, up to CONTENDED_ATTEMPTS
        times after a serialization failure or a deadlock."""

        async def in_transaction(connection: asyncpg.Connection) -> T:
            transaction = connection.transaction()
            await transaction.start()
            async with _completed(connection, transaction):
                return await work(connection)

        return await self._repeatable(in_transaction)

    def status(self) -> DatabaseStatus:
        """How the database is now, without asking it."""
        embedded, facts, address = self._connector.embedded, self._connector.facts, self._connector.address
        return DatabaseStatus(
            kind="external" if embedded is None else "embedded",
            server_version=facts.server_version,
            pgvector_version=facts.vector_version,
            data_bytes=facts.bytes if embedded is None else _bytes_below(embedded.data),
            connections=self._pool.get_size(),
            idle_connections=self._pool.get_idle_size(),
            pid=address.pid if address is not None else None,
            data_folder=embedded.data if embedded is not None else None,
        )

    # -- trying again

    async def _repeatable(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        with _explained(self._connector):
            attempts, losses = 0, 0
            while True:
                revivals = self._revivals
                attempts += 1
                try:
                    return await self._attempt(work)
                except Exception as error:
                    if faults.is_contended(error) and attempts < CONTENDED_ATTEMPTS:
                        await anyio.sleep(random.uniform(0, CONTENDED_WAIT_S))
                    elif faults.is_lost(error) and losses < LOST_ATTEMPTS - 1:
                        losses += 1
                        await self._revive(revivals, error)
                    else:
                        raise

    async def _attempt(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        connection = await self._acquire()
        try:
            return await work(connection)
        finally:
            await self._release(connection)

    async def _begin(self) -> tuple[asyncpg.Connection, Any]:
        """A connection with an open transaction, which proves that it is alive."""

        async def begin() -> tuple[asyncpg.Connection, Any]:
            connection = await self._acquire()
            try:
                transaction = connection.transaction()
                await transaction.start()
            except BaseException:
                await self._release(connection)
                raise
            return connection, transaction

        revivals = self._revivals
        try:
            return await begin()
        except Exception as error:
            if not faults.is_lost(error):
                raise
            await self._revive(revivals, error)
        return await begin()

    async def _acquire(self, attempts: int = ACQUIRE_ATTEMPTS) -> asyncpg.Connection:
        """A connection that was alive a moment ago. Nothing was sent yet, so trying again harms nobody."""
        revivals = self._revivals
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_WAIT_S)
            # A proxy that behaves as a Connection in everything but its type.
            return cast("asyncpg.Connection", connection)
        except TimeoutError as error:
            raise faults.NoConnection("all connections are busy") from error
        except Exception as error:
            if attempts == 1 or not faults.is_lost(error):
                raise
            await self._revive(revivals, error)
        return await self._acquire(attempts - 1)

    async def _revive(self, seen: int, error: Exception) -> None:
        """Brings the server back (once for all who noticed) and lets go of the connections to the old one."""
        async with self._reviving:
            if self._revivals != seen:
                return
            log.warning("the connection to the database was lost", error=f"{type(error).__name__}: {error}")
            await self._connector.revive()
            await self._pool.expire_connections()
            self._revivals += 1

    async def _release(self, connection: asyncpg.Connection) -> None:
        """Gives the connection back, also when this task is being cancelled.

        Where it turns out to be lost only now, the pool drops it; what was done with it is done.
        """
        with anyio.CancelScope(shield=True), contextlib.suppress(TimeoutError, *faults.GONE):
            await self._pool.release(cast("PoolConnectionProxy", connection), timeout=LEAVE_WAIT_S)


def _explained(connector: Connector) -> AbstractContextManager[None]:
    return faults.explained(embedded=connector.embedded is not None)


@asynccontextmanager
async def _completed(connection: asyncpg.Connection, transaction: Any) -> AsyncGenerator[None]:
    """Commit or roll back, even when the task is being cancelled (which asyncpg's own block would break off)."""
    try:
        yield
    except BaseException:
        with anyio.CancelScope(shield=True), anyio.move_on_after(LEAVE_WAIT_S), contextlib.suppress(*faults.GONE):
            await transaction.rollback()
        raise
    with anyio.CancelScope(shield=True):
        await transaction.commit()


async def _warm_pool(connector: Connector) -> asyncpg.Pool:
    """All connections at once and for good: each has met the catalogue before the first question comes."""
    size = connector.config.pool_size
    return await asyncpg.create_pool(
        connector.config.url,
        connect=connector.connect,
        init=connector.initialise,
        reset=_as_it_is,
        min_size=0,  # above zero, a task of the pool would race the revival of a lost server
        init_size=size,
        max_size=size,
        max_queries=FOREVER,
        max_inactive_connection_lifetime=0,
    )


async def _as_it_is(_connection: object) -> None:
    """Gives a connection back without asyncpg's reset query, which costs each statement a second round trip.

    Nothing here keeps state in a session: settings are local to transactions, and asyncpg itself rolls back a
    transaction that was left open. Migration, which takes a session lock, has a connection of its own.
    """


async def _close(pool: asyncpg.Pool) -> None:
    """Says goodbye to the server, or hangs up where it does not listen."""
    with (
        anyio.CancelScope(shield=True),
        anyio.move_on_after(LEAVE_WAIT_S),
        contextlib.suppress(OSError, *faults.GONE),
    ):
        await pool.close()
        return
    pool.terminate()


def _bytes_below(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue  # the server removed it meanwhile
    return total
