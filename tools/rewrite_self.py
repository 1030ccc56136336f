"""rewrite_self: proposes a new self; the Director ratifies or refuses it, or a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from engine.errors import Forbidden, OverBudget, SoulError
from tools.caller import caller_of
from tools.check import words
from tools.contract import REWRITES, SoulTool
from tools.house import House

if TYPE_CHECKING:
    from memory.selves import Proposal

DESCRIPTION = """\
Propose a new self (the system prompt the Soul has of itself; read soul://self first). The Director ratifies or \
refuses it; until then nothing changes. Give the whole new text."""


def tool(house: House) -> SoulTool:
    """The tool, bound to its house."""

    async def rewrite_self(
        proposal: Annotated[str, Field(max_length=20_000, description="The whole new self")],
        reason: Annotated[str, Field(max_length=1000)],
        ctx: Context[Any, Any],
        base_version: Annotated[int | None, Field(ge=1, description="Version it was written against")] = None,
    ) -> str:
        from memory.selves import diff

        text, why = words(proposal, "proposal"), words(reason, "reason")
        caller = caller_of(ctx)
        if caller.agent:
            raise Forbidden(
                "An agent cannot propose a new self in the middle of a turn.",
                "Say in your answer what should change; a person or a client proposes it.",
            )
        memory = await house.memory.get()
        tokens, budget = house.count_tokens(text), memory.selves.budget
        if tokens > budget:
            raise OverBudget(f"The proposal has {tokens:,} tokens; a self has at most {budget:,}.", "Shorten it.")
        current = await memory.selves.current()
        made = await memory.selves.propose(text, why, caller.client, base_version)
        change = diff(current.content, text, f"version {current.version}", "proposal")
        try:
            agents = await house.agents.get()
            judgement = await agents.director.ratify(made, current.content)
        except SoulError as error:
            return (
                f"Pending: proposal {made.id} is recorded, but the Director cannot judge it now. {error}\n"
                f"{_person(made)}\n{change}"
            )
        await agents.director.record(caller.session, "review", f"{judgement.words}\n{judgement.reason}", judgement.by)
        if not judgement.binding:
            return (
                f"Pending: proposal {made.id}. The Director's model is a stand-in, so its verdict does not "
                f"count; it would say {judgement.words}.\n{_person(made)}\n{change}"
            )
        decided = await memory.selves.decide(made.id, judgement.choice == "ratify", judgement.reason, judgement.by)
        if decided.version is not None:
            await agents.director.record(caller.session, "self", text, caller.client, version=decided.version)
            return f"Ratified: the self is now at version {decided.version}. {judgement.reason}\n{change}"
        return f"Refused: {judgement.words}. {judgement.reason}\n{change}"

    return SoulTool.make(
        house,
        rewrite_self,
        title="Propose a new self",
        description=DESCRIPTION,
        annotations=REWRITES,
    )


def _person(proposal: Proposal) -> str:
    return f"A person decides: `soul self approve {proposal.id}` or `soul self reject {proposal.id}`."
