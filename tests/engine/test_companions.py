"""Several models at once: one thread, one memory; each answers in its turn, keeps its caches, and leaves when idle."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import anyio
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.budget import Budget
from engine.companions import Wish
from engine.engine import Engine, Finished, Sampling, Token
from engine.errors import OverBudget
from tests.kv.turns import opened, prompt, say

pytestmark = pytest.mark.anyio

OS = 2 * 10**9
"""What the budget leaves to the OS on a machine as small as these tests say it is."""


def noisy(model: Path, folder: Path, seed: int) -> Path:
    """A model like `model`, with other weights, named like its folder."""
    shutil.copytree(model, folder)
    path, draw = folder / "model.safetensors", np.random.default_rng(seed)
    weights = load_file(path)
    for name, one in weights.items():
        weights[name] = (one + draw.normal(0, 0.3 * one.std(), one.shape)).astype(one.dtype)
    save_file(weights, path, metadata={"format": "mlx"})
    (folder / "soul.json").write_text(json.dumps({"name": folder.name}))
    return folder


@pytest.fixture(scope="session")
def sibling_folder(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy(drawn_folder, tmp_path_factory.mktemp("sibling") / "sibling", 1)


async def test_two_models_answer_interleaved_each_as_if_it_were_alone(
    tmp_path: Path, drawn_folder: Path, sibling_folder: Path
) -> None:
    alone: dict[str, tuple[int, ...]] = {}
    for name, folder in (("seedling", drawn_folder), ("sibling", sibling_folder)):
        async with opened(tmp_path / "alone", folder) as engine:
            alone[name] = (await say(engine, name, prompt(1, 300), 24)).ids
    assert alone["seedling"] != alone["sibling"]
    said: list[str] = []
    together: dict[str, tuple[int, ...]] = {}
    async with opened(tmp_path / "both", drawn_folder) as first:
        other = await first.companions.get(Wish(str(sibling_folder)))
        assert other is await first.companions.get(Wish("sibling")), "found by its name, loaded once"

        async def talk(engine: Engine, name: str) -> None:
            await engine.start(name, [])
            async for event in engine.generate(name, prompt(1, 300), Sampling(max_tokens=24)):
                if isinstance(event, Token):
                    said.append(name)
                if isinstance(event, Finished):
                    together[name] = event.ids

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk, first, "seedling")
            tasks.start_soon(talk, other, "sibling")
        assert await first.saved("seedling") and await other.saved("sibling")
    assert together == alone
    turns = sum(one != following for one, following in pairwise(said))
    assert turns > 30, "token by token, and not one after the other"

    async with opened(tmp_path / "both", drawn_folder) as first:
        other = await first.companions.get(Wish(str(sibling_folder)))
        for engine, name in ((first, "seedling"), (other, "sibling")):
            again = await say(engine, name, [7])
            assert engine.ids(name)[:300] == tuple(prompt(1, 300))
            assert again.cached_tokens >= 323, "both come back from disk"
        assert not other.exists("seedling")


async def test_two_forms_of_cache_share_the_weights(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as first:
        exact = await first.companions.get(Wish(kv_format="exact"))
        assert [one.status().kv_form for one in (first, exact)] == ["k8v4-g64", "exact"]
        assert exact is not first
        assert exact.chat is first.chat
        assert first.companions.beside(first) == 0, "weights count once"
        assert await first.companions.get(Wish(kv_format="k8v4")) is first
        assert await first.companions.get(Wish(first.info.name)) is first
        await say(exact, "a", prompt(2, 300))
        assert first.companions.beside(first) == exact.kv_bytes > 0


async def test_the_third_model_makes_the_idle_one_leave_and_is_refused_while_it_is_held(
    tmp_path: Path, drawn_folder: Path, sibling_folder: Path
) -> None:
    third = noisy(drawn_folder, tmp_path / "third", 2)
    budget = Budget.of(drawn_folder, 10**10, float32=True)
    memory = OS + budget.weight_bytes + budget.needed(2048, "k8v4") + 1_000_000
    async with opened(tmp_path, drawn_folder, memory_bytes=memory) as first:
        other = await first.companions.get(Wish(str(sibling_folder)))
        before = (await say(other, "a", prompt(3, 300))).ids
        network = weakref.ref(other._model.network)  # pyright: ignore[reportPrivateUsage]
        with ExitStack() as stack:
            stack.enter_context(other.held())
            with pytest.raises(OverBudget, match=r"third needs 0\.2\d GB.*at work now.*Ask again when"):
                await first.companions.get(Wish(str(third)))
            assert len(first.companions.engines) == 2
        spoken = await first.companions.get(Wish(str(third)))
        assert [one.info.name for one in first.companions.engines] == [first.info.name, "third"]
        gc.collect()
        assert network() is None, "its weights are gone"
        assert len((await say(spoken, "b", prompt(4, 20))).ids) == 8
        again = await first.companions.get(Wish(str(sibling_folder)))
        assert (await say(again, "a", [7])).cached_tokens >= 307, "what it had computed waited on disk"
        assert again.ids("a")[300 : 300 + len(before)] == before


async def test_a_model_that_can_never_fit_beside_the_first_is_refused_with_the_figures(
    tmp_path: Path, drawn_folder: Path, sibling_folder: Path
) -> None:
    memory = OS + Budget.of(drawn_folder, 10**10, float32=True).needed(2048, "k8v4") + 1_000_000
    async with opened(tmp_path, drawn_folder, memory_bytes=memory) as first:
        with pytest.raises(OverBudget, match=r"sibling needs .* are usable, of which .* for good.*leave `model` out"):
            await first.companions.get(Wish(str(sibling_folder)))


async def test_idle_caches_of_one_model_make_room_for_another(
    tmp_path: Path, drawn_folder: Path, sibling_folder: Path
) -> None:
    async with opened(tmp_path, drawn_folder, kv_format="exact", context_tokens=2048) as first:
        other = await first.companions.get(Wish(str(sibling_folder)))
        await say(first, "old", prompt(4, 600))
        # 6,144 bytes per token: room for the weights and some 1,000 tokens.
        for engine in (first, other):
            engine._admission.memory_bytes = OS + first.info.bytes * 2 + 6_300_000  # pyright: ignore[reportPrivateUsage]
        await say(other, "new", prompt(5, 600))
        assert {one.name: one.cached_tokens for one in first.status().contexts} == {"old": 0}
        assert (await say(first, "old", [7])).cached_tokens >= 600, "back from disk"
