"""Clocks and scales of the store benchmark: milliseconds, and what the database takes of memory and disk."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import numpy as np
import psutil

from memory.database import Database

Times = dict[tuple[int, str], list[float]]
"""(rows, what was asked) to milliseconds."""


@asynccontextmanager
async def timed(times: Times, what: tuple[int, str]) -> AsyncIterator[None]:
    """Adds how long the block took."""
    started = time.perf_counter()
    yield
    times.setdefault(what, []).append((time.perf_counter() - started) * 1000)


def summary(took: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    return {"p50": round(float(np.median(took)), 3), "p99": round(float(np.percentile(took, 99)), 3)}


def memory_of(database: Database) -> dict[str, float]:
    """Megabytes of all processes of the embedded server. PSS counts a shared page once, which RSS does for each."""
    pid = database.status().pid
    assert pid is not None
    server = psutil.Process(pid)
    rss = pss = 0
    for process in [server, *server.children(recursive=True)]:
        with suppress(psutil.Error):
            rss += process.memory_info().rss
            pss += getattr(process.memory_full_info(), "pss", 0)
    return {"rss": round(rss / 1e6), "pss": round(pss / 1e6)}


SIZES = """
SELECT CASE WHEN relname ~ '^packets_' THEN 'packets' ELSE relname END AS name,
       sum(pg_total_relation_size(oid))::bigint AS bytes
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace GROUP BY 1 ORDER BY 2 DESC LIMIT 5
"""


async def sizes_of(database: Database) -> dict[str, int]:
    """Megabytes on disk: the whole data folder, and the largest tables with their indexes."""
    tables = {row["name"]: round(row["bytes"] / 1e6) for row in await database.fetch(SIZES)}
    return {"data folder": round(database.status().data_bytes / 1e6), **tables}
