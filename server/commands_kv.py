"""The commands on the agents' working memory: what is kept, whether it is whole, and taking it elsewhere.

Importing this module registers the commands with `server.control`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.control import Command, command, plain

if TYPE_CHECKING:
    from engine.engine import Engine


async def _engine(given: Command) -> Engine:
    return await given.part(given.serving.house.engine)


@command("kv.list")
async def kv_list(given: Command) -> Any:
    """Every context, hot and on disk, and what the engine wrote since it started."""
    engine = await _engine(given)
    status = engine.status()
    return {
        "agents": plain(engine.store.list()),
        "strategy": status.kv_strategy,
        "written_bytes": status.kv_written_bytes,
        "prefill_tokens_per_s": status.prefill_tokens_per_s,
        "error": status.kv_error,
    }


@command("kv.verify")
async def kv_verify(given: Command) -> Any:
    """Reads everything and compares checksums."""
    engine = await _engine(given)
    name = given.arguments.get("agent")
    return plain(await engine.store.verify(str(name) if name else None))


@command("kv.drop")
async def kv_drop(given: Command) -> Any:
    """Forgets a context, in memory and on disk; an agent's window stays, and is computed again."""
    engine = await _engine(given)
    name = given.text("agent")
    engine.ids(name)
    await engine.drop(name)
    return {"dropped": name}


@command("kv.compact")
async def kv_compact(given: Command) -> Any:
    """Puts a context's block files into one."""
    engine = await _engine(given)
    before, after = await engine.store.compact(given.text("agent"))
    return {"before": before, "after": after}


@command("kv.export")
async def kv_export(given: Command) -> Any:
    """Copies a context into a new folder."""
    engine = await _engine(given)
    name = given.text("agent")
    engine.ids(name)
    await engine.saved(name)
    return {"bytes": await engine.store.export(name, Path(given.text("path")))}


@command("kv.import")
async def kv_import(given: Command) -> Any:
    """Takes in what an export made."""
    engine = await _engine(given)
    name = given.arguments.get("agent")
    return {"agent": await engine.store.adopt(Path(given.text("path")), str(name) if name else None)}
