"""Through the engine with small random models: first tokens, exactness, decoding together, peak memory, damage."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import numpy as np
import xxhash

from bench.kv.timing import spread
from engine.contexts import Context
from engine.engine import Engine, EngineConfig, Finished, Sampling, Token
from engine.kv.form import KvChoice
from engine.kv.saving import extract

PATIENCE = 60.0
"""Seconds that computing a context of one length again may take in all, once there are three rounds."""
FORMATS: tuple[KvChoice, ...] = ("k8v4", "q8", "exact")


def config(home: Path, model: Path, **how: Any) -> EngineConfig:
    return EngineConfig(home, model=str(model), download=False, **how)


def prompt(seed: int, count: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(300, 4000) for _ in range(count)]


async def say(engine: Engine, context: str, ids: Sequence[int], tokens: int) -> tuple[Finished, float]:
    """One greedy turn; what came of it, and the seconds to its first token."""
    if not engine.exists(context):
        await engine.start(context, [])
    began, first = time.perf_counter(), 0.0
    async for event in engine.generate(context, ids, Sampling(max_tokens=tokens)):
        if isinstance(event, Token) and not first:
            first = time.perf_counter() - began
        if isinstance(event, Finished):
            return event, first or time.perf_counter() - began
    raise AssertionError("no end")


async def cool(engine: Engine, name: str) -> None:
    """Takes a context out of memory, as the hot set does."""
    await engine.saved(name)
    context = engine._of(name)  # pyright: ignore[reportPrivateUsage]
    await engine._hot.change(context, context.drop_cache)  # pyright: ignore[reportPrivateUsage]


async def first_tokens(model: Path, lengths: Sequence[int], rounds: int, home: Path) -> list[dict[str, Any]]:
    """TTFT of a turn of 32 tokens behind a context of each length: resumed from disk, hot, and all computed again.

    The floor is a raw read of the files and a hot turn. Where computing again takes minutes, it has fewer rounds.
    """
    rows: list[dict[str, Any]] = []
    async with Engine.open(config(home, model)) as engine:
        for length in lengths:
            name = f"context {length}"
            await say(engine, name, prompt(length, length), 1)
            await engine.saved(name)
            base = len(engine.ids(name))
            times: dict[str, list[float]] = {"resumed_s": [], "hot_s": [], "raw_floor_s": [], "computed_again_s": []}
            shelf = engine.store.shelf
            assert shelf is not None
            for n in range(rounds):
                manifest = shelf.manifest(name)
                assert manifest is not None
                files = [shelf.pool / ref.file for ref in manifest.blocks]
                files += [shelf.home_of(name) / tail.file for tail in manifest.tails]
                await cool(engine, name)
                began = time.perf_counter()
                for path in files:
                    buffer = bytearray(path.stat().st_size)
                    with path.open("rb", buffering=0) as file:
                        file.readinto(buffer)
                read_s = time.perf_counter() - began
                finished, ttft = await say(engine, name, prompt(n, 32), 1)
                assert finished.cached_tokens >= base - 1
                times["resumed_s"].append(ttft)
                await engine.truncate(name, base)
                _, again = await say(engine, name, prompt(n, 32), 1)
                times["hot_s"].append(again)
                times["raw_floor_s"].append(read_s + again)
                await engine.truncate(name, base)
                await engine.saved(name)
                fresh = times["computed_again_s"]
                if len(fresh) < 3 or sum(fresh) < PATIENCE:
                    await engine.start("fresh", [], lasting=False)
                    # Its first id differs, so that it shares no block.
                    _, ttft = await say(engine, "fresh", [5, *prompt(length, length - 1), *prompt(n, 32)], 1)
                    fresh.append(ttft)
                    await engine.drop("fresh")
            row: dict[str, Any] = {"tokens": length, **{key: spread(one) for key, one in times.items()}}
            row["again_to_resumed"] = row["computed_again_s"]["median"] / row["resumed_s"]["median"]
            row["resumed_to_floor"] = row["resumed_s"]["median"] / row["raw_floor_s"]["median"]
            rows.append(row)
            await engine.drop(name)
    return rows


async def next_call(model: Path, rounds: int, home: Path) -> dict[str, Any]:
    """TTFT of a turn right behind one of 512 tokens on a 4k context, while that one is saved and when it has been."""
    times: dict[str, list[float]] = {"while_saving_s": [], "after_saving_s": []}
    under_way = 0
    async with Engine.open(config(home, model)) as engine:
        await say(engine, "a", prompt(1, 4096), 1)
        await engine.saved("a")
        base = len(engine.ids("a"))
        for n in range(rounds):
            for key, found in times.items():
                await say(engine, "a", prompt(n, 512), 1)
                if key == "after_saving_s":
                    await engine.saved("a")
                else:
                    under_way += not engine.store.is_saved(engine._of("a"))  # pyright: ignore[reportPrivateUsage]
                found.append((await say(engine, "a", prompt(50 + n, 32), 1))[1])
                await engine.saved("a")
                await engine.truncate("a", base)
    return {"saves_under_way": under_way, **{key: spread(one) for key, one in times.items()}}


@contextmanager
def listening(heard: list[str]) -> Generator[None]:
    """Notes a checksum of the logits of every single-token step, as they were computed."""
    advance = Context.advance

    def noted(self: Context, network: Any, ids: Sequence[int]) -> Any:
        logits = advance(self, network, ids)
        if len(ids) == 1:
            heard.append(xxhash.xxh3_128_hexdigest(np.array(logits[0, -1]).tobytes()))
        return logits

    Context.advance = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Context.advance = advance  # type: ignore[method-assign]


async def states(engine: Engine, names: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Every byte of each context's cache, blocks and tail: equal caches give equal logits."""
    found: dict[str, dict[str, bytes]] = {}
    for name in names:
        context = engine._of(name)  # pyright: ignore[reportPrivateUsage]
        await say(engine, name, [9], 1)

        def taken(context: Any = context) -> dict[str, bytes]:
            refs, context.refs = context.refs, []
            journal = context.journal
            if journal is None:
                from engine.kv.journal import Journal

                context.journal = Journal(Path("/nowhere"))
            snapshot = extract(context)
            context.refs, context.journal = refs, journal
            parts = {**snapshot.fresh, **snapshot.tail}
            return {key: bytes(value.data) for key, value in parts.items() if key != "ids"}

        found[name] = await engine._compute.call(taken)  # pyright: ignore[reportPrivateUsage]
    return found


async def exactness(model: Path, kv: KvChoice, turns: int, home: Path) -> dict[str, Any]:
    """Five agents, three of them hot, random turns with evictions, restarts and compactions, against a run without.

    Compared are the ids of every reply, the logits of every drawn token, and at the end every byte of every cache.
    """
    draw = random.Random(17)
    names = "abcde"
    plan = [(draw.choice(names), prompt(n, draw.choice((1, 20, 90, 260))), draw.randrange(1, 9)) for n in range(turns)]
    logits: list[str] = []
    async with Engine.open(config(home / "one", model, kv_format=kv, persist=False, hot_contexts=9)) as engine:
        with listening(logits):
            wanted = [(await say(engine, name, ids, count))[0].ids for name, ids, count in plan]
        state = await states(engine, names)
    said: list[tuple[int, ...]] = []
    heard: list[str] = []
    restarts = evictions = compactions = read_again = at = 0
    same_states = False
    while at < len(plan):
        restarts += 1
        async with Engine.open(config(home / "two", model, kv_format=kv)) as engine:
            for _ in range(min(draw.randrange(5, 25), len(plan) - at)):
                name, ids, count = plan[at]
                held = len(engine.ids(name)) if engine.exists(name) else 0
                with listening(heard):
                    finished, _ = await say(engine, name, ids, count)
                read_again += max(0, held - 1 - finished.cached_tokens)
                said.append(finished.ids)
                at += 1
                await engine.saved(name)
                if draw.random() < 0.3:
                    await cool(engine, draw.choice([one.name for one in engine.status().contexts]))
                    evictions += 1
                if draw.random() < 0.1:
                    before, after = await engine.store.compact(name)
                    compactions += before > after
            if at == len(plan):
                same_states = await states(engine, names) == state
    return {
        "format": kv,
        "turns": turns,
        "restarts": restarts - 1,
        "evictions": evictions,
        "compactions": compactions,
        "turns_with_other_ids": sum(one != other for one, other in zip(said, wanted, strict=True)),
        "tokens": sum(len(ids) for ids in wanted),
        "tokens_with_other_logits": sum(one != other for one, other in zip(heard, logits, strict=True)),
        "final_caches_equal_to_the_byte": same_states,
        "tokens_computed_again": read_again,
    }


async def together(model: Path, count: int, length: int, tokens: int, rounds: int, home: Path) -> dict[str, Any]:
    """Tokens per second of several contexts of a length at once against one after the other."""
    alone: list[float] = []
    joint: list[float] = []
    async with Engine.open(config(home, model, persist=False, hot_contexts=9)) as engine:
        for n in range(count):
            await say(engine, f"{n}", prompt(n, length), 1)
        for _ in range(rounds):
            began = time.perf_counter()
            for n in range(count):
                await say(engine, f"{n}", [7], tokens)
            alone.append((time.perf_counter() - began) / tokens)
            for n in range(count):
                await engine.truncate(f"{n}", length + 1)
            began = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for n in range(count):
                    tasks.start_soon(say, engine, f"{n}", [7], tokens)
            joint.append((time.perf_counter() - began) / tokens)
            for n in range(count):
                await engine.truncate(f"{n}", length + 1)
    return {
        "contexts": count,
        "context_tokens": length,
        "a_token_each_one_after_the_other_s": spread(alone),
        "a_token_each_together_s": spread(joint),
        "one_after_the_other_tokens_per_s": count / median(alone),
        "together_tokens_per_s": count / median(joint),
        "gain": median(alone) / median(joint),
    }


async def peak(model: Path, kv: KvChoice, length: int, home: Path) -> dict[str, Any]:
    """Peak memory that MLX took above the weights while a prompt was read."""
    from engine.backend import mx

    async with Engine.open(config(home, model, kv_format=kv, persist=False)) as engine:
        compute = engine._compute  # pyright: ignore[reportPrivateUsage]

        def begin() -> int:
            mx.clear_cache()
            mx.reset_peak_memory()
            return int(mx.get_active_memory())

        before = await compute.call(begin)
        await say(engine, "a", prompt(1, length), 1)
        after = await compute.call(lambda: int(mx.get_peak_memory()))
        return {
            "format": kv,
            "tokens": length,
            "peak_bytes": after - before,
            "kv_bytes": engine.status().kv_bytes,
        }


def load_average() -> float:
    return os.getloadavg()[0]
