"""report_outcome: the Hands report on a work order; the Director reviews: accept, revise or reject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from engine.errors import Forbidden, SoulError
from tools.caller import caller_of
from tools.check import identifier, words
from tools.contract import SETS, SoulTool
from tools.house import House

if TYPE_CHECKING:
    from agents.orders import Attempt, Order

DESCRIPTION = """\
Report what came of a work order. The Director reviews it by the order's acceptance criteria and answers accept, \
revise (with what; then report again) or reject."""


def tool(house: House) -> SoulTool:
    """The tool, bound to its house."""

    async def report_outcome(
        work_order: Annotated[str, Field(max_length=64, description="Id of the order")],
        outcome: Annotated[
            str, Field(max_length=400_000, description="What was done and what was seen, with evidence")
        ],
        ctx: Context[Any, Any],
        artifacts: Annotated[
            list[Annotated[str, Field(max_length=4096)]],
            Field(max_length=200, description="Paths or links made or changed"),
        ] = [],  # noqa: B006 -- pydantic copies it
    ) -> str:
        caller = caller_of(ctx)
        if caller.agent:
            raise Forbidden("Only the Hands report outcomes.", "Leave it to the client that got the order.")
        id = identifier(work_order, "work_order", "invoke_agent(agent='hands') gives them.")
        text = words(outcome, "outcome")
        named = [words(artifact, "artifacts") for artifact in artifacts]
        agents = await house.agents.get()
        order = await agents.orders.get(id)
        attempt = await agents.orders.report(id, text, named, caller.client)
        await agents.director.record(
            caller.session, "outcome", text, "hands", id, artifacts=named, number=attempt.number
        )
        try:
            judgement = await agents.director.review(order, attempt)
        except SoulError as error:
            return (
                f"Recorded attempt {attempt.number}, not reviewed: {error}\n"
                "Report the same outcome again later, or a person decides: "
                f"`soul order review {id} accept|revise|reject`."
            )
        said = f"{judgement.words}\n{judgement.reason}"
        await agents.director.record(caller.session, "review", said, judgement.by, id, binding=judgement.binding)
        if not judgement.binding:
            return (
                f"Recorded attempt {attempt.number}. The Director's model is an untrained stand-in, so its review does "
                f"not count; it would say {judgement.words}. A person decides: "
                f"`soul order review {id} accept|revise|reject`."
            )
        order, attempt = await agents.orders.decide(id, judgement.choice, judgement.reason, judgement.by)  # type: ignore[arg-type]
        return verdict_text(order, attempt)

    return SoulTool.make(
        house,
        report_outcome,
        title="Report an outcome",
        description=DESCRIPTION,
        annotations=SETS,
        recorded=False,  # the outcome and its review are packets of their own
    )


def verdict_text(order: Order, attempt: Attempt) -> str:
    """The verdict as the Hands read it, and what follows from it."""
    head = (
        f"Attempt {attempt.number} on work order {order.id}: {attempt.verdict} (by {attempt.decided_by}). {attempt.why}"
    )
    match order.state:
        case "accepted":
            return f"{head}\nThe order is closed."
        case "rejected":
            return f"{head}\nThe order is closed as rejected."
        case _:
            left = order.budget["rounds"] - attempt.number
            return f"{head}\nRevise accordingly and report again ({left} round{'s' if left != 1 else ''} left)."
