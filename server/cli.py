"""The `soul` command: what it understands, and the commands about the daemon itself.

Knows arguments, tables and exit statuses; what a command asks of the house goes to the daemon as a command.
Commands about memory are in `server.cli_memory`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import SoulError, Unavailable
from server import (
    VERSION,
    cli_agents,
    cli_budget,
    cli_dream,
    cli_evolution,
    cli_evolve,
    cli_exchange,
    cli_gate,
    cli_golden,
    cli_memory,
    cli_orders,
    cli_plans,
    cli_unlearn,
    cli_window,
    paths,
)
from server.calling import call
from server.claim import held, holder
from server.console import ERR, OUT, fail, print_json, table

STOP_S = 40.0


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit status."""
    given = parser().parse_args(arguments)
    if not hasattr(given, "run"):
        given.parser.print_help()
        return 2
    home = paths.home_folder(getattr(given, "home", None))
    try:
        return int(given.run(home, given) or 0)
    except SoulError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0  # whoever read our output has enough


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home", default=argparse.SUPPRESS, metavar="FOLDER", help="where the Soul is kept (else SOUL_HOME, ~/.soul)"
    )
    top = argparse.ArgumentParser(prog="soul", description="One local mind behind MCP.", parents=[common])
    top.set_defaults(parser=top)
    top.add_argument("--version", action="version", version=f"soul {VERSION}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, run: Callable[[str, argparse.Namespace], int | None], says: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=says, description=says, parents=[common])
        one.set_defaults(run=run, parser=one)
        return one

    _add_serve(command("serve", serve, "serve a client: over stdio, or with --http over HTTP"))
    one = command("status", status, "show the daemon, its clients and its parts")
    one.add_argument("--json", action="store_true")
    command("stop", stop, "stop the daemon of this home")
    one = command("config", config, "show each setting and where it comes from")
    one.add_argument("--json", action="store_true")
    one = command("mcp-json", mcp_json, "print the configuration that connects a client")
    one = command("doctor", doctor, "check every part with a real round trip")
    one.add_argument("--json", action="store_true")
    one = command("logs", logs, "show the last lines of the daemon's log")
    one.add_argument("-n", "--lines", type=int, default=40)
    one.add_argument("--json", action="store_true", help="the lines as they are")
    one = command("service", service, "let the system start the daemon at login and keep it")
    one.add_argument("action", choices=("install", "uninstall"))
    command("version", version, "print the version")
    cli_memory.add_commands(commands, common)
    cli_exchange.add_commands(commands, common)
    cli_orders.add_commands(commands, common)
    cli_plans.add_commands(commands, common)
    cli_window.add_commands(commands, common)
    cli_agents.add_commands(commands, common)
    cli_budget.add_commands(commands, common)
    cli_evolution.add_commands(commands, common)
    cli_dream.add_commands(commands, common)
    cli_gate.add_commands(commands, common)
    cli_evolve.add_commands(commands, common)
    cli_golden.add_commands(commands, common)
    cli_unlearn.add_commands(commands, common)
    return top


def _add_serve(one: argparse.ArgumentParser) -> None:
    how = one.add_mutually_exclusive_group()
    how.add_argument("--http", action="store_true", help="run the daemon here, with /mcp, /sse and a status page")
    how.add_argument("--in-process", action="store_true", help="run everything in this process, over stdio")
    one.add_argument("--host", help="address of --http (default 127.0.0.1)")
    one.add_argument("--port", help="port of --http (default 8420)")
    one.add_argument("--token", help="bearer token of --http; better set SOUL_HTTP_TOKEN, which `ps` does not show")
    one.add_argument("--model", help="folder or hub name; with --http or --in-process")
    one.add_argument("--read-only", action="store_true", help="offer only what changes nothing")
    one.add_argument("--toolsets", help="offer only these, comma-separated: memory, agents, self, status")


def serve(home: str, given: argparse.Namespace) -> int:
    """`soul serve`: the plain form was taken by the bridge before this module was imported."""
    flags = {
        "http_host": given.host,
        "http_port": given.port,
        "http_token": given.token,
        "model": given.model,
        "read_only": given.read_only or None,
        "toolsets": given.toolsets,
    }
    if given.http or given.in_process:
        from server.daemon import run

        run(home, flags, foreground=True, http=given.http, stdio=given.in_process)
    daemons_own = [name for name in ("host", "port", "token", "model") if getattr(given, name) is not None]
    if daemons_own:
        raise SoulError(
            f"--{daemons_own[0]} belongs to the daemon, which all clients share.",
            f"Set it in {paths.display(str(Path(home) / 'config.toml'))}, or add --http or --in-process.",
        )
    from server.bridge import run as bridge
    from server.settings import read_toolsets

    return bridge(home, given.read_only, ",".join(read_toolsets(given.toolsets or "")))


def status(home: str, given: argparse.Namespace) -> int:
    """`soul status`: exit status 1 where no daemon runs."""
    try:
        daemon = call(home, "status", start=False)
    except Unavailable as error:
        if given.json:
            print_json({"running": False, "home": paths.display(home)})
            return 1
        return fail(error)
    survey = call(home, "survey", start=False)
    if given.json:
        print_json({"running": True, **daemon, "survey": survey})
        return 0
    up = time.time() - daemon["started"]
    OUT.print(
        f"soul {daemon['version']}, process {daemon['pid']}, up {up:,.0f} s, home {daemon['home']}", soft_wrap=True
    )
    if daemon["http"]:
        OUT.print(f"HTTP at {daemon['http']}")
    from tools.status import in_words

    for line in in_words(survey).splitlines()[1:]:
        OUT.print(line, markup=False, soft_wrap=True)
    rows = [(str(one["pid"] or ""), one["name"], f"{time.time() - one['since']:,.0f} s") for one in daemon["clients"]]
    if rows:
        OUT.print(table(("process", "client", "connected"), rows))
    else:
        OUT.print("no clients")
    return 0


def stop(home: str, given: argparse.Namespace) -> int:
    """`soul stop`: returns when the daemon has closed everything."""
    try:
        pid = call(home, "stop", start=False)["pid"]
    except Unavailable as error:
        if held(home):
            raise
        ERR.print(error.fact, markup=False)
        return 0
    patience = time.monotonic() + STOP_S
    while held(home):
        if time.monotonic() > patience:
            raise Unavailable(
                f"The daemon (process {pid}) did not leave in {STOP_S:.0f} seconds.", f"End it: kill {pid}"
            )
        time.sleep(0.02)
    OUT.print(f"stopped (process {pid})")
    return 0


def config(home: str, given: argparse.Namespace) -> int:
    """`soul config`."""
    from server.settings import load, shown

    rows = shown(load(home, {"home": None}))
    if given.json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin, _ in rows})
        return 0
    OUT.print(table(("setting", "value", "from", "meaning"), rows))
    pid = holder(home)
    if held(home) and pid is not None:
        OUT.print(f"The daemon (process {pid}) read its settings when it started; `soul stop` makes it read them anew.")
    return 0


def mcp_json(home: str, given: argparse.Namespace) -> int:
    """`soul mcp-json`: JSON on stdout, what to do with it on stderr."""
    script = paths.script()
    entry: dict[str, Any] = {"command": script, "args": ["serve"]}
    if home != paths.home_folder("~/.soul"):
        entry["env"] = {"SOUL_HOME": home}
    print_json({"mcpServers": {"soul": entry}})
    env = "".join(f" --env {shlex.quote(f'{name}={value}')}" for name, value in entry.get("env", {}).items())
    ERR.print(f"Claude Code:    claude mcp add soul{env} -- {shlex.quote(script)} serve", markup=False, soft_wrap=True)
    ERR.print(
        "Claude Desktop: put it into claude_desktop_config.json (Settings, Developer, Edit Config)", soft_wrap=True
    )
    return 0


def doctor(home: str, given: argparse.Namespace) -> int:
    """`soul doctor`."""
    from server.doctor import examine

    return examine(home, as_json=given.json)


def service(home: str, given: argparse.Namespace) -> int:
    """`soul service install|uninstall`."""
    from server.service import install, uninstall

    if given.action == "install":
        OUT.print(f"installed {install(home)}; the daemon now starts at login", markup=False, soft_wrap=True)
        return 0
    removed = uninstall(home)
    OUT.print(f"removed {removed}" if removed else "no service is installed", markup=False, soft_wrap=True)
    return 0


def version(home: str, given: argparse.Namespace) -> int:
    """`soul version`."""
    OUT.print(f"soul {VERSION}", highlight=False)
    return 0


def logs(home: str, given: argparse.Namespace) -> int:
    """`soul logs`."""
    path = Path(paths.logs_folder(home)) / "daemon.log"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-max(1, given.lines) :]
    except FileNotFoundError:
        raise Unavailable("There is no log yet.", "The daemon writes it from its first start.") from None
    for line in lines:
        OUT.print(line if given.json else _readable(line), markup=False, highlight=False, soft_wrap=True)
    return 0


def _readable(line: str) -> str:
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return line
    when, level = str(said.pop("timestamp", ""))[:19], str(said.pop("level", ""))
    event, logger = said.pop("event", ""), said.pop("logger", "")
    trace = said.pop("exception", "")
    rest = " ".join(f"{name}={value}" for name, value in said.items())
    return f"{when} {level:<7} {logger}: {event} {rest}".rstrip() + (f"\n{trace}" if trace else "")
