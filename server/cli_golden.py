"""The commands on the golden log (`golden`, `feedback`): what a dream will learn from.

Knows arguments and tables; the log is the daemon's, clusters are computed in this process.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from engine.errors import InvalidInput, NotFound
from server.calling import call
from server.console import OUT, print_json, progress_bar, table

CLUSTERS = "clusters.json"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `golden` and `feedback`."""
    says = "the golden log: exchanges that a dream learns from"
    group = commands.add_parser("golden", help=says, description=says, parents=[common])
    group.set_defaults(parser=group)
    inside = group.add_subparsers(title="commands", metavar="COMMAND")
    for name, run, help_text in (
        ("list", golden_list, "weigh what was lived and show the log"),
        ("show", golden_show, "show one exchange and why it is proposed"),
        ("accept", golden_decide, "take exchanges into what a dream learns from"),
        ("strike", golden_decide, "leave exchanges out for good"),
        ("export", golden_export, "write what is accepted to a file"),
        ("cluster", golden_cluster, "find what the log is about, and draw it"),
    ):
        one = inside.add_parser(name, help=help_text, description=help_text, parents=[common])
        one.set_defaults(run=run, parser=one, accept=name == "accept")
        one.add_argument("--json", action="store_true")
        if name == "list":
            one.add_argument("--state", choices=("proposed", "accepted", "struck"))
        if name == "show":
            one.add_argument("id", metavar="ID")
        if name in ("accept", "strike"):
            one.add_argument("ids", nargs="*", metavar="ID")
            one.add_argument("--all", action="store_true", help="all that are proposed")
        if name == "export":
            one.add_argument("file", metavar="FILE")
    says = "say of a memory that it was good (+) or bad (-)"
    one = commands.add_parser("feedback", help=says, description=says, parents=[common])
    one.set_defaults(run=feedback, parser=one)
    one.add_argument("id", metavar="ID")
    one.add_argument("word", choices=("+", "-"))


def golden_list(home: str, given: argparse.Namespace) -> None:
    """`soul golden list`."""
    with progress_bar() as progress:
        found = call(home, "golden.list", {"state": given.state}, progress=progress)
    if given.json:
        print_json(found)
        return
    rows = [
        (one["answer"], one["state"], f"{one['resonance']:.2f}", " ".join(one["asked"].split())[:60])
        for one in found["exchanges"]
    ]
    OUT.print(table(("answer", "state", "resonance", "asked"), rows) if rows else "nothing is proposed yet")
    OUT.print(f"{found['new']} newly proposed")


def golden_show(home: str, given: argparse.Namespace) -> None:
    """`soul golden show ID`."""
    one = call(home, "golden.show", {"id": given.id})
    if given.json:
        print_json(one)
        return
    OUT.print(f"{one['answer']}: {one['state']}, resonance {one['resonance']:.2f}", style="bold", markup=False)
    rows = [(name, f"{part['value']:.2f}", part["how"]) for name, part in sorted(one["parts"].items())]
    OUT.print(table(("part", "value", "observed how"), rows))
    OUT.print(f"> {one['asked']}\n{one['answered']}", markup=False)


def golden_decide(home: str, given: argparse.Namespace) -> None:
    """`soul golden accept|strike`."""
    ids = list(given.ids)
    if given.all:
        ids += [one["answer"] for one in call(home, "golden.list", {"state": "proposed"})["exchanges"]]
    if not ids:
        raise InvalidInput("No exchange is named.", "Name ids, or give --all.")
    done = call(home, "golden.decide", {"ids": ids, "accept": given.accept})
    if given.json:
        print_json(done)
        return
    OUT.print(
        f"{'accepted' if given.accept else 'struck'}: {len(done['decided'])}; accepted in all: {done['accepted']}"
    )


def golden_export(home: str, given: argparse.Namespace) -> None:
    """`soul golden export FILE`."""
    call(home, "golden.list", {"state": "accepted"})
    buffer = Path(home) / "golden" / "training_buffer.jsonl"
    if not buffer.is_file():
        raise NotFound("Nothing is accepted yet.", "`soul golden list`, then `soul golden accept ID`.")
    target = Path(given.file).expanduser()
    target.write_bytes(buffer.read_bytes())
    OUT.print(f"written to {target}", markup=False, soft_wrap=True)


def golden_cluster(home: str, given: argparse.Namespace) -> None:
    """`soul golden cluster`."""
    import numpy as np

    from evolution.anchor import write_json
    from evolution.clusters import cluster

    with progress_bar() as progress:
        found = call(home, "golden.vectors", progress=progress)
    folder = Path(home) / "golden"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    vectors = np.array([one["vector"] for one in found], np.float32).reshape(len(found), -1)
    texts = [f"{one['asked']} {one['answered']}" for one in found]
    made = cluster(texts, vectors, folder / "clusters.png")
    said = [
        {"number": one.number, "terms": one.terms, "answers": [found[at]["answer"] for at in one.members]}
        for one in made
    ]
    write_json(folder / CLUSTERS, {"clusters": said})
    if given.json:
        print_json(said)
        return
    rows = [
        ("none" if one.number < 0 else str(one.number), str(len(one.members)), ", ".join(one.terms)) for one in made
    ]
    OUT.print(table(("cluster", "exchanges", "terms"), rows))
    OUT.print(f"drawn: {folder / 'clusters.png'}", markup=False, soft_wrap=True)


def buffer_of_cluster(home: Path, number: int) -> Path:
    """The accepted exchanges of one cluster, as a buffer beside the whole one. Raises NotFound."""
    try:
        said = json.loads((home / "golden" / CLUSTERS).read_text(encoding="utf-8"))["clusters"]
        answers = next(set(one["answers"]) for one in said if one["number"] == number)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        raise NotFound(f"There is no cluster {number}.", "`soul golden cluster` finds them.") from None
    whole = home / "golden" / "training_buffer.jsonl"
    if not whole.is_file():
        raise NotFound("Nothing is accepted yet.", "`soul golden accept ID` does that.")
    lines = whole.read_text(encoding="utf-8").splitlines(keepends=True)
    chosen = [line for line in lines if answers & set(json.loads(line).get("packets", ()))]
    path = home / "golden" / f"cluster-{number}.jsonl"
    path.write_text("".join(chosen), encoding="utf-8")
    path.chmod(0o600)
    return path


def feedback(home: str, given: argparse.Namespace) -> None:
    """`soul feedback ID +|-`."""
    call(home, "feedback", {"id": given.id, "good": given.word == "+"})
    OUT.print("noted")
