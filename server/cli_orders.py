"""The commands on work orders: what the Hands were given, what they reported, and a person's verdict.

Knows arguments and tables; each command is one request to the daemon, which starts by itself.
"""

from __future__ import annotations

import argparse
from typing import Any

from server.calling import call
from server.console import OUT, print_json, table


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `order list|show|review` to the parser's commands."""
    says = "work orders to the Hands, and their review"
    group = commands.add_parser("order", help=says, description=says, parents=[common])
    group.set_defaults(parser=group)
    inside = group.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, help_text in (
        ("list", order_list, "show the latest orders"),
        ("show", order_show, "show one order with its attempts"),
        ("review", order_review, "give the waiting attempt its verdict"),
    ):
        one = inside.add_parser(name, help=help_text, description=help_text, parents=[common])
        one.set_defaults(run=run, parser=one)
        one.add_argument("--json", action="store_true")
        if name != "list":
            one.add_argument("id", metavar="ORDER")
        if name == "review":
            one.add_argument("verdict", choices=("accept", "revise", "reject"))
            one.add_argument("--why", default="")


def order_list(home: str, given: argparse.Namespace) -> None:
    """`soul order list`."""
    orders = call(home, "work_order.list")
    if given.json:
        print_json(orders)
        return
    rows = [(one["id"], one["state"], one["created"][:16].replace("T", " "), one["task"][:60]) for one in orders]
    OUT.print(table(("order", "state", "created", "task"), rows) if rows else "no work orders yet")


def order_show(home: str, given: argparse.Namespace) -> None:
    """`soul order show ORDER`."""
    found = call(home, "work_order.show", {"order": given.id})
    if given.json:
        print_json(found)
        return
    order = found["order"]
    by = f"for {order['client']} by {order['agent']}"
    OUT.print(f"{order['id']}: {order['state']}, {by}", style="bold", markup=False)
    OUT.print(order["task"], markup=False)
    if order["why"]:
        OUT.print(order["why"], markup=False, soft_wrap=True)
    for title, lines in (("constraints", order["constraints"]), ("accepted when", order["acceptance"])):
        if lines:
            OUT.print(f"{title}:\n" + "\n".join(f"- {line}" for line in lines), markup=False)
    for one in found["attempts"]:
        verdict = f"{one['verdict']} by {one['decided_by']}: {one['why']}" if one["verdict"] else "waits for a verdict"
        OUT.print(f"\nattempt {one['number']} by {one['reporter']}: {verdict}", style="bold", markup=False)
        OUT.print(one["outcome"], markup=False, soft_wrap=True)
        if one["artifacts"]:
            OUT.print("artifacts: " + ", ".join(one["artifacts"]), markup=False)
    for one in found["runs"]:
        cause = f" ({one['cause']})" if one["cause"] else ""
        cost = f"{one['tokens']:,} tokens, {one['usd']:.4f} US dollars"
        OUT.print(f"run {one['id']} of {one['agent']}: {one['state']}{cause}, {cost}", markup=False)


def order_review(home: str, given: argparse.Namespace) -> None:
    """`soul order review ORDER accept|revise|reject`."""
    found = call(home, "work_order.decide", {"order": given.id, "verdict": given.verdict, "why": given.why})
    if given.json:
        print_json(found)
        return
    OUT.print(found["says"], markup=False, soft_wrap=True)
