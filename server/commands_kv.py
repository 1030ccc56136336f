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


async def _holding(given: Command, name: str) -> Engine:
    """The engine that holds a context of that name; the first one where none does."""
    first = await _engine(given)
    return next((one for one in first.companions.engines if one.exists(name)), first)


@command("kv.list")
async def kv_list(given: Command) -> Any:
    """Every context, hot and on disk, and what the engine wrote since it started."""
    engine = await _engine(given)
    status = engine.status()
    rows = {(row.fingerprint, row.form, row.name): row for row in engine.store.list()}
    for other in engine.companions.engines[1:]:
        # The first one has only seen their files.
        of = (other.info.fingerprint, other.store.family.form.label)
        rows |= {(*of, row.name): row for row in other.store.list() if (row.fingerprint, row.form) == of}
    return {
        "agents": plain(list(rows.values())),
        "strategy": status.kv_strategy,
        "written_bytes": status.kv_written_bytes,
        "prefill_tokens_per_s": status.prefill_tokens_per_s,
        "error": status.kv_error,
    }


@command("kv.verify")
async def kv_verify(given: Command) -> Any:
    """Reads everything and compares checksums."""
    if name := given.arguments.get("agent"):
        return plain(await (await _holding(given, str(name))).store.verify(str(name)))
    return plain([fault for one in (await _engine(given)).companions.engines for fault in await one.store.verify()])


@command("kv.drop")
async def kv_drop(given: Command) -> Any:
    """Forgets a context, in memory and on disk; an agent's window stays, and is computed again."""
    name = given.text("agent")
    engine = await _holding(given, name)
    engine.ids(name)
    await engine.drop(name)
    return {"dropped": name}


@command("kv.compact")
async def kv_compact(given: Command) -> Any:
    """Puts a context's block files into one."""
    engine = await _holding(given, given.text("agent"))
    before, after = await engine.store.compact(given.text("agent"))
    return {"before": before, "after": after}


@command("kv.export")
async def kv_export(given: Command) -> Any:
    """Copies a context into a new folder."""
    name = given.text("agent")
    engine = await _holding(given, name)
    engine.ids(name)
    await engine.saved(name)
    return {"bytes": await engine.store.export(name, Path(given.text("path")))}


@command("kv.import")
async def kv_import(given: Command) -> Any:
    """Takes in what an export made."""
    engine = await _engine(given)
    name = given.arguments.get("agent")
    return {"agent": await engine.store.adopt(Path(given.text("path")), str(name) if name else None)}
