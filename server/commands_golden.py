"""The commands on the golden log: what is worth learning from, by a person's word.

Importing this module registers the commands with `server.control`.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from engine.errors import InvalidInput
from server.commands import memory_of
from server.control import Command, command, plain

BY = "person"


@command("golden.list")
async def golden_list(given: Command) -> Any:
    """Weighs what was lived since, then the log; its accepted part is written to the file that a dream reads."""
    golden = (await memory_of(given)).golden
    proposed = await golden.propose()
    state = given.arguments.get("state")
    if state not in (None, "proposed", "accepted", "struck"):
        raise InvalidInput(f"{state!r} is no state.", "States are proposed, accepted and struck.")
    await golden.export(given.serving.house.home / "golden")
    return {"new": proposed, "exchanges": plain(await golden.list(state))}


@command("golden.show")
async def golden_show(given: Command) -> Any:
    """One exchange with the parts of its resonance."""
    return await (await memory_of(given)).golden.show(_id(given.text("id")))


@command("golden.decide")
async def golden_decide(given: Command) -> Any:
    """The person's word on exchanges: accepted or struck; the file is written anew."""
    golden = (await memory_of(given)).golden
    ids = [_id(str(one)) for one in cast("list[object]", given.arguments.get("ids") or [])]
    decided = await golden.decide(ids, "accepted" if given.arguments.get("accept") is True else "struck", BY)
    path = await golden.export(given.serving.house.home / "golden")
    return {"decided": plain(decided), "path": path, "accepted": len(await golden.list("accepted"))}


@command("golden.vectors")
async def golden_vectors(given: Command) -> Any:
    """What is proposed or accepted, with the vectors of the answers."""
    golden = (await memory_of(given)).golden
    await golden.propose()
    found = [one for one in await golden.list() if one.state != "struck"]
    vectors = await golden.vectors([one.answer for one in found])
    return [{**plain(one), "vector": vectors[one.answer]} for one in found if one.answer in vectors]


@command("feedback")
async def feedback(given: Command) -> Any:
    """A person's word on one memory."""
    id = _id(given.text("id"))
    await (await memory_of(given)).golden.feedback(id, given.arguments.get("good") is True, BY)
    return {"id": id}


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not the id of a memory.", "`soul golden list` shows ids.") from None
