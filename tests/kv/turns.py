"""Turns of made-up ids through a real engine, for tests that compare what comes of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine.engine import Engine, EngineConfig, Finished, Sampling


@asynccontextmanager
async def opened(home: Path, model: Path, **how: Any) -> AsyncIterator[Engine]:
    """An engine over `model` that keeps its contexts below `home`."""
    async with Engine.open(EngineConfig(home, model=str(model), download=False, **how)) as engine:
        yield engine


async def say(engine: Engine, context: str, ids: Sequence[int], tokens: int = 8) -> Finished:
    """One turn: these ids, then a greedy reply. Starts the context when it is not there."""
    if not engine.exists(context):
        await engine.start(context, [])
    last: Finished | None = None
    async for event in engine.generate(context, ids, Sampling(max_tokens=tokens)):
        if isinstance(event, Finished):
            last = event
    assert last is not None
    return last


def prompt(seed: int, count: int) -> list[int]:
    """Ids of the seedling's vocabulary, no control tokens among them."""
    draw = random.Random(seed)
    return [draw.randrange(300, 4000) for _ in range(count)]


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
