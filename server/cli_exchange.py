"""`soul memory export` and `soul memory import`: memories out of this Soul, and into it.

Knows arguments and what is said about the outcome; each is one command to the daemon, which starts by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from server.calling import call
from server.console import OUT, print_json, progress_bar


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `memory` to the parser's commands."""
    says = "carry memories to another Soul or tool, and back"
    group = commands.add_parser("memory", help=says, description=says, parents=[common])
    group.set_defaults(parser=group)
    inside = group.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, says in (
        ("export", export, "write memories to a new file, which ends in .jsonl or .parquet"),
        ("import", bring_in, "take in what another Soul exported; doing it twice is doing it once"),
    ):
        one = inside.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(run=run, parser=one)
        one.add_argument("file")
        one.add_argument("--json", action="store_true")
        if name == "export":
            one.add_argument("--since", help="ISO 8601 time")
            one.add_argument("--until", help="ISO 8601 time")
            one.add_argument("--kind", action="append", default=[], help="only of this kind; may be given again")
            one.add_argument("--agent", help="only of this agent")
            one.add_argument("--vectors", action="store_true", help="with the vector of each")


def export(home: str, given: argparse.Namespace) -> None:
    """`soul memory export FILE`."""
    arguments = {
        "path": _absolute(given.file),
        "since": given.since,
        "until": given.until,
        "kinds": given.kind,
        "agent": given.agent,
        "vectors": given.vectors,
    }
    with progress_bar() as progress:
        done = call(home, "memory.export", arguments, progress=progress)
    if given.json:
        print_json(done)
        return
    size = f"{done['bytes'] / 1e6:,.1f} MB" if done["bytes"] >= 1e6 else f"{done['bytes'] / 1e3:,.1f} kB"
    OUT.print(f"{done['packets']:,} memories, {size}, in {given.file}", markup=False, soft_wrap=True)
    if given.vectors:
        OUT.print(f"{done['vectors']:,} with their vectors, made by {done['embedder']}", markup=False, soft_wrap=True)


def bring_in(home: str, given: argparse.Namespace) -> None:
    """`soul memory import FILE`."""
    with progress_bar() as progress:
        done = call(home, "memory.import", {"path": _absolute(given.file)}, progress=progress)
    if given.json:
        print_json(done)
        return
    OUT.print(f"{done['written']:,} of {done['packets']:,} memories taken in", markup=False)
    if done["known"]:
        OUT.print(f"{done['known']:,} were here already")
    if done["forgotten"]:
        OUT.print(f"{done['forgotten']:,} were forgotten here and stay so")
    if done["mixed"]:
        words = f"their vectors are of {done['embedder']} and were left out; new ones are made in the background"
        OUT.print(words, markup=False, soft_wrap=True)
    elif done["embedder"]:
        OUT.print(f"{done['vectors']:,} came with their vectors")
    if done["conflicts"]:
        OUT.print(f"{done['conflicts']:,} have another text here, which stays:", style="yellow")
        for id in done["conflicting"]:
            OUT.print(f"  {id}", markup=False)


def _absolute(path: str) -> str:
    """A relative path stands on the folder of the person, not of the daemon."""
    return str(Path(path).expanduser().absolute())
