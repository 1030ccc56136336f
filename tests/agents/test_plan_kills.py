"""Plans under a daemon that is killed again and again: each step ends once, and no order is placed twice."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import anyio.to_thread
import asyncpg
import pytest

from agents.plans import TRIES
from bench.orders.trial import fire, prepare
from tests.models import parrot

pytestmark = pytest.mark.anyio

WORKER = "bench.orders.plan_worker"
STEPS = "SELECT s.*, p.state AS plan_state FROM plan_steps s JOIN plans p ON p.id = s.plan ORDER BY plan, number"


@pytest.mark.parametrize(
    ("plans", "most_kills"),
    [
        pytest.param(20, math.inf, marks=[pytest.mark.slow, pytest.mark.timeout(1_200)]),
        # A step that is cut off fewer than TRIES times does not fail, however slow the machine is.
        pytest.param(4, TRIES - 1),
    ],
)
async def test_every_step_ends_once_whatever_is_killed(
    home: Path, clone_url: str, plans: int, most_kills: float
) -> None:
    judges = {"": "done", "Review": "accept", "leave": "proceed"}
    parrot(home / "models" / "p", "So it is.", prefers=judges)
    with tempfile.TemporaryDirectory(prefix="soul-work-") as work:
        log = prepare(home, Path(work))
        with (home / "agents.toml").open("a") as file:
            file.write('\n[rules]\nhands = "again"\n[builder]\ntools = []\n')
        kills = await anyio.to_thread.run_sync(fire, home, clone_url, plans, 11, WORKER, 2.0, 5.0, most_kills)
    connection = await asyncpg.connect(clone_url)
    try:
        steps = await connection.fetch(STEPS)
        attempts = await connection.fetch("SELECT plan, step, state FROM step_attempts")
        orders = await connection.fetch("SELECT id, state FROM orders")
    finally:
        await connection.close()
    print(f"{plans} plans, {kills} kills,", Counter((one["state"], one["place"]) for one in steps))
    assert len(steps) == 3 * plans
    assert plans < 10 or kills > 2
    ended: Counter[Any] = Counter((one["plan"], one["step"]) for one in attempts if one["state"] == "reported")
    assert not [one for one in attempts if one["state"] == "running"]
    for step in steps:
        assert step["state"] == "done" or (step["plan_state"] == "failed" and most_kills >= TRIES), dict(step)
        if step["place"] == "home" and step["state"] == "done":
            assert ended[step["plan"], step["number"]] == 1
    states = {one["id"]: one["state"] for one in orders}
    assert len(states) == sum(1 for step in steps if step["work_order"])
    for step in steps:
        if step["work_order"]:
            assert (step["state"] == "done") == (states[step["work_order"]] == "accepted")
    assert max(Counter(log_lines(log)).values()) == 1, "a run was started twice"


def log_lines(log: Path) -> list[str]:
    return log.read_text().split()
