"""Drawing a plan: what the architect is asked, in which form it answers, and what of the answer is a plan.

Knows the form of a plan; does not know where a step is done (`agents.rules`) nor how (`agents.planner`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.rules import Decision, Need, Rules, decide
from agents.turn import Form
from engine.errors import InvalidInput

MOST_STEPS = 8
StepRole = Literal["builder", "controller", "critic", "majordomo"]
Line = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]{0,400}$")]

SAYS = f"""\
Draw a plan for this task. Answer with its steps alone, as JSON, at most {MOST_STEPS} of them. Each has a `role`, a \
`task` in one or two sentences, `acceptance` (how one sees that it is done), `needs` (of: thought, memory, files, \
commands, web) and `after` (numbers of the earlier steps whose outcomes it needs; the first step is 1)."""


class Draft(BaseModel):
    """One step as it is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: StepRole
    task: Line
    acceptance: Line
    needs: Annotated[tuple[Need, ...], Field(max_length=5)]
    after: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...], Field(max_length=MOST_STEPS)]


class Drawn(BaseModel):
    """A plan as it is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[tuple[Draft, ...], Field(min_length=1, max_length=MOST_STEPS)]


FORM = Form(Drawn.model_json_schema(), SAYS)
"""What the architect's answer is held to while it is written."""


def drawn(text: str) -> tuple[Draft, ...]:
    """The steps of a model's answer. Numbers in `after` that name no earlier step mean nothing and are left out.

    Raises:
        InvalidInput: it is no plan, since it broke off or its tokenizer could not be held to the form.
    """
    steps = _read(text, "The architect's answer is no plan", "Ask again, with a smaller goal or another model.")
    return tuple(
        step.model_copy(update={"after": tuple(sorted({one for one in step.after if one < number}))})
        for number, step in enumerate(steps, 1)
    )


def written(text: str) -> tuple[Draft, ...]:
    """The steps that a person wrote. InvalidInput with what is wrong."""
    steps = _read(text, "This is no plan", "Correct it; `soul plan edit` shows the form.")
    for number, step in enumerate(steps, 1):
        if late := [one for one in step.after if one >= number]:
            raise InvalidInput(f"Step {number} comes after step {late[0]}.", "Name earlier steps alone in `after`.")
    return steps


def placed(
    rules: Rules, drafts: Sequence[Draft], goal: str, constraints: Sequence[str], context: str, usd: float
) -> list[Decision]:
    """Where each step is done, by the rules; `usd` is what one order costs at most.

    A plan for something private was drawn by somebody who may have read more of it, so that all of its steps are.
    """
    named = rules.names("\n".join([goal, *constraints, context]))
    decisions: list[Decision] = []
    spent = 0.0
    for draft in drafts:
        private = [number for number, one in enumerate(decisions, 1) if one.private]
        words = "\n".join([draft.task, draft.acceptance, *constraints, context])
        decision = decide(rules, words, draft.needs, draft.after, private, spent + usd)
        if named and not decision.private:
            decision = Decision("home", f"private: the goal or its material names {named!r}", True)
        spent += usd if decision.place == "hands" else 0.0
        decisions.append(decision)
    return decisions


def _read(text: str, fact: str, remedy: str) -> tuple[Draft, ...]:
    try:
        return Drawn.model_validate_json(text).steps
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidInput(f"{fact}: {where + ': ' if where else ''}{problem['msg']}.", remedy) from error
