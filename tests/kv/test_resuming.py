"""A context that left memory or outlived its process goes on exactly as if nothing had happened."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from engine.backend import mx
from engine.engine import Engine, Sampling, Token
from engine.kv.saving import COMPACT_AT
from tests.kv.turns import files_below, opened, prompt, say

pytestmark = pytest.mark.anyio
FORMATS = ("k8v4", "q8", "exact")


async def evict(engine: Engine, context: str) -> None:
    """Frees the cache as the hot set does."""
    assert await engine.saved(context)
    found = engine._of(context)  # pyright: ignore[reportPrivateUsage]
    await engine._hot.change(found, found.drop_cache)  # pyright: ignore[reportPrivateUsage]


async def uninterrupted(home: Path, model: Path, turns: list[list[int]], kv: str) -> list[tuple[int, ...]]:
    async with opened(home, model, kv_format=kv, persist=False) as engine:
        return [(await say(engine, "a", turn)).ids for turn in turns]


TURNS = [prompt(seed, count) for seed, count in enumerate((700, 40, 255, 1, 3, 300, 90))]


@pytest.mark.parametrize("kv", FORMATS)
async def test_replies_after_eviction_are_those_of_an_uninterrupted_run(
    kv: str, tmp_path: Path, drawn_folder: Path
) -> None:
    wanted = await uninterrupted(tmp_path / "one", drawn_folder, TURNS, kv)
    said: list[tuple[int, ...]] = []
    async with opened(tmp_path / "two", drawn_folder, kv_format=kv) as engine:
        for turn in TURNS:
            finished = await say(engine, "a", turn)
            said.append(finished.ids)
            await evict(engine, "a")
    assert said == wanted


@pytest.mark.parametrize("kv", FORMATS)
async def test_replies_after_a_restart_are_those_of_an_uninterrupted_run(
    kv: str, tmp_path: Path, drawn_folder: Path
) -> None:
    wanted = await uninterrupted(tmp_path / "one", drawn_folder, TURNS, kv)
    said: list[tuple[int, ...]] = []
    read: list[int] = []
    for turn in TURNS:
        async with opened(tmp_path / "two", drawn_folder, kv_format=kv) as engine:
            finished = await say(engine, "a", turn)
            said.append(finished.ids)
            read.append(finished.prompt_tokens - finished.cached_tokens)
    assert said == wanted
    # Only the new turn is computed, and the last token of the reply before it.
    assert read[1:] == [len(turn) + 1 for turn in TURNS[1:]]


async def test_five_contexts_with_three_hot_keep_apart(tmp_path: Path, drawn_folder: Path) -> None:
    draw = random.Random(3)
    plan = [(draw.choice("abcde"), prompt(n, draw.choice((5, 60, 260)))) for n in range(25)]
    wanted: list[tuple[int, ...]] = []
    async with opened(tmp_path / "one", drawn_folder, persist=False, hot_contexts=9) as engine:
        for name, turn in plan:
            wanted.append((await say(engine, name, turn, 4)).ids)
    said: list[tuple[int, ...]] = []
    async with opened(tmp_path / "two", drawn_folder, hot_contexts=3) as engine:
        for name, turn in plan:
            said.append((await say(engine, name, turn, 4)).ids)
            assert await engine.saved(name)
            hot = [one for one in engine.status().contexts if one.kv_bytes]
            assert len(hot) <= 3
    assert said == wanted


async def test_what_is_unpacked_for_a_reply_is_let_go_with_it(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder, persist=False) as engine:
        await say(engine, "b", prompt(1, 20))
        before = mx.get_active_memory() - engine.kv_bytes
        await say(engine, "a", prompt(2, 3_000))
        # In float32 the sealed blocks of 3,000 tokens are five times what they are packed.
        assert mx.get_active_memory() - before < 1.3 * engine.kv_bytes


async def test_a_context_whose_cache_is_just_being_freed_is_waited_for(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 20))
        async with anyio.create_task_group() as group:
            group.start_soon(evict, engine, "a")
            while not engine.status().contexts[0].running:
                await anyio.lowlevel.checkpoint()
            await say(engine, "a", prompt(2, 20))


async def test_a_context_cut_back_behind_its_save_goes_on_from_what_is_still_true(
    tmp_path: Path, drawn_folder: Path
) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 900))
        assert await engine.saved("a")
    async with opened(tmp_path, drawn_folder) as engine:
        await engine.truncate("a", 600)
        finished = await say(engine, "a", prompt(2, 10))
        assert finished.cached_tokens == 512
        assert await engine.saved("a")
        ids = engine.ids("a")
    async with opened(tmp_path, drawn_folder) as engine:
        assert engine.ids("a") == ids
        assert list(ids[:610]) == prompt(1, 900)[:600] + prompt(2, 10)
        assert (await say(engine, "a", prompt(3, 5))).cached_tokens == len(ids) - 1


async def test_a_prefix_that_contexts_share_is_computed_and_stored_once(tmp_path: Path, drawn_folder: Path) -> None:
    opening = prompt(9, 800)
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", opening + prompt(10, 30))
        assert await engine.saved("a")
        written = engine.status().kv_written_bytes
        second = await say(engine, "b", opening + prompt(11, 30))
        assert second.cached_tokens == 768
        assert await engine.saved("b")
        # The second one writes its tail and its account; no block file.
        assert len(list(engine.store.shelf.pool.iterdir())) == 1  # type: ignore[union-attr]
        assert engine.status().kv_written_bytes - written < written
        shared = {one.name: one.shared_tokens for one in engine.status().contexts}
        assert shared == {"a": 768, "b": 768}
    async with opened(tmp_path, drawn_folder) as engine:
        assert (await say(engine, "c", opening + prompt(12, 30))).cached_tokens == 768
        await engine.drop("a")
        assert (await say(engine, "b", prompt(13, 3))).cached_tokens == len(opening) + 30 + 8 - 1


async def test_a_turn_writes_what_is_new_and_the_tail(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 2000))
        assert await engine.saved("a")
        before = engine.status()
        await say(engine, "a", prompt(2, 512), 1)
        assert await engine.saved("a")
        after = engine.status()
        blocks = 6 * 2 * 64 * 256 * 13 // 8  # per block of 256 tokens: 6 layers, 2 heads of 64, 1 + 1/2 + 1/8 bytes
        tail = 6 * 2 * 2 * 64 * 4 * 256
        assert after.kv_written_bytes - before.kv_written_bytes < 1.2 * (2 * blocks + tail)


async def test_many_small_saves_are_put_into_one_file_and_nothing_changes(tmp_path: Path, drawn_folder: Path) -> None:
    turns = [prompt(seed, 250) for seed in range(14)]
    wanted = await uninterrupted(tmp_path / "one", drawn_folder, turns, "k8v4")
    said: list[tuple[int, ...]] = []
    async with opened(tmp_path / "two", drawn_folder) as engine:
        for turn in turns:
            said.append((await say(engine, "a", turn)).ids)
            await evict(engine, "a")
        shelf = engine.store.shelf
        assert shelf is not None
        with anyio.fail_after(60):
            # They are put together, and the small ones removed, when nothing else is due.
            while len(list(shelf.pool.iterdir())) >= 12:  # noqa: ASYNC110 (nobody tells when)
                await anyio.sleep(0.01)
        assert not await engine.store.verify()  # behind what is still being removed
    assert said == wanted


async def test_the_small_files_go_although_the_context_is_in_use(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        shelf = engine.store.shelf
        assert shelf is not None
        for seed in range(COMPACT_AT):
            await say(engine, "a", prompt(seed, 256 if seed else 300))
            assert await engine.saved("a")
        with anyio.fail_after(60):
            while len(list(shelf.pool.iterdir())) > 1:  # noqa: ASYNC110 (nobody tells when)
                await anyio.sleep(0.01)
        await say(engine, "a", prompt(99, 300))
        assert await engine.saved("a")
        assert not await engine.store.verify()  # behind what is still being removed


async def test_what_was_loaded_before_a_compaction_is_saved_with_the_file_that_it_made(
    tmp_path: Path, drawn_folder: Path
) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        for seed in range(3):
            await say(engine, "a", prompt(seed, 300))
            assert await engine.saved("a")
        context = engine.store.contexts["a"]
        small = list(context.refs)
        context.refs = []  # as while the loader reads
        assert await engine.store.compact("a") == (len(small), 1)
        context.refs = small  # as what the loader found before is attached only now
        await say(engine, "a", prompt(9, 300))
        assert await engine.saved("a")
        assert not await engine.store.verify()
        tokens = context.cached
    async with opened(tmp_path, drawn_folder) as engine:
        assert (await say(engine, "a", prompt(10, 3))).cached_tokens == tokens


async def test_blocks_that_vanish_under_a_context_in_memory_are_written_again(
    tmp_path: Path, drawn_folder: Path
) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 600))
        assert await engine.saved("a")
        shelf = engine.store.shelf
        assert shelf is not None
        for path in shelf.pool.iterdir():
            path.unlink()
        await say(engine, "a", prompt(2, 300))
        assert await engine.saved("a")
        assert not await engine.store.verify()


async def test_a_prefix_is_shared_from_the_file_that_a_compaction_made(tmp_path: Path, drawn_folder: Path) -> None:
    opening = prompt(1, 600)
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", opening)
        assert await engine.saved("a")
        await say(engine, "a", prompt(2, 300))
        assert await engine.saved("a")
        await engine.store.compact("a")
        await evict(engine, "a")
        assert (await say(engine, "b", opening + prompt(3, 3))).cached_tokens == 512


async def test_a_dropped_context_leaves_nothing_on_disk(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a/../../b c", prompt(1, 300))
        assert await engine.saved("a/../../b c")
        assert {path.parent.name for path in files_below(tmp_path) if path.name == "ids.log"} == {
            "a%2F%2E%2E%2F%2E%2E%2Fb c"
        }
        await engine.drop("a/../../b c")
        assert not files_below(tmp_path / "kv")


async def test_a_side_context_never_reaches_the_disk(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await engine.start("aside", [], lasting=False)
        await say(engine, "aside", prompt(1, 300))
        assert engine.status().kv_written_bytes == 0
    async with opened(tmp_path, drawn_folder) as engine:
        assert not engine.exists("aside")


async def test_the_disk_limit_drops_the_longest_unused_and_none_in_use(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder, hot_contexts=1, kv_disk_bytes=3_000_000) as engine:
        for name in "abc":
            await say(engine, name, prompt(ord(name), 600))
            assert await engine.saved(name)
            await engine.store._writer.call(lambda: None)  # pyright: ignore[reportPrivateUsage]
        assert engine.exists("c") and not engine.exists("a")
    async with opened(tmp_path, drawn_folder) as engine:
        assert engine.exists("c") and not engine.exists("a")


async def test_caches_of_other_weights_count_for_the_disk_limit(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder, kv_format="exact") as engine:
        await say(engine, "old", prompt(1, 600))
        assert await engine.saved("old")
    async with opened(tmp_path, drawn_folder, kv_disk_bytes=3_000_000) as engine:
        assert not engine.exists("old")
        assert {one.name for one in engine.store.list()} == {"old"}
        await say(engine, "new", prompt(1, 600))
        assert await engine.saved("new")
        await engine.store._writer.call(lambda: None)  # pyright: ignore[reportPrivateUsage]
        assert {one.name for one in engine.store.list()} == {"new"}


async def test_a_log_that_vanished_is_written_anew(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 300))
        assert await engine.saved("a")
        for path in files_below(tmp_path / "kv"):
            path.unlink()
        await say(engine, "a", prompt(2, 300))
        assert await engine.saved("a")
        ids = engine.ids("a")
    async with opened(tmp_path, drawn_folder) as engine:
        assert engine.ids("a") == ids
        await say(engine, "a", prompt(3, 20))


async def test_contexts_with_long_names_keep_apart(tmp_path: Path, drawn_folder: Path) -> None:
    names = ["ä" * 300 + end for end in "xy"]
    async with opened(tmp_path, drawn_folder) as engine:
        for name in names:
            await say(engine, name, prompt(len(name) + ord(name[-1]), 30))
            assert await engine.saved(name)
        wanted = [engine.ids(name) for name in names]
    async with opened(tmp_path, drawn_folder) as engine:
        assert [engine.ids(name) for name in names] == wanted


async def test_a_prefix_is_shared_from_memory_while_its_owner_is_at_work(tmp_path: Path, drawn_folder: Path) -> None:
    opening = prompt(9, 800)
    async with opened(tmp_path, drawn_folder, persist=False) as engine:
        await engine.start("a", [])
        events = engine.generate("a", [*opening, 500], Sampling(max_tokens=200))
        async for event in events:
            if isinstance(event, Token):
                break
        shared = await say(engine, "b", [*opening, 600])
        await events.aclose()
        assert shared.cached_tokens == 768
        await engine.start("c", [])
        alone = await say(engine, "c", [*opening, 600])
        assert alone.ids == shared.ids


async def test_a_context_can_be_cancelled_while_it_is_loaded(tmp_path: Path, drawn_folder: Path) -> None:
    async with opened(tmp_path, drawn_folder) as engine:
        await say(engine, "a", prompt(1, 300))
        assert await engine.saved("a")
    async with opened(tmp_path, drawn_folder) as engine:
        gate = threading.Event()
        engine.store._loader.post(gate.wait)  # pyright: ignore[reportPrivateUsage]
        reasons: list[str] = []

        async def turn() -> None:
            reasons.append((await say(engine, "a", prompt(2, 20))).reason)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            while not engine.status().running:
                await anyio.lowlevel.checkpoint()
            assert engine.cancel("a")
            gate.set()
        assert reasons == ["cancelled"]
        assert (await say(engine, "a", prompt(3, 5))).reason == "length"


@pytest.mark.parametrize("kv", ["k8v4", "exact"])
async def test_a_context_that_ends_with_a_full_block_comes_back_sealed(
    kv: str, tmp_path: Path, drawn_folder: Path
) -> None:
    turns = [prompt(1, 505), prompt(2, 30), prompt(3, 1)]
    wanted = await uninterrupted(tmp_path / "one", drawn_folder, turns, kv)
    said: list[tuple[int, ...]] = []
    for turn in turns:
        async with opened(tmp_path / "two", drawn_folder, kv_format=kv) as engine:
            finished = await say(engine, "a", turn)
            said.append(finished.ids)
            # Eight were drawn, the last of which is not computed.
            assert finished.cached_tokens == finished.prompt_tokens - len(turn) - 1 or len(said) == 1
    assert len(turns[0]) + 8 - 1 == 512
    assert said == wanted
