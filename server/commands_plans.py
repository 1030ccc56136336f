"""The commands on plans: a person's look at them, and a person's word.

Importing this module registers the commands with `server.control`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from engine.errors import InvalidInput
from server.control import Command, command, plain

if TYPE_CHECKING:
    from agents.planner import Planner
    from agents.plans import Plan

VERDICTS = ("accept", "escalate", "reject")


async def _planner(given: Command) -> Planner:
    return (await given.part(given.serving.house.agents)).planner


def _id(given: Command) -> UUID:
    try:
        return UUID(given.text("plan"))
    except ValueError:
        raise InvalidInput(f"{given.text('plan')!r} is not the id of a plan.", "`soul plan list` shows them.") from None


async def _shown(planner: Planner, plan: Plan) -> Any:
    steps, attempts = await planner.plans.steps(plan.id), await planner.plans.attempts(plan.id)
    return {"plan": plain(plan), "steps": plain(steps), "attempts": plain(attempts)}


@command("plan.list")
async def plan_list(given: Command) -> Any:
    """The latest plans, newest first, each with how many of its steps are done."""
    planner = await _planner(given)
    found: list[Any] = []
    for plan in await planner.plans.recent():
        steps = await planner.plans.steps(plan.id)
        done = sum(step.state == "done" for step in steps)
        found.append({**plain(plan), "steps": len(steps), "done": done})
    return found


@command("plan.show")
async def plan_show(given: Command) -> Any:
    """One plan with its steps and their attempts."""
    planner = await _planner(given)
    return await _shown(planner, await planner.plans.get(_id(given)))


@command("plan.redraw")
async def plan_redraw(given: Command) -> Any:
    """A person's steps in the place of those that were proposed."""
    from agents.planning import written

    planner = await _planner(given)
    return await _shown(planner, await planner.redraw(_id(given), written(given.text("steps"))))


@command("plan.approve")
async def plan_approve(given: Command) -> Any:
    """A proposed plan begins; answers when it waits for somebody or has ended."""
    planner = await _planner(given)
    plan = await planner.approve(_id(given))
    return await _seen_through(given, planner, plan)


@command("plan.go")
async def plan_go(given: Command) -> Any:
    """A failed plan goes on; answers as `plan.approve`."""
    planner = await _planner(given)
    return await _seen_through(given, planner, await planner.go(_id(given)))


@command("plan.cancel")
async def plan_cancel(given: Command) -> Any:
    """Ends a plan."""
    planner = await _planner(given)
    return await _shown(planner, await planner.cancel(_id(given)))


@command("plan.review")
async def plan_review(given: Command) -> Any:
    """A person's verdict on a step at home; answers as `plan.approve`."""
    verdict, number = given.text("verdict"), given.arguments.get("step")
    if verdict not in VERDICTS or not isinstance(number, int):
        raise InvalidInput(f"{verdict!r} on step {number!r} is no verdict.", f"Give one of: {', '.join(VERDICTS)}.")
    planner = await _planner(given)
    plan = await planner.review(_id(given), number, verdict, str(given.arguments.get("why") or ""))
    return await _seen_through(given, planner, plan)


async def _seen_through(given: Command, planner: Planner, plan: Plan) -> Any:
    await given.progress("working", None)
    await planner.see_through(plan.id)
    return await _shown(planner, await planner.plans.get(plan.id))
