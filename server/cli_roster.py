"""`soul agents new|show|edit`: a person's hand on agents.toml. Whatever is written is checked first.

Knows the file and an editor; does not know what an agent does. The daemon need not run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.errors import Conflict, InvalidInput
from server.console import OUT, print_json
from server.editing import edited
from server.settings import KV_FORMATS

ROLES = ("director", "architect", "builder", "controller", "critic", "majordomo")
RUNS_ON = ("mlx", "claude", "api")


def add_commands(inside: Any, common: argparse.ArgumentParser) -> None:
    """Adds `new|show|edit` to `soul agents`."""
    for name, run, says in (
        ("new", new, "add an agent to agents.toml from a template"),
        ("show", show, "show one agent's table, or all, with what is default"),
        ("edit", edit, "open agents.toml in $EDITOR; it is kept only if it is valid"),
    ):
        one = inside.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(run=run, parser=one)
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if name == "new":
            one.add_argument("name")
            one.add_argument("--role", choices=ROLES, help="default: the name, where it is one; else builder")
            one.add_argument("--runs-on", choices=RUNS_ON, default="mlx")
            one.add_argument("--folder", default="", help="where a `claude` agent may work")
            one.add_argument(
                "--model", default="", help="model of an `api` agent; of one at home: default the Director's"
            )
            one.add_argument("--context", type=int, help="most tokens of the window of an agent at home")
            one.add_argument("--kv-format", default="", choices=KV_FORMATS, help="how its cache is kept")
            one.add_argument("--base-url", default="", help="server of an `api` agent, OpenAI-compatible")
        if name == "show":
            one.add_argument("name", nargs="?")


def new(home: str, given: argparse.Namespace) -> None:
    """`soul agents new NAME`."""
    from agents import roster, templates

    path = Path(home) / roster.FILE
    role = given.role or (given.name if given.name in ROLES else "builder")
    if given.runs_on == "claude" and not given.folder:
        raise InvalidInput("A `claude` agent needs a folder to work in.", "Give --folder PATH.")
    if given.runs_on == "api" and not given.model:
        raise InvalidInput("An `api` agent needs a model.", "Give --model NAME, and --base-url for a server of yours.")
    if given.name in roster.read(Path(home)).specs:
        raise Conflict(f"{path} has an agent {given.name} already.", "`soul agents edit` changes it.")
    folder = str(Path(given.folder).expanduser().resolve()) if given.folder else ""
    text = path.read_text(encoding="utf-8").rstrip() + "\n\n" if path.exists() else ""
    if given.runs_on != "mlx" and (given.context or given.kv_format):
        raise InvalidInput("--context and --kv-format are for agents at home.", "Leave them out, or --runs-on.")
    own = {"context": given.context, "kv_format": given.kv_format}
    table = templates.table(given.name, role, given.runs_on, folder, given.model, given.base_url, **own)
    roster.parse(text + table, path)
    _write(path, text + table)
    OUT.print(table.rstrip(), markup=False, soft_wrap=True)
    OUT.print(f"added to {path}; `soul agents edit` changes it", style="dim", markup=False, soft_wrap=True)


def show(home: str, given: argparse.Namespace) -> None:
    """`soul agents show [NAME]`."""
    from agents import roster

    found = roster.read(Path(home))
    chosen = [found.get(given.name)] if given.name else list(found.specs.values())
    if given.json:
        print_json([one.model_dump(mode="json") for one in chosen])
        return
    for one in chosen:
        OUT.print(one.name, style="bold", markup=False)
        for key, value in one.model_dump(mode="json", exclude={"name"}).items():
            shown = (
                ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value).strip()
            )
            OUT.print(f"  {key} = {shown or '(none)'}", markup=False, soft_wrap=True)
    if not chosen:
        OUT.print(f"{found.path} names nobody; `soul agents new NAME` begins it", markup=False, soft_wrap=True)


def edit(home: str, given: argparse.Namespace) -> None:
    """`soul agents edit`: the file stays as it is while the new text is wrong, and the text is kept beside it."""
    from agents import roster

    path = Path(home) / roster.FILE
    draft = edited(home, "agents-", ".toml", path.read_text(encoding="utf-8") if path.exists() else "")
    if draft is None:
        OUT.print("unchanged")
        return
    try:
        roster.parse(draft.read_text(encoding="utf-8"), path)
    except InvalidInput as error:
        raise InvalidInput(error.fact, f"{error.remedy} Nothing was changed; your text is in {draft}.") from error
    draft.replace(path)
    OUT.print(f"written to {path}", markup=False, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".toml.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
