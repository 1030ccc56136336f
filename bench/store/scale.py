"""Soul's store at two sizes: ingest, index building, mounting, recall, and what the database takes.

    python -m bench.store.scale --home FOLDER --build     builds 100,000 and 1,000,000 packets, hours on a busy machine
    python -m bench.store.scale --home FOLDER             asks both, interleaved; builds what is missing
    python -m bench.store.scale --quick                   2,000 and 10,000 packets in a folder that is gone afterwards

The stores stay in FOLDER, so that building and asking are apart. Writes store-scale.json and .png to bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import numpy as np

from bench.store.building import CORPORA, build, is_built, open_built, piece
from bench.store.drawing import draw_scale
from bench.store.measuring import Times, memory_of, sizes_of, summary, timed
from bench.store.rows import Question, make_questions, make_world
from bench.store.soul import Soul

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (100_000, 1_000_000)
QUICK = (2_000, 10_000)
ASKED_CORPORA = 8
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.store.scale")
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES), help="sizes, the smallest first")
    parser.add_argument("--home", type=Path, help="where the stores are kept")
    parser.add_argument("--build", action="store_true", help="only build what is missing")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "store-scale")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.repeats, options.questions = list(QUICK), 2, 10
        home = Path(tempfile.mkdtemp(prefix="soul-"))
        options.out = home / "store-scale"
        try:
            anyio.run(_run, options, home)
        finally:
            shutil.rmtree(home)
    elif options.home is None:
        parser.error("--home FOLDER says where the stores are kept (some 12 GB for 1,000,000 packets)")
    else:
        anyio.run(_run, options, options.home.resolve())


async def _run(options: argparse.Namespace, home: Path) -> None:
    for rows in options.rows:
        if not is_built(_folder(home, rows)):
            _say(f"building {rows:,}")
            await build(_folder(home, rows), rows, _say)
    if options.build:
        return
    questions = {rows: _questions(rows, options.questions) for rows in options.rows}
    times: Times = {}
    async with AsyncExitStack() as stack:
        stores = {rows: await stack.enter_async_context(open_built(_folder(home, rows))) for rows in options.rows}
        for repeat in range(-1, options.repeats):
            _say(f"repeat {repeat + 1} of {options.repeats}" if repeat >= 0 else "warming up")
            for rows, soul in stores.items():
                await _ask(rows, soul, questions[rows], times if repeat >= 0 else {})
        found: dict[str, Any] = {}
        for rows, soul in stores.items():
            _say(f"comparing {rows:,} with exact answers")
            found[str(rows)] = {
                "building": json.loads((_folder(home, rows) / "built.json").read_text()),
                "ms": {what: summary(took) for (size, what), took in times.items() if size == rows},
                "recall_at_10_of_vectors": await _recall(rows, soul, questions[rows]),
                "memory_mb": memory_of(soul.memory.database),
                "disk_mb": await sizes_of(soul.memory.database),
            }
    least, most = str(options.rows[0]), str(options.rows[-1])
    report: dict[str, Any] = {
        "command": "python -m bench.store.scale --home FOLDER",
        "corpora": CORPORA,
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "stores": found,
        "times_slower": {
            what: round(found[most]["ms"][what]["p50"] / found[least]["ms"][what]["p50"], 2)
            for what in found[most]["ms"]
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    draw_scale(report, options.out.with_suffix(".png"))
    print(json.dumps(report, indent=2))


def _folder(home: Path, rows: int) -> Path:
    return home / f"rows-{rows}"


def _questions(rows: int, count: int) -> list[Question]:
    """Near rows of some corpora; the pieces are made again, so that nothing of the size of the store is held."""
    world = make_world(rows)
    corpora = np.linspace(0, CORPORA - 1, ASKED_CORPORA).astype(int)
    found: list[Question] = []
    for place, corpus in enumerate(corpora):
        share = len(range(place, count, len(corpora)))
        made = make_questions(piece(world, rows, int(corpus)), share, seed=2 + place)
        found += [Question(one.vector, one.text, int(corpus)) for one in made]
    return found


async def _ask(rows: int, soul: Soul, questions: list[Question], times: Times) -> None:
    for whole in (False, True):
        for words in (True, False):
            what = f"{'whole store' if whole else 'mounted'}, {'hybrid' if words else 'vectors alone'}"
            for question in questions:
                if not whole:
                    async with timed(times, (rows, "mount")):
                        await soul.mount(question.corpus)
                async with timed(times, (rows, what)):
                    await soul.ask(question, whole=whole, words=words)


async def _recall(rows: int, soul: Soul, questions: list[Question]) -> dict[str, float]:
    """Share of the ten nearest that an index search finds, against all vectors, a corpus at a time."""
    world = make_world(rows)
    asked = np.stack([question.vector for question in questions])
    best: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0, int)) for _ in questions]
    own: list[set[int]] = [set() for _ in questions]
    for corpus in range(CORPORA):
        vectors = piece(world, rows, corpus, texts=False).vectors
        cosines = asked @ vectors.T
        first = corpus * len(vectors)
        for place, question in enumerate(questions):
            near = np.argpartition(-cosines[place], K)[:K]
            if question.corpus == corpus:
                own[place] = set((first + near).tolist())
            values = np.concatenate([best[place][0], cosines[place][near]])
            numbers = np.concatenate([best[place][1], first + near])
            order = np.argsort(-values)[:K]
            best[place] = values[order], numbers[order]
    shares: dict[str, list[float]] = {"mounted": [], "whole store": []}
    for place, question in enumerate(questions):
        await soul.mount(question.corpus)
        shares["mounted"].append(len(own[place] & set(await soul.ask(question, whole=False, words=False))) / K)
        everywhere = set(best[place][1].tolist())
        shares["whole store"].append(len(everywhere & set(await soul.ask(question, whole=True, words=False))) / K)
    return {name: round(float(np.mean(share)), 4) for name, share in shares.items()}


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
