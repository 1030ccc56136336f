"""Commands to the daemon that no MCP tool offers: stop, status, corpora with progress, the person's word on the self.

A connection whose hello names a `control` sends nothing else and gets JSON lines: any number of `{"progress": …}`,
then one `{"result": …}` or `{"error": {"fact", "remedy"}}`. Knows the commands; what is commanded is the house's.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import anyio
import structlog

from engine.errors import InvalidInput, NotFound, SoulError
from server import VERSION, paths
from server.wire import Hello, Wire

if TYPE_CHECKING:
    from server.serving import Serving
    from tools.house import Part

T = TypeVar("T")
log = structlog.get_logger()

STOP = "stop"

LOADING_S = 120.0
"""How long a command of a person waits for a part that is still loading."""


@dataclass(frozen=True)
class Command:
    """One command: its arguments, the daemon, and where progress goes."""

    serving: Serving
    arguments: dict[str, Any]
    progress: Callable[[str, float | None], Awaitable[None]]
    """(what is done now, fraction 0..1 or None)"""

    async def part(self, part: Part[T]) -> T:
        """A part of the house, waiting for it as long as a person would; says so while it is not there."""
        if part.peek() is None:
            await self.progress(f"{part.name}: {part.progress}", part.fraction)
        return await part.get(LOADING_S)

    def text(self, name: str) -> str:
        """A required argument; InvalidInput when it is missing."""
        value = self.arguments.get(name)
        if not isinstance(value, str) or not value:
            raise InvalidInput(f"This command needs `{name}`.", "See `soul --help`.")
        return value


Obey = Callable[[Command], Awaitable[Any]]
COMMANDS: dict[str, Obey] = {}


def command(name: str) -> Callable[[Obey], Obey]:
    """Registers a function as what the command `name` does. Its result must be JSON or dataclasses."""

    def register(obey: Obey) -> Obey:
        COMMANDS[name] = obey
        return obey

    return register


async def obey(serving: Serving, wire: Wire, said: Hello) -> None:
    """Carries one command out and answers it; a client that leaves meanwhile cancels it."""

    async def progress(detail: str, fraction: float | None) -> None:
        await wire.send_json({"progress": {"detail": detail, "fraction": fraction}})

    async def carry_out() -> None:
        try:
            await wire.send_json(await _answer(serving, said, progress))
        except anyio.BrokenResourceError:
            log.info("the one who commanded is gone", command=said.control)
        if said.control == STOP:
            serving.stop("soul stop")  # after the answer, which could not get out any more
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(carry_out)
        while await wire.receive() is not None:
            pass  # nothing more is expected; the end of the stream is what matters
        tasks.cancel_scope.cancel()


async def _answer(
    serving: Serving, said: Hello, progress: Callable[[str, float | None], Awaitable[None]]
) -> dict[str, Any]:
    for name in (
        "server.commands",
        "server.commands_agents",
        "server.commands_checks",
        "server.commands_evolution",
        "server.commands_exchange",
        "server.commands_golden",
        "server.commands_kv",
        "server.commands_plans",
        "server.commands_window",
    ):  # they register the commands on the parts of the house
        importlib.import_module(name)

    try:
        carry_out = COMMANDS.get(said.control)
        if carry_out is None:
            raise NotFound(f"There is no command `{said.control}`.", f"Commands: {', '.join(sorted(COMMANDS))}.")
        return {"result": plain(await carry_out(Command(serving, said.arguments, progress)))}
    except SoulError as error:
        return {"error": {"fact": error.fact, "remedy": error.remedy, "kind": type(error).__name__}}
    except Exception as error:
        log.exception("a command failed", command=said.control)
        return {"error": {"fact": f"{type(error).__name__}: {error}", "remedy": "See logs/daemon.log.", "kind": ""}}


def plain(value: Any) -> Any:
    """The value as JSON knows it: dataclasses become objects, times and ids become text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path | UUID):
        return str(value)
    return value


@command(STOP)
async def stop(given: Command) -> Any:
    """Makes the daemon leave; the caller waits for the lock to be free."""
    return {"pid": os.getpid()}


@command("status")
async def status(given: Command) -> Any:
    """What the daemon is, who is connected, and how far each part has come."""
    serving = given.serving
    house = serving.house
    return {
        "pid": os.getpid(),
        "version": VERSION,
        "home": paths.display(str(house.home)),
        "socket": paths.display(paths.socket_path(str(house.home))),
        "http": serving.http_url,
        "started": house.started,
        "clients": [asdict(one) for one in serving.presence.clients if not one.name.startswith("soul ")],
        "parts": {
            part.name: {"state": part.state, "progress": part.progress, "loaded_s": part.loaded_s}
            for part in (house.memory, house.engine, house.agents)
        },
    }
