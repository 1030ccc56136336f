"""The commands that carry memories out of this Soul and into it: only a person at the keyboard gives them.

Importing this module registers the commands with `server.control`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from server.commands import memory_of, time_of
from server.control import Command, command

if TYPE_CHECKING:
    from memory.packets import Kind


@command("memory.export")
async def memory_export(given: Command) -> Any:
    """Writes packets to a file that does not exist yet."""
    memory = await memory_of(given)
    from memory.exchange import Selection

    selection = Selection(
        since=time_of(given.arguments.get("since")),
        until=time_of(given.arguments.get("until")),
        kinds=cast("tuple[Kind, ...]", tuple(map(str, given.arguments.get("kinds") or ()))),
        agent=given.arguments.get("agent") or None,
        vectors=given.arguments.get("vectors") is True,
    )
    return await memory.exchange.export(Path(given.text("path")), selection, given.progress)


@command("memory.import")
async def memory_import(given: Command) -> Any:
    """Takes the packets of a file in; all of it is checked first."""
    memory = await memory_of(given)
    return await memory.exchange.bring_in(Path(given.text("path")), given.progress)
