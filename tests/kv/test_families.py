"""Every family of models resumes: in blocks where its caches can be cut, from turn ends where they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kv.families import FAMILIES, write
from tests.kv.turns import opened, prompt, say

pytestmark = pytest.mark.anyio

STRATEGIES = {
    "llama": "sealed blocks (k8v4-g32) in 3 layers",
    "qwen2": "sealed blocks (k8v4-g32) in 3 layers",
    "qwen3": "sealed blocks (k8v4-g32) in 3 layers",
    "mistral": "sealed blocks (k8v4-g32) in 3 layers",
    "sliding": "sealed blocks (k8v4-g32) in 1 layers, state at turn ends in 3 layers",
    "gemma3": "sealed blocks (k8v4-g32) in 2 layers, state at turn ends in 2 layers",
    "qwen3_next": "sealed blocks (k8v4-g32) in 2 layers, state at turn ends in 2 layers",
    "mamba2": "state at turn ends in 2 layers",
    "deepseek_v2": "sealed blocks (k8v4-g32) in 2 layers",
    "deepseek_v3": "exact blocks in 2 layers",
    "gpt_oss": "exact blocks in 1 layers, state at turn ends in 1 layers",
}
TURNS = [prompt(seed, count) for seed, count in enumerate((300, 40, 270, 5, 20))]


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_family_resumes_as_if_nothing_had_happened(family: str, tmp_path: Path, drawn_folder: Path) -> None:
    model = write(tmp_path / "model", family, drawn_folder)
    async with opened(tmp_path / "one", model, persist=False) as engine:
        assert engine.status().kv_strategy == STRATEGIES[family]
        wanted = [(await say(engine, "a", turn)).ids for turn in TURNS]
    said: list[tuple[int, ...]] = []
    read: list[int] = []
    for turn in TURNS:
        async with opened(tmp_path / "two", model) as engine:
            finished = await say(engine, "a", turn)
            said.append(finished.ids)
            read.append(finished.prompt_tokens - finished.cached_tokens)
            assert await engine.saved("a")
    assert said == wanted
    assert read[1:] == [len(turn) + 1 for turn in TURNS[1:]]


@pytest.mark.parametrize("family", ["sliding", "qwen3_next", "mamba2"])
async def test_a_cache_that_cannot_be_cut_goes_back_to_an_earlier_turns_end(
    family: str, tmp_path: Path, drawn_folder: Path
) -> None:
    model = write(tmp_path / "model", family, drawn_folder)
    async with opened(tmp_path / "two", model) as engine:
        first = await say(engine, "a", TURNS[0])
        assert await engine.saved("a")
        end = len(engine.ids("a"))
        await say(engine, "a", TURNS[1])
        assert await engine.saved("a")
        await engine.truncate("a", end)
        again = await say(engine, "a", TURNS[2])
        assert again.cached_tokens == end - 1
    async with opened(tmp_path / "one", model, persist=False) as engine:
        assert (await say(engine, "a", TURNS[0])).ids == first.ids
        assert (await say(engine, "a", TURNS[2])).ids == again.ids
