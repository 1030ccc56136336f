"""How the server is reached: the embedded one or a URL, migrated before use, brought back when it went away.

Knows addresses, login, and the types of pgvector. Does not know what is asked of a connection (`memory.database`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import asyncpg
from pgvector.asyncpg import register_vector

from engine.errors import InvalidInput
from memory import cluster
from memory.faults import NoConnection
from memory.migrate import MIGRATIONS, migrate
from memory.postgres import EmbeddedPostgres, Report
from memory.postmaster import Address

CONNECT_WAIT_S = 10
CLOSE_WAIT_S = 10

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
class ServerFacts:
    """What the server said of itself when it was opened."""

    server_version: str
    vector_version: str
    """Empty where no migration has created the extension."""
    vector_schema: str | None
    """Where pgvector's types live: on Supabase not in `public`."""
    bytes: int


class Connector:
    """Makes connections to the server of one configuration."""

    def __init__(self, config: DatabaseConfig, report: Report) -> None:
        self.config = config
        self.address: Address | None = None
        self.facts = ServerFacts("", "", None, 0)
        self._report = report
        self.embedded = (
            EmbeddedPostgres(config.home, settings=config.server_settings, report=report)
            if config.url is None
            else None
        )

    async def open(self) -> None:
        """Starts or attaches to the server and migrates it.

        Raises:
            SoulError: from the server's start or the migrations, with the remedy.
        """
        await self.revive()
        connection = await self.connect(self.config.url)
        try:
            self._report("checking the schema", None)
            await migrate(connection, self.config.migrations, self._report)
            row = await connection.fetchrow(READ_SERVER)
            assert row is not None
            self.facts = ServerFacts(
                row["server_version"], row["vector_version"] or "", row["vector_schema"], row["bytes"]
            )
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close(timeout=CLOSE_WAIT_S)

    async def revive(self) -> None:
        """The embedded server answers after this; somebody else's server is not ours to start."""
        if self.embedded is not None:
            self.address = await self.embedded.ensure()

    async def close(self) -> None:
        """Stops using the embedded server, which stops with its last user."""
        if self.embedded is not None:
            with anyio.CancelScope(shield=True):
                await self.embedded.stop()

    async def connect(self, dsn: str | None, **options: Any) -> asyncpg.Connection:
        """A new connection. Reads the address each time: a revived server may have moved its socket.

        Raises:
            NoConnection: nobody answers there.
            InvalidInput: the URL makes no sense.
            asyncpg.PostgresError: the server refused.
        """
        if self.address is not None:
            options |= {
                "host": [str(self.address.socket_folder)],  # a list, since a plain string would be cut at commas
                "port": cluster.PORT,
                "user": cluster.USER,
                "database": cluster.USER,
                "ssl": False,
            }
        # Given at login, not by SET: the pool resets a connection to its login state after each use.
        options["server_settings"] = {
            "application_name": "soul",
            "statement_timeout": str(int(self.config.statement_timeout_s * 1000)),
        }
        try:
            return await asyncpg.connect(dsn, timeout=CONNECT_WAIT_S, **options)
        except OSError as error:
            raise NoConnection(str(error)) from error
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            raise InvalidInput(
                f"SOUL_DATABASE_URL cannot be used: {error}.",
                "Write it as postgresql://user:password@host:5432/database.",
            ) from error

    async def initialise(self, connection: asyncpg.Connection) -> None:
        """Teaches a pooled connection the vector types: numpy arrays and lists go in, `pgvector.Vector` comes out."""
        if self.facts.vector_schema is not None:
            await register_vector(connection, schema=self.facts.vector_schema)
