"""A thousand orders under fire: each ends in one final state, and none is run again that must not be."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio.to_thread
import pytest

from bench.orders.trial import count, fire, prepare

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "orders",
    [pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]), pytest.param(16)],
)
async def test_every_order_ends_once_whatever_is_killed(home: Path, clone_url: str, orders: int) -> None:
    with tempfile.TemporaryDirectory(prefix="soul-work-") as work:
        log = prepare(home, Path(work))
        kills = await anyio.to_thread.run_sync(fire, home, clone_url, orders, 7)
        found = await count(clone_url, log, kills)
    print(found)
    assert (found.orders, found.open) == (orders, 0)
    assert found.run_twice == 0
    assert found.begun_again == 0
    assert orders < 100 or (found.kills > 3 and found.repeated > 0)
