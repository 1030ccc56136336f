"""The commands on what the Director sees and what is forgotten: only a person at the keyboard gives them.

Importing this module registers the commands with `server.control`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import anyio.to_thread

from engine.errors import InvalidInput, SoulError, StillLoading
from engine.kv.removing import remove_shelves
from server.commands import memory_of
from server.control import Command, command, plain

if TYPE_CHECKING:
    from agents.agents import Agents
    from agents.pressure import Flushed
    from agents.turn import Progress
    from memory.forgetting import Wish

BY = "person"


async def _agents(given: Command, *, thinking: bool) -> Agents:
    """The agents, with their model loaded where they are going to think."""
    house = given.serving.house
    agents = await given.part(house.agents)
    if thinking:
        await given.part(house.engine)
    return agents


@command("window.show")
async def window_show(given: Command) -> Any:
    """What the Director sees, sector by sector, and its latest flush."""
    director = (await _agents(given, thinking=True)).director
    return {**plain(await director.view()), "flush": plain(await director.last_flush())}


@command("window.flush")
async def window_flush(given: Command) -> Any:
    """Lets go of the window now; each step is told."""
    director = (await _agents(given, thinking=True)).director
    # A rewrite draws hundreds of tokens and a person reads a few lines: what cannot be sent at once is left out.
    send, receive = anyio.create_memory_object_stream[str](8)

    def report(progress: Progress) -> None:
        tokens = f", {progress.tokens} tokens" if progress.tokens else ""
        try:
            send.send_nowait(progress.stage + tokens)
        except anyio.WouldBlock:
            return

    async def tell() -> None:
        async for stage in receive:
            await given.progress(stage, None)

    # Caught inside, since a task group would wrap it.
    outcome: Flushed | SoulError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        with send:
            try:
                outcome = await director.flush(report)
            except SoulError as error:
                outcome = error
    if isinstance(outcome, SoulError):
        raise outcome
    assert outcome is not None
    return {**plain(outcome), "words": outcome.words}


@command("forget.plan")
async def forget_plan(given: Command) -> Any:
    """What would be forgotten; changes nothing."""
    wish = _wish(given)
    memory = await memory_of(given)
    return await memory.forgetting.plan(wish)


@command("forget.carry_out")
async def forget_carry_out(given: Command) -> Any:
    """Forgets, completely and for good; with `scrub` the old bytes go, too."""
    wish = _wish(given)
    agents = await _agents(given, thinking=False)
    house = given.serving.house
    try:
        kept = (await given.part(house.engine)).store.shelf is not None
    except StillLoading:
        raise  # nothing was changed yet
    except SoulError:
        kept = False
    if not kept:
        # No model, or one that keeps nothing: what others left on disk is computed again when it is needed.
        await anyio.to_thread.run_sync(remove_shelves, house.home / "kv")
    plan = await agents.director.forget(wish, BY, str(given.arguments.get("reason") or "the person's wish"))
    agents.household.reload()
    await (await memory_of(given)).golden.export(house.home / "golden")
    if not given.arguments.get("scrub"):
        return plan
    await given.progress("taking the old bytes off the disk", None)
    memory = await memory_of(given)
    return {**plain(plan), "scrubbed": await memory.forgetting.scrub(plan)}


def _wish(given: Command) -> Wish:
    from memory.forgetting import Wish

    ids: list[UUID] = []
    for text in given.arguments.get("ids") or ():
        try:
            ids.append(UUID(str(text)))
        except ValueError:
            raise InvalidInput(f"{text!r} is not the id of a memory.", "`soul recall` shows ids.") from None
    texts = {name: str(given.arguments.get(name) or "") for name in ("query", "corpus")}
    return Wish(tuple(ids), **texts)
