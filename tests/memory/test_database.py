"""Database: statements, transactions, repetition, and what each failure says."""

from __future__ import annotations

import asyncpg
import numpy
import pytest

from memory.database import Database

pytestmark = pytest.mark.anyio


async def test_a_statement_answers(database: Database) -> None:
    assert await database.fetchval("SELECT 1 + $1::int", 2) == 3


async def test_vectors_go_in_and_come_out_as_they_are(database: Database) -> None:
    vector = numpy.arange(4, dtype=numpy.float32)
    await database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    assert database.status().pgvector_version
    value = await database.fetchval("SELECT $1::vector", vector)
    assert value.to_numpy().tolist() == vector.tolist()


async def test_a_unique_violation_stays_what_it_is(database: Database) -> None:
    await database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    await database.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await database.execute("INSERT INTO t VALUES (1)")
