"""The commands on the agents of the house: work orders, and a person's verdict on them.

Importing this module registers the commands with `server.control`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from engine.errors import InvalidInput
from server.control import Command, command, plain

if TYPE_CHECKING:
    from agents.agents import Agents

VERDICTS = ("accept", "revise", "reject")


async def _agents(given: Command) -> Agents:
    return await given.part(given.serving.house.agents)


def _id(given: Command) -> UUID:
    try:
        return UUID(given.text("order"))
    except ValueError:
        raise InvalidInput(
            f"{given.text('order')!r} is not the id of a work order.", "`soul order list` shows them."
        ) from None


@command("work_order.list")
async def work_order_list(given: Command) -> Any:
    """The latest work orders, newest first."""
    agents = await _agents(given)
    return await agents.orders.recent()


@command("work_order.show")
async def work_order_show(given: Command) -> Any:
    """One work order with its attempts."""
    agents = await _agents(given)
    id = _id(given)
    order, attempts, runs = (
        await agents.orders.get(id),
        await agents.orders.attempts(id),
        await agents.runs.of_order(id),
    )
    return {"order": plain(order), "attempts": plain(attempts), "runs": plain(runs)}


@command("work_order.decide")
async def work_order_decide(given: Command) -> Any:
    """The person's verdict on the attempt that waits; it stands for the Director's."""
    verdict = given.text("verdict")
    if verdict not in VERDICTS:
        raise InvalidInput(f"{verdict!r} is no verdict.", f"Give one of: {', '.join(VERDICTS)}.")
    agents = await _agents(given)
    why = str(given.arguments.get("why") or "")
    work_order, attempt = await agents.orders.decide(_id(given), verdict, why, "person")
    said = f"{verdict}: {why}" if why else verdict
    await agents.director.record("", "review", said, "person", work_order.id, number=attempt.number)
    from agents.orders import CLIENT
    from agents.reviewing import verdict_text

    says = verdict_text(work_order, attempt)
    if work_order.state == "revise" and work_order.agent != CLIENT:
        job = await agents.dispatch.send(work_order)
        says += f"\nSent on to {work_order.agent} as job {job}; `soul order show {work_order.id}` follows it."
    plan = await agents.planner.after(work_order.id)
    return {"says": f"{says}\n{plan}".rstrip(), "state": work_order.state}
