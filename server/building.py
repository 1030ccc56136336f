"""How the parts of the house are opened: memory over the database, the model, the agents.

Knows the order and the imports; does not know who asks for the parts. Nothing heavy is imported here at the top:
libraries are imported on worker threads once the first client has its answer.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import structlog

from engine.errors import MissingExtra, SoulError
from server.settings import Settings
from tools.house import House, Part

if TYPE_CHECKING:
    from agents.agents import Agents
    from engine.engine import Engine
    from memory.embedder import Embedder
    from memory.memory import Memory

log = structlog.get_logger()

NEVER = float("inf")


async def hold(house: House, settings: Settings) -> None:
    """Opens all parts and holds them until cancelled; then closes them in reverse, the database last."""
    parts: list[tuple[Part[Any], Callable[[Part[Any]], AbstractAsyncContextManager[Any]]]] = [
        (house.memory, lambda part: open_memory(part, house, settings)),
        (house.engine, lambda part: open_engine(part, settings)),
        (house.agents, lambda part: open_agents(house, settings)),
    ]
    held: list[tuple[anyio.CancelScope, anyio.Event]] = []

    async def keep(part: Part[Any], opener: Callable[[Part[Any]], AbstractAsyncContextManager[Any]]) -> None:
        # Shielded, so that a stop reaches the parts one after the other and not all at once.
        scope, closed = anyio.CancelScope(shield=True), anyio.Event()
        held.append((scope, closed))
        try:
            with scope:
                await part.run(lambda part: _logged(part, opener))
        finally:
            closed.set()

    async with anyio.create_task_group() as tasks:
        for part, opener in parts:
            tasks.start_soon(keep, part, opener, name=f"part {part.name}")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for scope, closed in reversed(held):
                    scope.cancel()
                    await closed.wait()


@asynccontextmanager
async def _logged(
    part: Part[Any], opener: Callable[[Part[Any]], AbstractAsyncContextManager[Any]]
) -> AsyncGenerator[Any]:
    """The part, with its comings and goings in the log; an error goes on to the part, which shows it."""
    started = time.monotonic()
    try:
        async with opener(part) as value:
            log.info("part is ready", part=part.name, seconds=round(time.monotonic() - started, 3))
            yield value
    except SoulError as error:
        log.error("part failed", part=part.name, error=str(error))
        raise
    except Exception:
        log.exception("part failed", part=part.name)
        raise
    finally:
        log.info("part is closed", part=part.name)


@asynccontextmanager
async def open_memory(part: Part[Memory], house: House, settings: Settings) -> AsyncGenerator[Memory]:
    """The database, then the memory over it."""
    part.report("starting the database")
    await imported("asyncpg", "numpy", "memory.database", "memory.memory")
    from memory.database import Database, DatabaseConfig
    from memory.memory import Memory
    from memory.shapes import Weights
    from memory.sizes import Sizes

    sizes = Sizes(settings.self_tokens, settings.notebook_tokens)
    weights = Weights(
        semantic=settings.recall_semantic,
        neighbours=settings.recall_neighbours,
        borrowed=settings.recall_borrowed,
        session=settings.recall_session,
        resonance=settings.recall_resonance,
        recency=settings.recall_recency,
        speaker=settings.recall_speaker,
        date=settings.recall_date,
    )
    config = DatabaseConfig(home=settings.home, url=settings.database_url)
    async with Database.open(config, part.report) as database:
        part.report("loading the embedder")
        embedder = await anyio.to_thread.run_sync(_embedder)
        opening = Memory.open(
            *(database, embedder, house.allowed_roots, sizes),
            weights=weights,
            distinct=settings.recall_distinct,
            watching=settings.watch_corpora,
            file_mb=settings.corpus_file_mb,
        )
        async with opening as memory:
            yield memory


def _embedder() -> Embedder | None:
    """The default embedder, or None where it is not installed: memory then works by keyword alone."""
    from memory.embedder import default_embedder

    try:
        return default_embedder()
    except MissingExtra as missing:
        log.warning("no embedder", fact=missing.fact, remedy=missing.remedy)
        return None


@asynccontextmanager
async def open_engine(part: Part[Engine], settings: Settings) -> AsyncGenerator[Engine]:
    """The model. Loading and downloading report to the part."""
    part.report("importing")
    await imported("engine.engine", "evolution.generations")
    from engine.engine import Engine, EngineConfig
    from evolution.generations import Generations

    generation = Generations(settings.home).served(settings.model)
    config = EngineConfig(
        home=settings.home,
        model=str(generation) if generation is not None else settings.model,
        adapter=settings.adapter,
        download=settings.download,
        prefill_chunk=settings.prefill_chunk,
        context_tokens=settings.context_tokens,
        kv_format=settings.kv_format,
        hot_contexts=settings.hot_contexts,
        kv_disk_bytes=round(settings.kv_disk_gb * 1e9),
    )
    async with Engine.open(config, part.report) as engine:
        yield engine


@asynccontextmanager
async def open_agents(house: House, settings: Settings) -> AsyncGenerator[Agents]:
    """The agents, over memory; they ask for the model when they think, so orders and jobs work without one."""
    await imported("agents.agents", "tools.registry")
    from agents.agents import Agents
    from tools.registry import director_toolbox

    memory = await house.memory.get(NEVER)
    toolbox, roots = director_toolbox(house), house.allowed_roots
    opened = Agents.open(memory, house.engine.get, toolbox, house.home, roots, pressure=settings.pressure)
    async with opened as agents:
        yield agents


async def imported(*names: str) -> None:
    """Imports modules on a worker thread, one at a time, so that clients are answered meanwhile."""
    async with _importing:
        for name in names:
            await anyio.to_thread.run_sync(importlib.import_module, name, abandon_on_cancel=True)


_importing = anyio.Lock()
