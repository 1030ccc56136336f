"""The commands on what the Soul remembers: corpora, recall, notebook, self.

Knows arguments and tables; each is one command to the daemon, which starts by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import NotFound
from server import paths
from server.calling import call
from server.console import OUT, print_json, progress_bar, table

Run = Callable[[str, argparse.Namespace], int | None]


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds `corpus`, `recall`, `notebook` and `self` to the parser's commands."""

    def group(name: str, says: str) -> Callable[[str, Run, str], argparse.ArgumentParser]:
        one = commands.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(parser=one)
        inside = one.add_subparsers(title="commands", metavar="COMMAND")

        def command(name: str, run: Run, says: str) -> argparse.ArgumentParser:
            two = inside.add_parser(name, help=says, description=says, parents=[common])
            two.set_defaults(run=run, parser=two)
            two.add_argument("--json", action="store_true")
            return two

        return command

    corpus = group("corpus", "bodies of text or code, each indexed on its own")
    one = corpus("add", corpus_add, "index a folder or a file, or refresh it")
    one.add_argument("name")
    one.add_argument("path")
    one.add_argument("--language", help="stem its words in this language (german, ...); default: each text's own")
    corpus("list", corpus_list, "show all corpora")
    corpus("show", corpus_show, "show one: its size, what was skipped, what may be misread").add_argument("name")
    corpus("remove", corpus_remove, "forget a corpus; the files stay").add_argument("name")
    corpus("refresh", corpus_refresh, "index again what changed").add_argument("name")
    for name, run, says in (
        ("mount", corpus_mount, "put corpora on the Director, in place of those it wears"),
        ("unmount", corpus_unmount, "take corpora off"),
    ):
        corpus(name, run, says).add_argument("names", nargs="+", metavar="name")
    one = corpus("export", corpus_export, "write a corpus with its vectors to one file")
    one.add_argument("name")
    one.add_argument("file")
    one = corpus("import", corpus_import, "make a corpus of such a file")
    one.add_argument("file")
    one.add_argument("--name", help="default: the name it had")

    one = commands.add_parser("recall", help="search memory", description="search memory", parents=[common])
    one.set_defaults(run=recall, parser=one)
    one.add_argument("query", nargs="+")
    one.add_argument("-k", type=int, default=8, help="most hits")
    one.add_argument("--corpus", help="only this corpus; * for everything")
    one.add_argument("--since", help="ISO 8601 time")
    one.add_argument("--until", help="ISO 8601 time")
    one.add_argument("--why", action="store_true", help="show what each score is made of")
    one.add_argument("--private", action="store_true", help="also what must not leave the house")
    one.add_argument("--vectors", action="store_true", help="with --json: each hit's vector, as `recall` takes it")
    one.add_argument("--json", action="store_true")

    notebook = group("notebook", "what the Soul always has in view")
    notebook("show", notebook_show, "show it as it stands, or one version").add_argument("version", type=int, nargs="?")
    notebook("history", notebook_history, "show its versions")

    itself = group("self", "the system prompt the Soul has of itself")
    itself("show", self_show, "show it, and the proposals that wait").add_argument("version", type=int, nargs="?")
    for name, says in (("approve", "ratify a proposal"), ("reject", "refuse a proposal")):
        one = itself(name, self_decide, says)
        one.set_defaults(ratify=name == "approve")
        one.add_argument("proposal")
        one.add_argument("--why", default="")
    itself("history", self_history, "show its versions")
    itself("rollback", self_rollback, "bring an old version back").add_argument("version", type=int)


def _asked(home: str, given: argparse.Namespace, name: str, arguments: dict[str, Any] | None = None) -> Any:
    """The command's result; printed at once where JSON was asked for, and then None."""
    with progress_bar() as progress:
        result = call(home, name, arguments, progress=progress)
    if given.json:
        print_json(result)
        return None
    return result


def corpus_add(home: str, given: argparse.Namespace) -> None:
    """`soul corpus add NAME PATH`: a relative path stands on the folder of the person, not of the daemon."""
    path = str(Path(given.path).expanduser().absolute())
    info = _asked(home, given, "corpus.add", {"name": given.name, "path": path, "language": given.language})
    if info:
        _show_corpus(info)


def corpus_show(home: str, given: argparse.Namespace) -> None:
    """`soul corpus show NAME`."""
    found = {info["name"]: info for info in call(home, "corpus.list")["corpora"]}
    if given.name not in found:
        raise NotFound(f"There is no corpus {given.name!r}.", "`soul corpus list` shows all.")
    if given.json:
        print_json(found[given.name])
    else:
        _show_corpus(found[given.name])


def corpus_refresh(home: str, given: argparse.Namespace) -> None:
    """`soul corpus refresh NAME`."""
    info = _asked(home, given, "corpus.refresh", {"name": given.name})
    if info:
        _show_corpus(info)


def corpus_remove(home: str, given: argparse.Namespace) -> None:
    """`soul corpus remove NAME`."""
    if _asked(home, given, "corpus.remove", {"name": given.name}):
        OUT.print(f"removed {given.name}; its files are untouched", markup=False)


def corpus_mount(home: str, given: argparse.Namespace) -> None:
    """`soul corpus mount NAME...`."""
    found = _asked(home, given, "corpus.mount", {"names": given.names})
    if found:
        off = f"; taken off: {', '.join(found['unmounted'])}" if found["unmounted"] else ""
        OUT.print(f"mounted: {', '.join(info['name'] for info in found['infos'])}{off}", markup=False)


def corpus_unmount(home: str, given: argparse.Namespace) -> None:
    """`soul corpus unmount NAME...`."""
    found = _asked(home, given, "corpus.unmount", {"names": given.names})
    if found:
        OUT.print(f"mounted: {', '.join(found['mounted']) or 'none'}", markup=False)


def corpus_export(home: str, given: argparse.Namespace) -> None:
    """`soul corpus export NAME FILE`."""
    path = str(Path(given.file).expanduser().absolute())
    found = _asked(home, given, "corpus.export", {"name": given.name, "path": path})
    if found:
        OUT.print(
            f"{path}: {found['files']:,} files, {found['chunks']:,} passages, {found['vectors']:,} vectors"
            + (f" of {found['embedder']}" if found["embedder"] else ""),
            markup=False,
            soft_wrap=True,
        )


def corpus_import(home: str, given: argparse.Namespace) -> None:
    """`soul corpus import FILE [--name NAME]`."""
    path = str(Path(given.file).expanduser().absolute())
    info = _asked(home, given, "corpus.import", {"path": path, "name": given.name})
    if info:
        _show_corpus(info)


def corpus_list(home: str, given: argparse.Namespace) -> None:
    """`soul corpus list`."""
    found = _asked(home, given, "corpus.list")
    if found is None:
        return
    if not found["corpora"]:
        OUT.print("no corpora yet: soul corpus add NAME PATH")
        return
    rows = [
        (
            one["name"],
            "yes" if one["name"] in found["mounted"] else "",
            f"{one['files']:,}",
            f"{one['chunks']:,}",
            f"{one['bytes'] / 1e6:,.1f} MB",
            (one["indexed"] or "")[:16].replace("T", " "),
            paths.display(one["path"]) if one["path"] else "(imported)",
        )
        for one in found["corpora"]
    ]
    OUT.print(table(("corpus", "mounted", "files", "passages", "size", "indexed", "path"), rows))
    for name, trouble in found["followed"].items():
        if trouble:
            OUT.print(f"{name} is not up to date: {trouble}", markup=False, soft_wrap=True)


def _show_corpus(info: dict[str, Any]) -> None:
    OUT.print(
        f"{info['name']}: {info['files']:,} files, {info['chunks']:,} passages, {info['bytes'] / 1e6:,.1f} MB"
        + (f", {info['owed']:,} vectors follow in the background" if info["owed"] else ""),
        markup=False,
    )
    for what in ("skipped", "doubtful"):
        for path, why in info[what][:10]:
            OUT.print(f"{what} {path}: {why}", markup=False, soft_wrap=True)
        if len(info[what]) > 10:
            OUT.print(f"and {len(info[what]) - 10} more (--json shows all)")


def recall(home: str, given: argparse.Namespace) -> None:
    """`soul recall QUERY`."""
    arguments = {"query": " ".join(given.query), "k": given.k, "corpus": given.corpus}
    arguments |= {"since": given.since, "until": given.until}
    arguments |= {"vectors": given.vectors, "private": given.private}
    hits = _asked(home, given, "recall", arguments)
    if hits is None:
        return
    if not hits:
        OUT.print("nothing found")
    for hit in hits:
        OUT.print(f"{hit['score']:.2f}  {hit['source']}  {hit['id']}", style="bold", markup=False, soft_wrap=True)
        if given.why:
            parts = ", ".join(f"{name} {value:.2f}" for name, value in hit["why"].items())
            OUT.print(f"      {parts}", style="dim", markup=False, soft_wrap=True)
        OUT.print(hit["prose"].strip(), markup=False, soft_wrap=True)
        OUT.print()


def notebook_show(home: str, given: argparse.Namespace) -> None:
    """`soul notebook show [VERSION]`."""
    found = _asked(home, given, "notebook.show", {"version": given.version})
    if found:
        OUT.print(f"version {found['version']}, {found['tokens']:,} tokens, by {found['author']}", style="bold")
        OUT.print(found["content"] or "(empty)", markup=False, soft_wrap=True)


def notebook_history(home: str, given: argparse.Namespace) -> None:
    """`soul notebook history`."""
    _show_versions(_asked(home, given, "notebook.history"))


def self_history(home: str, given: argparse.Namespace) -> None:
    """`soul self history`."""
    _show_versions(_asked(home, given, "self.history"))


def _show_versions(versions: list[dict[str, Any]] | None) -> None:
    if versions is None:
        return
    rows = [
        (str(one["version"]), one["created"][:16].replace("T", " "), one["author"], one["reason"]) for one in versions
    ]
    OUT.print(table(("version", "written", "by", "reason"), rows) if rows else "nothing written yet")


def self_show(home: str, given: argparse.Namespace) -> None:
    """`soul self show [VERSION]`."""
    found = _asked(home, given, "self.show", {"version": given.version})
    if not found:
        return
    itself = found["self"]
    OUT.print(f"version {itself['version']}, by {itself['author']}: {itself['reason']}", style="bold", markup=False)
    OUT.print(itself["content"], markup=False, soft_wrap=True)
    for one in found["pending"]:
        OUT.print(f"\nproposal {one['id']} by {one['author']}: {one['reason']}", style="bold", markup=False)
        OUT.print(one["diff"], markup=False, soft_wrap=True)
        OUT.print(f"soul self approve {one['id']}   or   soul self reject {one['id']}")


def self_decide(home: str, given: argparse.Namespace) -> None:
    """`soul self approve|reject PROPOSAL`."""
    arguments = {"proposal": given.proposal, "ratify": given.ratify, "why": given.why}
    found = _asked(home, given, "self.decide", arguments)
    if found:
        version = f": the self is now version {found['version']}" if found["version"] else ""
        OUT.print(f"{found['verdict']}{version}", markup=False)


def self_rollback(home: str, given: argparse.Namespace) -> None:
    """`soul self rollback VERSION`."""
    found = _asked(home, given, "self.rollback", {"version": given.version})
    if found:
        OUT.print(f"the self is now version {found['version']}: {found['reason']}", markup=False)
