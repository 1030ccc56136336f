"""What faults do to saved caches: processes killed at random moments, bits flipped, files cut short.

    python -m bench.kv.faults [--kills 300] [--flips 3000] [--out FILE]

Writes bench/results/kv-faults.json. A child runs a fixed plan of turns over two contexts, drops both at its end and
begins again; the parent kills it at a random moment, and the next child goes on with what it finds. Everything that
was answered must be there, and every id, found or drawn later, must be that of a run nobody interrupted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, cast

import anyio

from engine.blas import preload

preload()

from bench.kv.turns import config, prompt, say  # noqa: E402
from engine.engine import Engine  # noqa: E402
from engine.kv.journal import replay  # noqa: E402
from engine.kv.manifest import Manifest  # noqa: E402
from engine.kv.tensors import Damaged, read, read_header  # noqa: E402
from engine.kv.verifying import verify  # noqa: E402

RESULTS = Path(__file__).parent.parent / "results" / "kv-faults.json"
NAMES = ("a", "b")
PLAN = (120, 30, 300, 1, 90, 260, 60, 200, 15, 120)
"""Tokens given in each turn of a context. About 1,200 in all: four sealed blocks and a tail."""
REPLY = 3
LONGEST = 1.5
"""Seconds that a child lives at most after it opened; turns and saves fill all of them."""


def given(name: str, turn: int) -> list[int]:
    """The ids of a context's turn."""
    return prompt(1000 * NAMES.index(name) + turn, PLAN[turn])


def turns_in(length: int) -> int | None:
    """How many whole turns make a context of this length; None when it ends within one."""
    at = 0
    for turn, count in enumerate((*PLAN, 0)):
        if at == length:
            return turn
        at += count + REPLY
    return None


async def uninterrupted(home: Path, model: Path) -> dict[str, tuple[int, ...]]:
    """All ids of both contexts when nothing happens."""
    async with Engine.open(config(home, model, persist=False)) as engine:
        for turn in range(len(PLAN)):
            for name in NAMES:
                await say(engine, name, given(name, turn), REPLY)
        return {name: engine.ids(name) for name in NAMES}


def child(home: Path, model: Path, say_to: Connection) -> None:
    """Opens the engine, tells what it found, and works through the plan until it is killed."""

    async def work() -> None:
        began = time.perf_counter()
        async with Engine.open(config(home, model, hot_contexts=1)) as engine:
            opened = time.perf_counter() - began
            shelf = engine.store.shelf
            assert shelf is not None
            faults = len(verify(shelf))
            found = {name: engine.ids(name) for name in NAMES if engine.exists(name)}
            say_to.send(("opened", opened, faults, found))
            while True:
                order = sorted(NAMES, key=lambda name: len(engine.ids(name)) if engine.exists(name) else 0)
                name = order[0]
                turn = turns_in(len(engine.ids(name)) if engine.exists(name) else 0)
                assert turn is not None
                if turn == len(PLAN):
                    say_to.send(("dropping",))
                    for one in NAMES:
                        await engine.drop(one)
                    say_to.send(("dropped",))
                    continue
                finished, _ = await say(engine, name, given(name, turn), REPLY)
                say_to.send(("answered", name, len(engine.ids(name)), finished.ids))

    anyio.run(work)


def kills(model: Path, count: int, home: Path) -> dict[str, Any]:
    """Kills a working process `count` times."""
    wanted = anyio.run(uninterrupted, home / "one", model)
    draw = random.Random(31)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.kv.turns", "engine.chat", "engine.runs", "engine.kv.store"])
    figures = {"kills": 0, "answered_turns": 0, "lost_turns": 0, "wrong_ids": 0, "damaged_files": 0, "failed_starts": 0}
    answered = dict.fromkeys(NAMES, 0)
    dropping = False
    opened: list[float] = []
    for trial in range(count + 1):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(home / "two", model, theirs))
        process.start()
        theirs.close()
        deadline: float | None = None
        while True:
            if deadline is not None and not mine.poll(max(0.0, deadline - time.perf_counter())):
                process.kill()
                deadline = None
            try:
                said = cast(tuple[Any, ...], mine.recv())
            except EOFError:
                break
            if said[0] == "opened":
                # The last one only looks at what the one before left.
                deadline = time.perf_counter() + (draw.uniform(0.0, LONGEST) if trial < count else 0.0)
                opened.append(said[1])
                figures["damaged_files"] += said[2]
                for name in NAMES:
                    ids = tuple(said[3].get(name, ()))
                    figures["wrong_ids"] += ids != wanted[name][: len(ids)]
                    if len(ids) < answered[name] and not dropping:
                        figures["lost_turns"] += 1
                    answered[name] = len(ids)
                dropping = False
            elif said[0] == "answered":
                _, name, length, ids = said
                figures["answered_turns"] += 1
                figures["wrong_ids"] += ids != wanted[name][length - REPLY : length]
                answered[name] = length
            else:
                dropping = said[0] == "dropping"
                answered = dict.fromkeys(NAMES, 0)
        process.join()
        mine.close()
        figures["kills"] += process.exitcode == -9 and trial < count
        figures["failed_starts"] += process.exitcode != -9
        if trial % 25 == 24:
            print(f"{trial + 1} of {count}: {figures}", file=sys.stderr, flush=True)
    return {**figures, "engine_open_median_s": median(opened), "engine_open_max_s": max(opened)}


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
    truncated = 0
    flipped: dict[str, int] = {}
    missed: list[str] = []
    for path in files:
        content = path.read_bytes()
        for region, low, high in regions(path, len(content)):
            for _ in range(count // len(files) // 2):
                place = draw.randrange(low, high)
                spoilt = bytearray(content)
                spoilt[place] ^= 1 << draw.randrange(8)
                target.write_bytes(spoilt)
                flipped[region] = flipped.get(region, 0) + 1
                if not noticed(target, path.name, size):
                    missed.append(f"{path.name}: bit in byte {place}")
        edges = {0, 1, 7, 8, 9, len(content) // 2, len(content) - 1}
        for length in sorted(edges | {draw.randrange(len(content)) for _ in range(100)}):
            target.write_bytes(content[:length])
            truncated += 1
            if not noticed(target, path.name, size):
                missed.append(f"{path.name}: cut to {length}")
    return {
        "files": len(files),
        "bits_flipped": sum(flipped.values()),
        "by_region": flipped,
        "truncations": truncated,
        "unnoticed": missed,
    }


def regions(path: Path, size: int) -> list[tuple[str, int, int]]:
    """The parts of a file that are sampled on their own: name, first byte, end."""
    if path.suffix != ".safetensors":
        return [(path.name, 0, size)]
    kind = "tail" if path.name.startswith("tail") else "blocks"
    first = min(one[2] for one in read_header(path).tensors.values())
    return [(f"{kind}: header", 0, first), (f"{kind}: tensors", first, size)]


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


def main() -> None:
    """Runs both parts and writes their counts."""
    from engine.seedling.weights import seedling

    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--flips", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given_ = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soul-bench-") as name:
        folder = Path(name)
        model = seedling()
        report = {
            "flips": anyio.run(flips, model, given_.flips, folder / "flips"),
            "kills": kills(model, given_.kills, folder / "kills"),
        }
    given_.out.parent.mkdir(exist_ok=True)
    given_.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    sys.exit(main())
