"""A plan in words: for the client that asked for it, and for whoever reads soul://plans.

A client may be the Hands, so that of a private step it is shown what it is to do, and never what came of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.fence import fenced, shortened
from agents.orders import CLIENT

if TYPE_CHECKING:
    from agents.agents import Agents
    from agents.plans import Plan, Step

SHOWN = 1_500
"""Characters of an outcome."""


async def plan_text(agents: Agents, plan: Plan) -> str:
    """The plan, its steps with the rule that placed each, and what it waits for; orders for the client stand whole."""
    from tools.invoke_agent import order_text

    steps = await agents.planner.plans.steps(plan.id)
    lines = [f"Plan {plan.id}: {plan.state}{f' ({plan.why})' if plan.why else ''}. Drawn by {plan.author}."]
    if not plan.trained:
        lines.append("Its author is an untrained stand-in, whose words mean nothing.")
    lines += [f"Goal: {plan.goal}", *(f"{step_line(step)}" for step in steps), *_waits(plan, steps)]
    for step in steps:
        if step.state == "done" and not step.private:
            lines += ["", fenced(shortened(step.outcome, SHOWN), f"outcome of step {step.number}")]
        if step.state == "out" and step.work_order is not None:
            order = await agents.orders.get(step.work_order)
            if order.agent == CLIENT and order.state in ("open", "revise"):
                lines += ["", order_text(order)]
    return "\n".join(lines)


def step_line(step: Step) -> str:
    """One step in one line. Of a private one it is not said why it ended so."""
    after = f", after {', '.join(map(str, step.after))}" if step.after else ""
    said = f"`soul plan show {step.plan}` says more" if step.private else step.why
    why = f" ({said})" if step.why and step.state != "done" else ""
    who = step.role if step.place == "home" else "the Hands"
    return f"{step.number}. [{step.state}{why}] {step.task} ({who}; {step.rule}{after})"


def _waits(plan: Plan, steps: list[Step]) -> list[str]:
    if plan.state == "proposed":
        return [f"A person decides: `soul plan approve {plan.id}`, or first `soul plan edit {plan.id}`."]
    if plan.state == "failed":
        return [f"`soul plan go {plan.id}` goes on with what failed."]
    found: list[str] = []
    for step in steps:
        if step.state == "reported":
            command = f"soul plan review {plan.id} {step.number} accept|escalate|reject"
            found.append(f"Step {step.number} waits for a person: `{command}`.")
        if step.state == "out":
            found.append(f"Step {step.number} is out as work order {step.work_order}.")
    return found
