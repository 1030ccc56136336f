"""The commands on what the Director sees (`window`, `flush`) and on what is to go for good (`forget`).

Knows arguments and tables; each is one command to the daemon, which starts by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from server.calling import call
from server.console import OUT, print_json, progress_bar, table

BAR = 40
"""Columns of the picture of a window."""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `window`, `flush` and `forget` to the parser's commands."""
    for name, run, says in (
        ("window", window, "show what the Director sees, sector by sector"),
        ("flush", flush, "rewrite the notebook from the window and let the window go"),
        ("forget", forget, "forget memories for good; shows what would go unless --yes is given"),
    ):
        one = commands.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(run=run, parser=one)
        one.add_argument("--json", action="store_true")
        if name == "window":
            one.add_argument("--text", action="store_true", help="with the words of self, notebook and outfit")
        if name == "forget":
            one.add_argument("ids", nargs="*", metavar="ID", help="ids of memories, as recall shows them")
            one.add_argument("--query", default="", help="all memories in which these words stand")
            one.add_argument("--corpus", default="", help="a whole corpus; with --query, only in this one")
            one.add_argument("--reason", default="", help="kept in the record of what was forgotten")
            one.add_argument("--yes", action="store_true", help="do it")
            one.add_argument(
                "--scrub", action="store_true", help="and take its old bytes off the disk, which takes longer"
            )


def window(home: str, given: argparse.Namespace) -> None:
    """`soul window`."""
    with progress_bar() as progress:
        found = call(home, "window.show", progress=progress)
    if given.json:
        print_json(found)
        return
    total = found["context_tokens"]
    OUT.print(
        f"{found['agent']} on {found['model']}: {found['tokens']:,} of {total:,} tokens, {found['cached']:,} computed; "
        f"let go from {found['limit']:,} ({found['pressure']:.0%} of the context, {found['reserved']:,} kept for the "
        f"rewrite); let go {found['flushes']} times",
        soft_wrap=True,
    )
    rows = [(one["name"], *_sizes(one, total), "") for one in found["sectors"]]
    rows += [(_speaker(one), *_sizes(one, total), one["words"]) for one in found["turns"]]
    rows.append(("free", f"{total - found['tokens']:,}", "", "", ""))
    OUT.print(table(("sector", "tokens", "computed", "", ""), rows))
    for one in found["deltas"]:
        OUT.print(f"told with the next turn: new {one['sector']}, {one['tokens']:,} tokens")
    if found["flush"]:
        from tools.status import flush_in_words

        OUT.print(flush_in_words(found["flush"]), markup=False, soft_wrap=True)
    if given.text:
        for one in found["sectors"]:
            if one["text"]:
                OUT.print(f"\n{one['name']}", style="bold")
                OUT.print(one["text"], markup=False, soft_wrap=True)


def _speaker(turn: dict[str, Any]) -> str:
    return f"window: {turn['name'] or turn['role']}"


def _sizes(part: dict[str, Any], total: int) -> tuple[str, str, str]:
    filled = round(BAR * part["tokens"] / total)
    return f"{part['tokens']:,}", f"{part['cached']:,}", "█" * max(filled, 1 if part["tokens"] else 0)


def flush(home: str, given: argparse.Namespace) -> None:
    """`soul flush`."""
    with progress_bar() as progress:
        done = call(home, "window.flush", progress=progress)
    if given.json:
        print_json(done)
        return
    OUT.print(done["words"], markup=False, soft_wrap=True)


def forget(home: str, given: argparse.Namespace) -> None:
    """`soul forget`."""
    arguments = {"ids": given.ids, "query": given.query, "corpus": given.corpus, "reason": given.reason}
    if given.yes and given.scrub:
        arguments["scrub"] = True
    with progress_bar() as progress:
        plan = call(home, "forget.carry_out" if given.yes else "forget.plan", arguments, progress=progress)
    if given.json:
        print_json({"done": given.yes, **plan})
        return
    for one in plan["packets"]:
        quoted = ", quotes it" if one["quoted"] else ""
        OUT.print(f"{one['id']}  {one['time'][:16].replace('T', ' ')}  {one['kind']}{quoted}", style="bold")
        OUT.print(f"  {one['words']}", markup=False, soft_wrap=True)
    verb = "forgotten" if given.yes else "would be forgotten"
    what = [f"{len(plan['packets'])} memories"] if plan["packets"] or not plan["corpus"] else []
    if plan["corpus"]:
        what.append(f"the corpus {plan['corpus']} with {plan['corpus_packets']:,} passages")
    if plan["window_turns"]:
        what.append(f"{plan['window_turns']} turns of the window")
    if plan["opening"]:
        what.append("the start of the context, which is made anew")
    if plan["records"]:
        what.append(f"its words in {plan['records']} records of jobs, orders and plans")
    OUT.print(f"{verb}: {', '.join(what)}", markup=False, soft_wrap=True)
    from evolution.unlearning import eaten

    ate = eaten(Path(home), [one["id"] for one in plan["packets"]])
    OUT.print(f"generations trained on it: {', '.join(map(str, ate.generations)) or 'none'}")
    if ate.adapters:
        OUT.print(
            f"adapters trained on it: {', '.join(ate.adapters)}; `soul unlearn` builds without them", markup=False
        )
    for line in plan["warnings"]:
        OUT.print(f"note: {line}", markup=False, soft_wrap=True)
    if plan.get("scrubbed"):
        OUT.print("its old bytes are off the disk, backups and exports apart")
    elif "scrubbed" in plan:
        OUT.print("the tables were written anew; the log and the backups of this server are its operator's affair")
    if not given.yes:
        OUT.print("Nothing was changed. The same with --yes does it; there is no way back.")
