"""Corpora at scale: first indexing, an unchanged folder looked at again, a saved file until it is found.

    python -m bench.corpora           10,000 files, a minute
    python -m bench.corpora --quick   1,000 files, some seconds

Writes corpora.json and corpora.png to bench/results. Keyword search only: vectors follow in the background and are
measured by the embedder's own speed. Looking again is timed beside two peers on the same files, in one interleaved run:
reading and hashing every file anew, and `git status`. Everything is warm in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np

from bench.corpora.drawing import draw
from bench.corpora.folders import Git, hashed, make_folder
from memory.database import Database, DatabaseConfig
from memory.files import RACY_NS
from memory.memory import Memory
from memory.recall import Query

RESULTS = Path(__file__).parents[1] / "results"
SOUL, HASHING, GIT = "Soul", "hash every file", "git status"
ASK_EVERY_S = 0.005
PATIENCE_S = 30.0
TARGETS = {"unchanged_s": 2.0, "saved_to_found_s": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.corpora")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--saves", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="1,000 files, 3 repeats, 5 saves")
    parser.add_argument("--out", type=Path, default=RESULTS / "corpora")
    options = parser.parse_args()
    if options.quick:
        options.files, options.repeats, options.saves = 1_000, 3, 5
    home = Path(tempfile.mkdtemp(prefix="soul-bench-"))
    try:
        anyio.run(_run, options, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _run(options: argparse.Namespace, home: Path) -> None:
    folder = home / "texts"
    _say(f"making {options.files} files")
    made_bytes = make_folder(folder, options.files)
    git = Git(folder)
    async with Database.open(DatabaseConfig(home / "soul")) as database:
        async with _memory(database, folder) as memory:
            _say("indexing")
            took, info = await _timed(memory.corpora.add("texts", folder))
            first = {
                "seconds": round(took, 3),
                "files_per_s": round(info.files / took),
                "passages_per_s": round(info.chunks / took),
                "mb_per_s": round(made_bytes / took / 1e6, 2),
            }
            # Files that are too young prove nothing by their times, to git neither.
            await anyio.sleep(RACY_NS / 1e9 + 0.5)
            unchanged = await _unchanged(memory, git, folder, options.repeats)
        async with _memory(database, folder, watching=True) as memory:
            await memory.corpora.mount("director", "texts")
            saved = await _saved(memory, folder, options.saves)
    report: dict[str, Any] = {
        "command": " ".join(["python -m bench.corpora", *sys.argv[1:]]),
        "files": info.files,
        "passages": info.chunks,
        "mb": round(made_bytes / 1e6, 1),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "first_indexing": first,
        "unchanged_s": {name: _summary(times) for name, times in unchanged.items()},
        "saved_to_found_s": _summary(saved),
        "targets": TARGETS,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    draw(report, options.out.with_suffix(".png"))
    print(json.dumps(report, indent=2))


@asynccontextmanager
async def _memory(database: Database, folder: Path, *, watching: bool = False) -> AsyncGenerator[Memory]:
    async with Memory.open(database, None, [folder], watching=watching) as memory:
        yield memory


async def _unchanged(memory: Memory, git: Git, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of each look, in turns, so that a busy moment of the machine hits all of them."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    before = hashed(folder)
    for repeat in range(-1, repeats):
        _say(f"looking again, {repeat + 1} of {repeats}" if repeat >= 0 else "warming up")
        took, changed = await _timed(memory.corpora.look_again("texts"))
        assert changed == 0
        hashing, same = await _timed(anyio.to_thread.run_sync(lambda: hashed(folder) == before))
        assert same
        status, clean = await _timed(anyio.to_thread.run_sync(git.is_clean))
        assert clean
        if repeat >= 0:
            for name, seconds in ((SOUL, took), (HASHING, hashing), (GIT, status)):
                times[name].append(seconds)
    return times


async def _saved(memory: Memory, folder: Path, saves: int) -> list[float]:
    """Seconds from the moment a file is closed until recall finds the word that was put into it."""
    files = sorted(folder.rglob("*.md"))  # noqa: ASYNC240
    times: list[float] = []
    # The first one also waits for the watch to be set up.
    for number in range(-1, saves):
        _say(f"saving, {number + 1} of {saves}" if number >= 0 else "waiting for the watch")
        file, word = files[number * 97 % len(files)], f"zanzibar{number + 1}x"
        file.write_text(f"{file.read_text()}\nThe ship came from {word}.\n")
        began = time.perf_counter()
        with anyio.fail_after(PATIENCE_S):
            while not await memory.recall.search(Query(word, k=1, corpus="texts")):  # noqa: ASYNC110
                await anyio.sleep(ASK_EVERY_S)
        if number >= 0:
            times.append(time.perf_counter() - began)
        # A person saves now and then; without a pause this would measure how a flood is held back.
        await anyio.sleep(1.0)
    return times


def _summary(times: list[float]) -> dict[str, float]:
    figures = {"p50": np.median(times), "p95": np.percentile(times, 95), "lowest": min(times), "highest": max(times)}
    return {name: round(float(value), 4) for name, value in figures.items()}


async def _timed(work: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = await work
    return time.perf_counter() - started, result


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
