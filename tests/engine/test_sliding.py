"""Models whose layers look back over a window only: their caches cannot be cut, and the truth survives that."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.engine import Engine, EngineConfig
from tests.engine.oracle import mean_logprob
from tests.engine.test_generation import fresh, say

pytestmark = pytest.mark.anyio

PROMPT = tuple(range(100, 220))


@pytest.fixture
def sliding_folder(drawn_folder: Path, tmp_path: Path) -> Path:
    """The seedling's weights under a config in which two of three layers see 32 tokens back."""
    folder = tmp_path / "sliding"
    shutil.copytree(drawn_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"sliding_window": 32, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
async def engine(sliding_folder: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine.open(EngineConfig(tmp_path, model=str(sliding_folder), prefill_chunk=64)) as opened:
        yield opened


async def test_a_second_turn_goes_on_from_the_cache(engine: Engine) -> None:
    await engine.start("a", [])
    first = await say(engine, "a", PROMPT)
    second = await say(engine, "a", [7, 8])
    assert second.cached_tokens == len(PROMPT) + len(first.ids) - 1


async def test_truncating_computes_anew_and_is_right(engine: Engine) -> None:
    await engine.start("a", [])
    await say(engine, "a", PROMPT)
    await engine.truncate("a", 60)
    end = await say(engine, "a", [7])
    assert end.cached_tokens == 0
    assert end.ids == await fresh(engine, "b", [*PROMPT[:60], 7])


async def test_choosing_leaves_a_cache_that_cannot_be_cut_untouched(engine: Engine, sliding_folder: Path) -> None:
    await engine.start("a", [])
    drawn = (await say(engine, "a", PROMPT)).ids
    before = engine.status().contexts[0].cached_tokens
    chosen = await engine.choose("a", [9], [[500], [501, 502]])
    ids = [*PROMPT, *drawn, 9]
    favourite = mean_logprob(sliding_folder, ids, [500]) > mean_logprob(sliding_folder, ids, [501, 502])
    assert (chosen[0] > chosen[1]) is favourite
    assert engine.status().contexts[0].cached_tokens == before
    assert (await say(engine, "a", [7])).cached_tokens == before
