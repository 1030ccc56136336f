"""Database: statements, transactions, repetition after a loss, and what each failure says."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import numpy
import psutil
import pytest

from engine.errors import InvalidInput, SoulError, StorageFull, Unavailable
from memory.database import CONTENDED_ATTEMPTS, Database, DatabaseConfig
from tests.memory.servers import fill, small_disk

pytestmark = pytest.mark.anyio

SCHEMA = """
CREATE EXTENSION vector;
CREATE TABLE words (id int PRIMARY KEY, word text NOT NULL);
"""

TERMINATE_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    (tmp_path / "0001_words.sql").write_text(SCHEMA)
    return tmp_path


@asynccontextmanager
async def opened(url: str, home: Path, migrations: Path, **options: float) -> AsyncIterator[Database]:
    config = DatabaseConfig(home, url=url, migrations=migrations, **{"pool_size": 3, **options})  # type: ignore[arg-type]
    async with Database.open(config) as database:
        yield database


@pytest.fixture
async def words(empty_database_url: str, home: Path, migrations: Path) -> AsyncIterator[Database]:
    """A database with a table of words."""
    async with opened(empty_database_url, home, migrations) as database:
        yield database


@pytest.fixture
async def embedded(seasoned_home: Path, migrations: Path) -> AsyncIterator[Database]:
    """The words on an embedded server, which a test may kill."""
    async with Database.open(DatabaseConfig(seasoned_home, migrations=migrations, pool_size=3)) as database:
        await database.execute("TRUNCATE words")
        yield database


# -- statements


async def test_statements_answer(words: Database) -> None:
    assert await words.execute("INSERT INTO words VALUES (1, 'one'), (2, 'two')") == "INSERT 0 2"
    assert await words.fetchval("SELECT word FROM words WHERE id = $1", 2) == "two"
    assert [row["id"] for row in await words.fetch("SELECT id FROM words ORDER BY id")] == [1, 2]
    assert await words.fetchrow("SELECT id FROM words WHERE id = 3") is None


@pytest.mark.parametrize("vector", [[0.0, 1.0, 2.5], numpy.array([0.0, 1.0, 2.5], dtype=numpy.float32)])
async def test_vectors_go_in_and_come_out_as_they_are(words: Database, vector: Sequence[float]) -> None:
    value = await words.fetchval("SELECT $1::vector", vector)
    assert value.to_numpy().tolist() == [0.0, 1.0, 2.5]


async def test_a_mistake_of_the_statement_stays_what_it_is(words: Database) -> None:
    await words.execute("INSERT INTO words VALUES (1, 'one')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await words.execute("INSERT INTO words VALUES (1, 'one')")
    with pytest.raises(asyncpg.UndefinedTableError):
        await words.fetch("SELECT * FROM nothing")


@pytest.mark.parametrize("text", ["a\0b", "lone \ud800 surrogate"])
async def test_text_that_postgres_cannot_hold_is_refused(words: Database, text: str) -> None:
    with pytest.raises(InvalidInput, match="NUL characters or is not valid Unicode"):
        await words.execute("INSERT INTO words VALUES (1, $1)", text)
    assert await words.fetchval("SELECT count(*) FROM words") == 0


async def test_a_statement_over_its_time_limit_says_so(empty_database_url: str, home: Path, migrations: Path) -> None:
    async with opened(empty_database_url, home, migrations, statement_timeout_s=0.05) as words:
        with pytest.raises(Unavailable, match="too slow"):
            await words.fetch("SELECT pg_sleep(60)")
        async with words.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute("SELECT pg_sleep(0.1)")


async def test_many_more_tasks_than_connections_all_get_their_turn(words: Database) -> None:
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await words.fetchval("SELECT $1::int", number))

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(ask, number)
    assert sorted(answers) == list(range(200))


async def test_a_cancelled_statement_stops_in_the_server_and_gives_its_connection_back(embedded: Database) -> None:
    for _ in range(6):  # more often than there are connections
        with anyio.move_on_after(0.02):
            await embedded.fetch("SELECT pg_sleep(60), 'the long one'")
    assert await embedded.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 0
    assert embedded.status().idle_connections == 3


# -- transactions


async def test_a_transaction_that_raises_leaves_nothing(words: Database) -> None:
    with pytest.raises(RuntimeError, match="no"):
        async with words.transaction() as connection:
            await connection.execute("INSERT INTO words VALUES (1, 'one')")
            raise RuntimeError("no")
    assert await words.fetchval("SELECT count(*) FROM words") == 0


@pytest.mark.parametrize("own", [FileNotFoundError("letter.txt"), TimeoutError(), ConnectionResetError()])
async def test_an_error_of_the_work_itself_is_neither_repeated_nor_renamed(words: Database, own: OSError) -> None:
    attempts: list[int] = []

    async def work(connection: asyncpg.Connection) -> None:
        attempts.append(1)
        raise own

    with pytest.raises(type(own)):
        await words.run(work)
    assert len(attempts) == 1


async def test_a_cancelled_transaction_leaves_nothing(words: Database) -> None:
    with anyio.CancelScope() as scope:
        async with words.transaction() as connection:
            await connection.execute("INSERT INTO words VALUES (1, 'one')")
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert await words.fetchval("SELECT count(*) FROM words") == 0
    assert words.status().idle_connections == 3


async def test_of_two_transactions_in_a_deadlock_both_succeed(words: Database) -> None:
    await words.execute("INSERT INTO words VALUES (1, ''), (2, '')")
    met = {1: anyio.Event(), 2: anyio.Event()}

    async def append(mine: int, other: int) -> None:
        async def work(connection: asyncpg.Connection) -> None:
            update = "UPDATE words SET word = word || $2 WHERE id = $1"
            await connection.execute("SET LOCAL deadlock_timeout = '50ms'")
            await connection.execute(update, mine, str(mine))
            met[mine].set()
            await met[other].wait()
            await connection.execute(update, other, str(mine))

        await words.run(work)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append, 1, 2)
        tasks.start_soon(append, 2, 1)
    written = await words.fetch("SELECT word FROM words")
    assert all(sorted(row["word"]) == ["1", "2"] for row in written)


async def test_a_transaction_that_always_loses_says_so(words: Database) -> None:
    attempts: list[int] = []

    async def lose(connection: asyncpg.Connection) -> None:
        attempts.append(1)
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(Unavailable, match="Another process works on the same rows"):
        await words.run(lose)
    assert len(attempts) == CONTENDED_ATTEMPTS


# -- lost connections


def kill_server(database: Database) -> None:
    """Kills the postmaster and waits until its children have noticed and left."""
    pid = database.status().pid
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(family, timeout=60)


async def test_a_killed_server_is_brought_back_by_the_next_statement(embedded: Database) -> None:
    await embedded.execute("INSERT INTO words VALUES (1, 'one')")
    before = embedded.status().pid
    kill_server(embedded)
    assert await embedded.fetchval("SELECT word FROM words WHERE id = 1") == "one"
    assert embedded.status().pid != before


async def test_a_killed_server_is_brought_back_once_for_all_who_notice(embedded: Database) -> None:
    kill_server(embedded)
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await embedded.fetchval("SELECT $1::int", number))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(ask, number)
    assert sorted(answers) == list(range(20))


async def test_a_transaction_begins_on_a_live_connection(embedded: Database) -> None:
    kill_server(embedded)
    async with embedded.transaction() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_run_repeats_its_work_when_the_server_dies_in_the_middle(embedded: Database) -> None:
    attempts: list[int] = []

    async def work(connection: asyncpg.Connection) -> None:
        attempts.append(1)
        await connection.execute("INSERT INTO words VALUES (1, 'one')")
        if len(attempts) == 1:
            kill_server(embedded)
        await connection.execute("INSERT INTO words VALUES (2, 'two')")

    await embedded.run(work)
    assert len(attempts) == 2
    assert await embedded.fetchval("SELECT count(*) FROM words") == 2


async def test_a_transaction_is_not_repeated_when_the_server_dies_in_the_middle(embedded: Database) -> None:
    with pytest.raises(Unavailable, match=r"lost|went away"):
        async with embedded.transaction() as connection:
            await connection.execute("INSERT INTO words VALUES (1, 'one')")
            kill_server(embedded)
            await connection.execute("INSERT INTO words VALUES (2, 'two')")
    assert await embedded.fetchval("SELECT count(*) FROM words") == 0


async def test_a_crashed_backend_is_survived(embedded: Database) -> None:
    backend = await embedded.fetchval("SELECT pg_backend_pid()")
    before = embedded.status().pid
    os.kill(backend, signal.SIGKILL)  # the server throws all others out and recovers
    assert await embedded.fetchval("SELECT 1") == 1
    assert embedded.status().pid == before


async def test_terminated_connections_are_replaced(words: Database) -> None:
    await words.fetch(TERMINATE_OTHERS)
    for _ in range(6):
        assert await words.fetchval("SELECT 1") == 1


async def test_the_database_comes_and_goes_with_its_user(home: Path, migrations: Path) -> None:
    said: list[str] = []
    config = DatabaseConfig(home, migrations=migrations, pool_size=2)
    async with Database.open(config, lambda detail, fraction: said.append(detail)) as database:
        status = database.status()
    assert (status.kind, status.connections, status.data_folder) == ("embedded", 2, home / "postgres")
    assert status.server_version.startswith("18")
    assert status.pgvector_version.startswith("0.8")
    assert status.data_bytes > 1_000_000
    assert said[0] == "making the database"
    assert "schema 0001_words" in said
    assert not (home / "postgres" / "postmaster.pid").exists()


# -- surroundings that fail


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("postgresql://soul@127.0.0.1:1/soul", Unavailable, "cannot be reached.*SOUL_DATABASE_URL"),
        ("postgresql://soul@/soul?host=/nowhere", Unavailable, "SOUL_DATABASE_URL"),
        ("postgresql://soul@no.such.host.invalid/soul", Unavailable, "cannot be reached.*SOUL_DATABASE_URL"),
        ("mysql://soul@localhost/soul", InvalidInput, "Write it as postgresql://"),
        ("nonsense", InvalidInput, "Write it as postgresql://"),
        ("postgresql://soul@localhost:port/soul", InvalidInput, "Write it as postgresql://"),
    ],
)
async def test_a_url_that_leads_nowhere_gets_the_remedy(
    home: Path, url: str, error: type[SoulError], said: str
) -> None:
    with pytest.raises(error, match=said):
        async with Database.open(DatabaseConfig(home, url=url)):
            pass


async def test_a_missing_database_is_named(test_server: object, clone_url: str, home: Path) -> None:
    wrong = clone_url.replace("/test_", "/gone_", 1)
    with pytest.raises(Unavailable, match=r'database "gone_.*" does not exist.*SOUL_DATABASE_URL'):
        async with Database.open(DatabaseConfig(home, url=wrong)):
            pass


async def test_a_wrong_migration_closes_everything_again(seasoned_home: Path, migrations: Path) -> None:
    (migrations / "0002_wrong.sql").write_text("SELECT no_such_column;")
    with pytest.raises(asyncpg.UndefinedColumnError):
        async with Database.open(DatabaseConfig(seasoned_home, migrations=migrations)):
            pass
    assert not (seasoned_home / "postgres" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("space", "row_bytes"),
    [
        pytest.param(18 << 20, 700, id="the table cannot grow"),
        pytest.param(40 << 20, 50_000, id="the write-ahead log cannot grow, which ends the server"),
    ],
)
async def test_a_full_disk_is_said_and_once_there_is_space_all_that_was_answered_is_there(
    home: Path, migrations: Path, space: int, row_bytes: int
) -> None:
    with small_disk(home, "110m"):
        config = DatabaseConfig(home, migrations=migrations, pool_size=2)
        async with Database.open(config) as database:
            fill(home / "ballast", leave=space)
            written = 0
            with pytest.raises(StorageFull, match=r"disk .* is full.*Free some space"):
                while written < 3000:
                    await database.execute("INSERT INTO words VALUES ($1, $2)", written, os.urandom(row_bytes).hex())
                    written += 1
            (home / "ballast").unlink()
            found = [row["id"] for row in await database.fetch("SELECT id FROM words ORDER BY id")]
            assert found == list(range(written))
            await database.execute("INSERT INTO words VALUES (-1, 'and on')")


async def test_a_server_without_a_connection_left_says_so(seasoned_home: Path, migrations: Path) -> None:
    config = DatabaseConfig(seasoned_home, migrations=migrations, pool_size=9, server_settings={"max_connections": "5"})
    with pytest.raises(Unavailable, match="no connection left"):
        async with Database.open(config):
            pass


async def test_a_database_that_takes_no_writes_says_so(words: Database) -> None:
    with pytest.raises(Unavailable, match="takes no writes"):
        async with words.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute("INSERT INTO words VALUES (1, 'one')")


async def test_a_login_without_the_right_gets_the_remedy(empty_database_url: str, home: Path, migrations: Path) -> None:
    admin = await asyncpg.connect(empty_database_url)
    await admin.execute("CREATE ROLE poor LOGIN")
    try:
        with pytest.raises(SoulError, match="role that owns its database"):
            async with opened(empty_database_url.replace("//soul@", "//poor@"), home, migrations):
                pass
    finally:
        await admin.execute("DROP ROLE poor")
        await admin.close()
