"""A whole house for a test: real memory over the test's own database, a real engine with a parrot, real agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from mcp_types import CallToolResult, TextContent

from agents.agents import Agents
from agents.pressure import PRESSURE
from agents.turn import TurnLimits
from engine.engine import Engine, EngineConfig
from memory.database import Database
from memory.embedder import Embedder, default_embedder
from memory.memory import Memory
from tools.house import House, Part
from tools.registry import director_toolbox

Opener = Callable[[Part[Any]], AbstractAsyncContextManager[Any]]


@cache
def embedder() -> Embedder:
    return default_embedder()


@asynccontextmanager
async def open_house(
    home: Path,
    database: Database,
    model: Path | None,
    limits: TurnLimits | None = None,
    engine_opener: Opener | None = None,
    context_tokens: int | None = None,
    pressure: float = PRESSURE,
    roots: tuple[Path, ...] = (),
) -> AsyncIterator[House]:
    """The house, with all parts ready (but the engine's, when a test brings its own opener or no model)."""
    house = House(home, (home, *roots), version="test")
    # A parrot tells markers apart that stand side by side among thousands of tokens; keys of 8 bits do not keep that.
    config = EngineConfig(home, model=str(model), download=False, context_tokens=context_tokens, kv_format="exact")

    @asynccontextmanager
    async def memory(_part: Part[Any]) -> AsyncIterator[Memory]:
        async with Memory.open(database, embedder(), house.allowed_roots) as opened:
            yield opened

    @asynccontextmanager
    async def engine(part: Part[Any]) -> AsyncIterator[Engine]:
        async with Engine.open(config, part.report) as opened:
            yield opened

    @asynccontextmanager
    async def agents(_part: Part[Any]) -> AsyncIterator[Agents]:
        found = await house.memory.get()
        toolbox = director_toolbox(house)
        async with Agents.open(found, house.engine.get, toolbox, home, house.allowed_roots, limits, pressure) as opened:
            yield opened

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.memory.run, memory)
        tasks.start_soon(house.agents.run, agents)
        if model is not None or engine_opener is not None:
            tasks.start_soon(house.engine.run, engine_opener or engine)
        await house.agents.get(30)
        if engine_opener is None and model is not None:
            await house.engine.get(30)
        yield house
        tasks.cancel_scope.cancel()


def text(result: CallToolResult) -> str:
    """All words of a tool's result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))
