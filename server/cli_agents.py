"""`soul agents`: the agents' working memory, hot and on disk; and who there is, in agents.toml.

Knows arguments and tables. What concerns the working memory is one order to the daemon, which starts by itself;
agents.toml is read and written here (`server.cli_roster`), and the daemon reads it when it next needs it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from server import cli_roster
from server.calling import call
from server.console import OUT, print_json, progress_bar, table


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `agents [list|verify|drop|compact|export|import|new|show|edit]`."""
    says = "the agents' working memory: KV caches in memory and on disk"
    group = commands.add_parser("agents", help=says, description=says, parents=[common])
    group.set_defaults(parser=group, run=agents_list)
    group.add_argument("--json", action="store_true")
    inside = group.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, help_text in (
        ("list", agents_list, "show each agent's tokens, bytes, format, last use"),
        ("verify", agents_verify, "read everything and compare checksums"),
        ("drop", agents_drop, "forget an agent's cache; its window is computed again"),
        ("compact", agents_compact, "put an agent's files into one"),
        ("export", agents_export, "copy an agent's cache into a new folder"),
        ("import", agents_import, "take in an exported cache"),
    ):
        one = inside.add_parser(name, help=help_text, description=help_text, parents=[common])
        one.set_defaults(run=run, parser=one)
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name in ("drop", "compact", "export"):
            one.add_argument("agent")
        if name == "verify":
            one.add_argument("agent", nargs="?")
        if name in ("export", "import"):
            one.add_argument("path", metavar="FOLDER")
        if name == "import":
            one.add_argument("--name", dest="agent", help="another name than the one it had")
    cli_roster.add_commands(inside, common)


def _ask(home: str, given: argparse.Namespace, order: str) -> Any:
    arguments: dict[str, Any] = {}
    if getattr(given, "agent", None):
        arguments["agent"] = given.agent
    if getattr(given, "path", None):
        arguments["path"] = str(Path(given.path).resolve())
    with progress_bar() as progress:
        found = call(home, order, arguments, progress=progress)
    if given.json:
        print_json(found)
    return found


def size(count: float) -> str:
    """Bytes for a person."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:,.1f} {unit}"
    return f"{count:,.0f} B"


def agents_list(home: str, given: argparse.Namespace) -> None:
    """`soul agents`."""
    found = _ask(home, given, "kv.list")
    if given.json:
        return
    rows = [
        (
            one["name"],
            f"{one['tokens']:,}",
            f"{one['saved_tokens']:,}" + (" (not durable)" if one["save_error"] else ""),
            size(one["hot_bytes"]) if one["hot_bytes"] else "-",
            size(one["disk_bytes"]) if one["disk_bytes"] else "-",
            one["form"],
            one["fingerprint"][:6],
            f"{one['shared_tokens']:,}" if one["shared_tokens"] else "-",
            time.strftime("%d. %H:%M", time.localtime(one["used"])) if one["used"] else "-",
        )
        for one in found["agents"]
    ]
    names = ("agent", "tokens", "saved", "hot", "on disk", "format", "print", "shared", "used")
    OUT.print(table(names, rows) if rows else "no agent has a working memory yet")
    OUT.print(f"{found['strategy']}; {size(found['written_bytes'])} written since the daemon started", markup=False)
    for one in found["agents"]:
        if one["save_error"]:
            OUT.print(f"{one['name']} is not durable: {one['save_error']}", style="red", markup=False, soft_wrap=True)
    if found["error"]:
        OUT.print(f"Nothing is kept: {found['error']}", style="red", markup=False, soft_wrap=True)


def agents_verify(home: str, given: argparse.Namespace) -> int:
    """`soul agents verify [AGENT]`: exit status 1 where something is damaged."""
    faults = _ask(home, given, "kv.verify")
    if given.json:
        return int(bool(faults))
    for fault in faults:
        OUT.print(f"{fault['context']}: {fault['path']}: {fault['fact']}", markup=False, soft_wrap=True)
    OUT.print(f"{len(faults)} damaged; computed again from the ids when next used" if faults else "all whole")
    return int(bool(faults))


def agents_drop(home: str, given: argparse.Namespace) -> None:
    """`soul agents drop AGENT`."""
    _ask(home, given, "kv.drop")
    if not given.json:
        OUT.print(f"dropped {given.agent}", markup=False)


def agents_compact(home: str, given: argparse.Namespace) -> None:
    """`soul agents compact AGENT`."""
    found = _ask(home, given, "kv.compact")
    if not given.json:
        OUT.print(f"{given.agent}: {found['before']} block files before, {found['after']} now", markup=False)


def agents_export(home: str, given: argparse.Namespace) -> None:
    """`soul agents export AGENT FOLDER`."""
    found = _ask(home, given, "kv.export")
    if not given.json:
        OUT.print(f"{given.agent}: {size(found['bytes'])} in {given.path}", markup=False, soft_wrap=True)


def agents_import(home: str, given: argparse.Namespace) -> None:
    """`soul agents import FOLDER`."""
    found = _ask(home, given, "kv.import")
    if not given.json:
        OUT.print(f"imported {found['agent']}", markup=False)
