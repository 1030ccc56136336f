"""The command that lets a running daemon go over to another generation.

Importing this module registers it with `server.control`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio

from server.control import LOADING_S, Command, command

if TYPE_CHECKING:
    from engine.engine import Engine
    from tools.house import House

LOOK_S = 0.01
"""Between two looks whether the engine is idle."""


@command("generation.switch")
async def generation_switch(given: Command) -> Any:
    """Loads what is in force now."""
    loaded = await go_over(given.serving.house, given.progress)
    return {"model": loaded.info.name, "fingerprint": loaded.info.fingerprint}


async def go_over(house: House, progress: Callable[[str, float | None], Awaitable[None]]) -> Engine:
    """Exchanges the model: turns that run end on the old weights, those that wait begin on the new ones."""
    agents = house.agents.peek()
    async with AsyncExitStack() as stack:
        if agents is not None:
            await progress("waiting for the turns that run", None)
            await stack.enter_async_context(agents.resting())
        # Reviews and choices run beside the turns, and nothing tells when the last of them has ended.
        while (engine := house.engine.peek()) is not None and engine.status().running:  # noqa: ASYNC110
            await anyio.sleep(LOOK_S)
        house.engine.reopen()
        await progress("loading", None)
        loaded = await house.engine.get(LOADING_S)
    if agents is not None:
        agents.reread()
    return loaded
