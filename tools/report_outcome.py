"""report_outcome: the Hands report on a work order; the Director reviews: accept, revise or reject."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from engine.errors import Forbidden
from tools.caller import caller_of
from tools.check import identifier, words
from tools.contract import SETS, SoulTool
from tools.house import House

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
        from agents.reviewing import review

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
        reviewed = await review(agents.director, agents.orders, order, attempt, caller.session)
        if plan := await agents.planner.after(id):
            return f"{reviewed.words}\n{plan}"
        again = "" if reviewed.verdict else "\nReporting the same outcome again asks for a review again."
        return reviewed.words + again

    return SoulTool.make(
        house,
        report_outcome,
        title="Report an outcome",
        description=DESCRIPTION,
        annotations=SETS,
        recorded=False,  # the outcome and its review are packets of their own
    )
