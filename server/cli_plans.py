"""`soul plan`: what is planned, where each step is done and by which rule, and a person's word on it.

Knows arguments, tables and an editor; each command is one request to the daemon, which starts by itself.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from engine.errors import InvalidInput
from server.calling import call
from server.console import OUT, print_json, progress_bar, table
from server.editing import edited

FIELDS = ("role", "task", "acceptance", "needs", "after")


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `plan list|show|edit|approve|go|cancel|review` to the parser's commands."""
    says = "plans: steps at home and with the Hands"
    group = commands.add_parser("plan", help=says, description=says, parents=[common])
    group.set_defaults(parser=group)
    inside = group.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, help_text in (
        ("list", plan_list, "show the latest plans"),
        ("show", plan_show, "show one plan, where each step is done, and the rule that says so"),
        ("edit", plan_edit, "open the steps of a proposed plan in $EDITOR, as JSON"),
        ("approve", plan_say, "let a proposed plan begin"),
        ("go", plan_say, "go on with a failed plan: what failed is begun anew"),
        ("cancel", plan_say, "end a plan; what is with the Hands comes to its own end"),
        ("review", plan_review, "give a step that was done at home its verdict"),
    ):
        one = inside.add_parser(name, help=help_text, description=help_text, parents=[common])
        one.set_defaults(run=run, parser=one, says=name)
        one.add_argument("--json", action="store_true")
        if name != "list":
            one.add_argument("id", metavar="PLAN")
        if name == "review":
            one.add_argument("step", type=int)
            one.add_argument("verdict", choices=("accept", "escalate", "reject"))
            one.add_argument("--why", default="")


def plan_list(home: str, given: argparse.Namespace) -> None:
    """`soul plan list`."""
    plans = call(home, "plan.list")
    if given.json:
        print_json(plans)
        return
    rows = [(one["id"], one["state"], f"{one['done']} of {one['steps']}", one["goal"][:60]) for one in plans]
    OUT.print(table(("plan", "state", "done", "goal"), rows) if rows else "no plans yet")


def plan_show(home: str, given: argparse.Namespace) -> None:
    """`soul plan show PLAN`."""
    _print(call(home, "plan.show", {"plan": given.id}), given)


def plan_say(home: str, given: argparse.Namespace) -> None:
    """`soul plan approve|go|cancel PLAN`: returns when it has ended or waits for somebody."""
    with progress_bar() as progress:
        found = call(home, f"plan.{given.says}", {"plan": given.id}, progress=progress)
    _print(found, given)


def plan_review(home: str, given: argparse.Namespace) -> None:
    """`soul plan review PLAN STEP accept|escalate|reject`."""
    said = {"plan": given.id, "step": given.step, "verdict": given.verdict, "why": given.why}
    with progress_bar() as progress:
        found = call(home, "plan.review", said, progress=progress)
    _print(found, given)


def plan_edit(home: str, given: argparse.Namespace) -> None:
    """`soul plan edit PLAN`: nothing is changed while the new text is wrong, and it is kept in a file."""
    steps = call(home, "plan.show", {"plan": given.id})["steps"]
    drawn = {"steps": [{name: one[name] for name in FIELDS} for one in steps]}
    before = json.dumps(drawn, indent=1, ensure_ascii=False)
    draft = edited(home, "plan-", ".json", before)
    if draft is None:
        OUT.print("unchanged")
        return
    try:
        found = call(home, "plan.redraw", {"plan": given.id, "steps": draft.read_text(encoding="utf-8")})
    except InvalidInput as error:
        raise InvalidInput(error.fact, f"{error.remedy} Nothing was changed; your text is in {draft}.") from error
    draft.unlink()
    _print(found, given)


def _print(found: Any, given: argparse.Namespace) -> None:
    if given.json:
        print_json(found)
        return
    plan = found["plan"]
    why = f" ({plan['why']})" if plan["why"] else ""
    OUT.print(f"{plan['id']}: {plan['state']}{why}, drawn by {plan['author']}", style="bold", markup=False)
    if not plan["trained"]:
        OUT.print("Its author is an untrained stand-in, whose words mean nothing.", style="yellow")
    OUT.print(plan["goal"], markup=False, soft_wrap=True)
    for one in found["steps"]:
        after = f", after {', '.join(map(str, one['after']))}" if one["after"] else ""
        head = f"\n{one['number']}. {one['state']}, {one['place']}{after}: {one['rule']}"
        OUT.print(head, style="bold", markup=False, soft_wrap=True)
        OUT.print(f"{one['task']}\ndone when: {one['acceptance']}", markup=False, soft_wrap=True)
        if one["work_order"]:
            OUT.print(f"work order {one['work_order']}", markup=False)
        if one["outcome"]:
            OUT.print(one["outcome"], style="dim", markup=False, soft_wrap=True)
        if one["why"]:
            OUT.print(one["why"], markup=False, soft_wrap=True)
    for said in _next(plan, found["steps"]):
        OUT.print(said, style="yellow", markup=False, soft_wrap=True)


def _next(plan: Any, steps: Any) -> list[str]:
    """What a person may say to it now."""
    if plan["state"] == "proposed":
        return [f"soul plan edit {plan['id']}, soul plan approve {plan['id']}, or soul plan cancel {plan['id']}"]
    if plan["state"] == "failed":
        return [f"soul plan go {plan['id']}"]
    waiting = [one["number"] for one in steps if one["state"] == "reported"]
    return [f"soul plan review {plan['id']} {number} accept|escalate|reject" for number in waiting]
