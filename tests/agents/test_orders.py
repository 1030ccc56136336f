"""A work order ends in exactly one state, whatever is reported twice, late or by two at once."""

from __future__ import annotations

import anyio
import pytest

from agents.orders import Order, Orders
from engine.errors import Conflict, NotFound
from memory.database import Database
from memory.uuid7 import uuid7

pytestmark = pytest.mark.anyio


async def order(orders: Orders) -> Order:
    return await orders.add("count", ["read only"], "", ["counted"], {"nearest": []}, "client", "s")


async def test_the_same_outcome_twice_is_one_attempt(database: Database) -> None:
    orders = Orders(database)
    id = (await order(orders)).id
    first = await orders.report(id, "12 files", [], "client")
    assert await orders.report(id, "12 files", [], "client") == first
    assert len(await orders.attempts(id)) == 1


async def test_another_outcome_must_wait_for_the_review(database: Database) -> None:
    orders = Orders(database)
    id = (await order(orders)).id
    await orders.report(id, "12 files", [], "client")
    with pytest.raises(Conflict, match=r"Attempt 1 .* is waiting for its review"):
        await orders.report(id, "13 files", [], "client")


async def test_a_revision_opens_the_order_for_another_attempt_until_its_rounds_are_used(database: Database) -> None:
    orders = Orders(database)
    id = (await order(orders)).id
    for number in (1, 2, 3):
        attempt = await orders.report(id, f"try {number}", [], "client")
        assert attempt.number == number
        decided, _ = await orders.decide(id, "revise", "more", "director")
    assert decided.state == "rejected"
    with pytest.raises(Conflict, match="is closed: rejected"):
        await orders.report(id, "try 4", [], "client")


async def test_a_verdict_needs_an_outcome_and_comes_once(database: Database) -> None:
    orders = Orders(database)
    id = (await order(orders)).id
    with pytest.raises(Conflict, match="no outcome is waiting"):
        await orders.decide(id, "accept", "", "person")
    await orders.report(id, "done", [], "client")
    closed, attempt = await orders.decide(id, "accept", "good", "person")
    assert (closed.state, attempt.verdict) == ("accepted", "accept")
    again, _ = await orders.decide(id, "accept", "good", "person")
    assert again.state == "accepted"
    with pytest.raises(Conflict, match="is accepted"):
        await orders.decide(id, "reject", "changed my mind", "person")


async def test_reports_at_the_same_time_make_one_attempt(database: Database) -> None:
    orders = Orders(database)
    id = (await order(orders)).id
    conflicts: list[Conflict] = []

    async def report(outcome: str) -> None:
        try:
            await orders.report(id, outcome, [], "client")
        except Conflict as conflict:
            conflicts.append(conflict)

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(report, f"outcome {number}")
    assert len(await orders.attempts(id)) == 1
    assert len(conflicts) == 5


async def test_an_unknown_order_says_where_to_look(database: Database) -> None:
    with pytest.raises(NotFound, match="`status` lists the unfinished ones"):
        await Orders(database).get(uuid7())
