"""Several contexts that decode at once share each pass over the weights, and none hears of the others."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from engine.engine import Engine, Finished, Sampling
from tests.kv.turns import opened, prompt, say

pytestmark = pytest.mark.anyio
LENGTHS = {"a": 40, "b": 300, "c": 515, "d": 1}


@pytest.mark.parametrize("kv", ["k8v4", "q8", "exact"])
async def test_joining_and_leaving_changes_no_others_tokens(kv: str, tmp_path: Path, drawn_folder: Path) -> None:
    counts = {"a": 60, "b": 20, "c": 45, "d": 8}
    alone: dict[str, tuple[int, ...]] = {}
    async with opened(tmp_path / "one", drawn_folder, kv_format=kv, persist=False) as engine:
        for name, count in LENGTHS.items():
            alone[name] = (await say(engine, name, prompt(count, count), counts[name])).ids
    together: dict[str, tuple[int, ...]] = {}
    async with opened(tmp_path / "two", drawn_folder, kv_format=kv) as engine:

        async def one(engine: Engine, name: str, after: int) -> None:
            # The others are let go ahead by some tokens, so that contexts join in the middle.
            for _ in range(after):
                await anyio.lowlevel.checkpoint()
            count = LENGTHS[name]
            await engine.start(name, [])
            async for event in engine.generate(name, prompt(count, count), Sampling(max_tokens=counts[name])):
                if isinstance(event, Finished):
                    together[name] = event.ids

        async with anyio.create_task_group() as tasks:
            for place, name in enumerate(LENGTHS):
                tasks.start_soon(one, engine, name, 5 * place)
        for name in LENGTHS:
            assert await engine.saved(name)
    assert together == alone
    async with opened(tmp_path / "two", drawn_folder, kv_format=kv) as engine:
        for name, count in LENGTHS.items():
            assert engine.ids(name) == (*prompt(count, count), *alone[name])
