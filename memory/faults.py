"""What a failing database means to the person: errors of asyncpg, the system and the server's programs as our own.

Knows which failures are the surroundings' (gone, full, slow, locked) and which are the program's: those pass through
unchanged, so that a caller can catch a unique violation and a bug stays visible.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from engine.errors import Conflict, Forbidden, InvalidInput, SoulError, StorageFull, Unavailable

LOG_REMEDY = "Call again; if it stays so, see logs/postgres.log in SOUL_HOME and run `soul doctor`."
URL_REMEDY = "Check SOUL_DATABASE_URL, and that the server runs and can be reached."


class NoConnection(Exception):
    """No connection could be opened or had; the cause is the system's error.

    Kept apart from plain OSErrors, which the work inside a transaction may raise for reasons of its own.
    """


LOST = (
    NoConnection,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
GONE = (*LOST, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a call on a connection that was lost before may raise."""
CONTENDED = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    # Another session changed the schema under a prepared statement, as adding a corpus does.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)


def is_lost(error: BaseException) -> bool:
    """Did this fail because there is no connection (any more)?"""
    if isinstance(error, asyncpg.InterfaceError):
        # The pool takes a lost connection out of its user's hands; what he then calls says "released".
        return re.search("connection (is|was) closed|released back to the pool", str(error)) is not None
    if isinstance(error, asyncpg.InternalClientError):
        # The server's last message was read and its end not yet noticed: the protocol consumes an error (state 2).
        return "another operation (2) is in progress" in str(error)
    if isinstance(error, NoConnection):
        return not isinstance(error.__cause__, TimeoutError)
    return isinstance(error, LOST)


def is_contended(error: BaseException) -> bool:
    """Did a concurrent transaction win? The same work succeeds when it is repeated."""
    return isinstance(error, CONTENDED)


@contextmanager
def explained(*, embedded: bool) -> Generator[None]:
    """Turns what the surroundings did into a SoulError with its remedy; everything else passes through."""
    try:
        yield
    except Exception as error:
        meaning = explain(error, embedded=embedded)
        if meaning is None:
            raise
        raise meaning from error


def explain(error: Exception, *, embedded: bool) -> SoulError | None:
    """The house's error for `error`, or None where it is the program's own."""
    if isinstance(error, SoulError):
        return None
    if isinstance(error, asyncpg.PostgresError):
        return _from_server(error, embedded=embedded)
    if isinstance(error, UnicodeEncodeError):
        return _not_text()
    if isinstance(error, NoConnection):
        if isinstance(error.__cause__, TimeoutError):
            return Unavailable("The database does not answer in time.", "Call again in a moment.")
        return Unavailable(f"The database cannot be reached: {error}.", LOG_REMEDY if embedded else URL_REMEDY)
    if is_lost(error):
        return Unavailable(f"The connection to the database is lost: {error}.", LOG_REMEDY if embedded else URL_REMEDY)
    return None


def _from_server(error: asyncpg.PostgresError, *, embedded: bool) -> SoulError | None:
    said = str(error).partition("\n")[0]  # what follows are the server's details and hints
    match error:
        case asyncpg.DiskFullError():
            return _full(said)
        case asyncpg.PostgresIOError():
            if "No space left" in said:
                return _full(said)
            return Unavailable(
                f"The database cannot read or write its files: {said}.",
                "Check the disk; the log is logs/postgres.log.",
            )
        case asyncpg.CharacterNotInRepertoireError() | asyncpg.UntranslatableCharacterError():
            return _not_text()
        case asyncpg.DataError() if "surrogates not allowed" in said:  # asyncpg's own check of an argument
            return _not_text()
        case asyncpg.QueryCanceledError():
            return Unavailable(
                "The database is too slow: a statement reached its time limit.", "Call again; ask for less at once."
            )
        case asyncpg.LockNotAvailableError() | asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return Unavailable(f"Another process works on the same rows: {said}.", "Call again in a moment.")
        case asyncpg.TooManyConnectionsError():
            return Unavailable(
                "The database has no connection left.", "End other programs that use it, or raise its max_connections."
            )
        case asyncpg.OutOfMemoryError():
            return Unavailable("The database ran out of memory.", "Ask for less at once, or free some memory.")
        case asyncpg.DataCorruptedError() | asyncpg.IndexCorruptedError():
            return Unavailable(
                f"The database found damaged data: {said}.",
                "Check the disk, and restore the last backup of SOUL_HOME/postgres.",
            )
        case asyncpg.ReadOnlySQLTransactionError():
            return Unavailable(
                "The database takes no writes.", "Point SOUL_DATABASE_URL to the primary server, not a replica."
            )
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return Unavailable(f"The database server refused the login: {said}.", URL_REMEDY)
        case asyncpg.InsufficientPrivilegeError():
            return Forbidden(
                f"The database role may not do this: {said}.",
                "Let SOUL_DATABASE_URL name a role that owns its database.",
            )
        case (
            asyncpg.ProtocolViolationError()
            | asyncpg.DuplicatePreparedStatementError()
            | asyncpg.InvalidSQLStatementNameError()
        ):
            return Unavailable(
                f"A connection pooler stands before the database and gets in the way: {said}.",
                "Let SOUL_DATABASE_URL name the direct connection, or the pooler's session mode (Supabase: port 5432).",
            )
        case _ if is_lost(error):
            return Unavailable(f"The database went away: {said}.", LOG_REMEDY if embedded else URL_REMEDY)
        case _:
            return None


def of_program(output: str, what: str, data: Path) -> SoulError:
    """The error for a server program that gave up with `output` when it should `what` (start, initialise) `data`."""
    said = output.strip().splitlines()
    reason = next((line for line in reversed(said) if re.search("FATAL|PANIC|error:|cannot run", line)), "")
    reason = re.sub(r"^.*?(FATAL|PANIC|error):\s*", "", reason) or (said[-1] if said else "it said nothing")
    reason = reason.rstrip(".") + "."
    if re.search("No space left on device|Disk quota exceeded|File too large", output):
        return StorageFull(f"The disk that holds {data} is full: {reason}", "Free some space and call again.")
    if os.geteuid() == 0 and re.search("Permission denied|cannot run", output):
        return Forbidden(
            f"Postgres does not run as root, and as another user it cannot reach what it needs: {reason}",
            "Set SOUL_HOME to a folder that other users can pass (such as /var/lib/soul), start the Soul as an "
            "ordinary user, or set SOUL_DATABASE_URL to a server of yours.",
        )
    if "incompatible with server" in output:
        return Conflict(
            f"The memory in {data} does not fit this Postgres: {reason}",
            "Install the version of soul-mcp that wrote it, or restore a dump into a new folder.",
        )
    return Unavailable(f"The database could not {what}: {reason}", LOG_REMEDY)


def of_home(error: OSError, path: Path) -> SoulError:
    """The error for files of the home that cannot be made or opened."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(f"The disk that holds {path} is full.", "Free some space and call again.")
    return Forbidden(
        f"Cannot use {error.filename or path}: {error.strerror}.",
        "Check its owner and mode, or set SOUL_HOME elsewhere.",
    )


def _full(said: str) -> StorageFull:
    return StorageFull(
        f"The disk of the database is full: {said}.", "Free some space and call again; nothing was lost."
    )


def _not_text() -> InvalidInput:
    return InvalidInput("The text holds NUL characters or is not valid Unicode.", "Remove them and send it again.")
