"""Through the engine with small random models: first tokens, exactness, decoding together, peak memory, damage."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import anyio

from engine.engine import Engine, EngineConfig, Finished, Sampling, Token
from engine.kv.form import KvChoice
from engine.kv.journal import replay
from engine.kv.manifest import Manifest
from engine.kv.saving import extract
from engine.kv.tensors import Damaged, read, read_header

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


async def first_tokens(model: Path, lengths: Sequence[int], repeats: int, home: Path) -> list[dict[str, Any]]:
    """TTFT of a turn of 32 tokens behind a context of each length: resumed from disk, computed again, and hot."""
    rows: list[dict[str, Any]] = []
    async with Engine.open(config(home, model)) as engine:
        for length in lengths:
            name = f"context {length}"
            await say(engine, name, prompt(length, length), 1)
            await engine.saved(name)
            base = len(engine.ids(name))
            resumed: list[float] = []
            floor: list[float] = []
            hot: list[float] = []
            shelf = engine.store.shelf
            assert shelf is not None
            for n in range(repeats):
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
                _, ttft = await say(engine, name, prompt(n, 32), 1)
                resumed.append(ttft)
                await engine.truncate(name, base)
                _, again = await say(engine, name, prompt(n, 32), 1)
                hot.append(again)
                floor.append(read_s + again)
                await engine.truncate(name, base)
                await engine.saved(name)
            fresh: list[float] = []
            for n in range(max(1, repeats // 2 if length <= 4096 else repeats // 4)):
                await engine.start("fresh", [], lasting=False)
                _, ttft = await say(engine, "fresh", [5 + n, *prompt(length, length - 1), *prompt(n, 32)], 1)
                fresh.append(ttft)
                await engine.drop("fresh")
            row = {
                "tokens": length,
                "resumed_s": median(resumed),
                "computed_again_s": median(fresh),
                "hot_s": median(hot),
                "raw_floor_s": median(floor),
            }
            row["again_to_resumed"] = row["computed_again_s"] / row["resumed_s"]
            row["resumed_to_floor"] = row["resumed_s"] / row["raw_floor_s"]
            rows.append(row)
            await engine.drop(name)
    return rows


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
    """Five agents, three of them hot, random turns with evictions, restarts and compactions, against a run without."""
    draw = random.Random(17)
    names = "abcde"
    plan = [(draw.choice(names), prompt(n, draw.choice((1, 20, 90, 260))), draw.randrange(1, 9)) for n in range(turns)]
    async with Engine.open(config(home / "one", model, kv_format=kv, persist=False, hot_contexts=9)) as engine:
        wanted = [(await say(engine, name, ids, count))[0].ids for name, ids, count in plan]
        state = await states(engine, names)
    said: list[tuple[int, ...]] = []
    restarts = evictions = compactions = 0
    at = 0
    read_again = 0
    while at < len(plan):
        restarts += 1
        async with Engine.open(config(home / "two", model, kv_format=kv)) as engine:
            for _ in range(draw.randrange(5, 25)):
                if at == len(plan):
                    break
                name, ids, count = plan[at]
                held = len(engine.ids(name)) if engine.exists(name) else 0
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
        "final_caches_equal_to_the_byte": same_states,
        "tokens_computed_again": read_again,
    }


async def together(model: Path, count: int, tokens: int, repeats: int, home: Path) -> dict[str, Any]:
    """Tokens per second of several contexts at once against one after the other."""
    alone: list[float] = []
    joint: list[float] = []
    async with Engine.open(config(home, model, persist=False, hot_contexts=9)) as engine:
        for _ in range(repeats):
            for n in range(count):
                await engine.start(f"{n}", [], lasting=False)
                await say(engine, f"{n}", prompt(n, 300), 1)
            began = time.perf_counter()
            for n in range(count):
                await say(engine, f"{n}", [7], tokens)
            alone.append(count * tokens / (time.perf_counter() - began))
            began = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for n in range(count):
                    tasks.start_soon(say, engine, f"{n}", [7], tokens)
            joint.append(count * tokens / (time.perf_counter() - began))
            for n in range(count):
                await engine.drop(f"{n}")
    return {
        "contexts": count,
        "one_after_the_other_tokens_per_s": median(alone),
        "together_tokens_per_s": median(joint),
        "gain": median(joint) / median(alone),
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


async def flips(model: Path, count: int, home: Path) -> dict[str, Any]:
    """Single bits flipped all over the files of a saved context, and truncations: how many go unnoticed."""
    async with Engine.open(config(home, model)) as engine:
        for n in range(4):
            await say(engine, "a", prompt(n, 300), 8)
            await engine.saved("a")
    files = [path for path in (home / "kv").rglob("*") if path.is_file()]
    draw = random.Random(23)
    target = home / "spoilt"
    size = next(Manifest.decode(path.read_bytes()) for path in files if path.name == "manifest").tails[-1].log_bytes
    flipped = truncated = missed = 0
    for path in files:
        content = path.read_bytes()
        places = {draw.randrange(min(len(content), 4096)) for _ in range(count // len(files) // 2)}
        places |= {draw.randrange(len(content)) for _ in range(count // len(files))}
        for place in places:
            spoilt = bytearray(content)
            spoilt[place] ^= 1 << draw.randrange(8)
            target.write_bytes(spoilt)
            flipped += 1
            missed += not noticed(target, path.name, size)
        for length in {draw.randrange(len(content)) for _ in range(100)}:
            target.write_bytes(content[:length])
            truncated += 1
            missed += not noticed(target, path.name, size)
    return {"files": len(files), "bits_flipped": flipped, "truncations": truncated, "unnoticed": missed}


def noticed(path: Path, name: str, log_bytes: int) -> bool:
    """Whether reading the file finds something wrong. `log_bytes`: what the manifest says of the log."""
    try:
        if name == "ids.log":
            found = replay(path)
            return bool(found.damage) or found.good < log_bytes
        if name == "manifest":
            Manifest.decode(path.read_bytes())
        else:
            read(path, read_header(path))
        return False
    except (Damaged, ValueError, KeyError):
        return True


def load_average() -> float:
    return os.getloadavg()[0]
