"""KV caches that outlive the process: exactness, resuming, saving, damage, decoding together.

    python -m bench.kv [--quick] [--only exactness,resume,first_token,...] [--out FOLDER]

Writes kv.json after each part (those that were not asked for stay as they are), and kv.png at the end, to bench/results
(with --quick: to the temporary folder, unless --out says where). Peers take turns within each round; figures are
medians with extremes and counts. Kills and flips are `python -m bench.kv.faults`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from engine.blas import preload

preload()

from bench.kv import drawing, llama_cpp, loading, restart, shapes, turns  # noqa: E402
from engine.kv.form import KvChoice  # noqa: E402
from engine.seedling.weights import seedling  # noqa: E402

RESULTS = Path(__file__).parent.parent / "results"
PARTS = ("resume", "next_call", "first_token", "restart", "together", "peak", "exactness", "llama_cpp")


def on_a_thread(work: Any) -> Any:
    """MLX objects stay on the thread that made them, whose streams must be ended before it ends."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        from engine.backend import mx

        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            mx.synchronize()
            mx.clear_streams()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def main() -> None:
    """Runs the parts that were asked for and writes what they found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    parts, quick = given.only.split(","), bool(given.quick)
    rounds = 2 if quick else given.repeats
    began = time.perf_counter()
    report: dict[str, Any] = {
        "command": "python -m bench.kv",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {turns.load_average():.1f}",
        "quick": quick,
        "seconds": {},
    }
    with tempfile.TemporaryDirectory(prefix="soul-bench-") as name:
        folder = Path(name)
        target = given.out or (folder if quick else RESULTS)
        target.mkdir(exist_ok=True, parents=True)
        if parts != list(PARTS) and (target / "kv.json").exists():
            former = json.loads((target / "kv.json").read_text())
            report = {**former, **report, "seconds": former["seconds"]}
        works = parts_of(folder, rounds, quick=quick)
        for part in parts:
            started = time.perf_counter()
            report[part] = works[part]()
            report["seconds"][part] = round(time.perf_counter() - started, 1)
            (target / "kv.json").write_text(json.dumps(report, indent=1) + "\n")
            print(json.dumps({part: report[part]}, indent=1), flush=True)
        if {"first_token", "resume"} <= set(report):
            drawing.draw(report, target / "kv.png")
    print(f"{time.perf_counter() - began:.0f} s in all, by part {report['seconds']}", flush=True)


def parts_of(folder: Path, rounds: int, *, quick: bool) -> dict[str, Callable[[], Any]]:
    """What each part runs."""
    words = seedling()
    small = shapes.model(folder, "30M")

    def resume() -> list[dict[str, Any]]:
        wanted = [(shapes.LLAMA_8B, 4096), (shapes.LLAMA_8B, 4200)]
        wanted += [] if quick else [(shapes.MISTRAL_LARGE, 4096)]
        return [
            on_a_thread(lambda shape=shape, n=n: loading.run(shape, n, rounds, folder / f"{shape.layers}-{n}"))
            for shape, n in wanted
        ]

    def first_token() -> dict[str, Any]:
        lengths = (1024, 2048) if quick else (1024, 4096, 8192, 16384)
        sizes = ("30M",) if quick else ("30M", "150M")
        return {
            size: anyio.run(turns.first_tokens, shapes.model(folder, size), lengths, rounds, folder / f"ttft-{size}")
            for size in sizes
        }

    def together() -> list[Any]:
        lengths = (16, 300) if quick else (16, 300, 2000)
        return [anyio.run(turns.together, small, 4, n, 16 if quick else 48, rounds, folder / "joint") for n in lengths]

    def peak() -> list[Any]:
        kinds: tuple[KvChoice, ...] = ("k8v4", "exact")
        lengths = (2048,) if quick else (8192, 16384)
        return [anyio.run(turns.peak, small, kv, n, folder / "peak") for n in lengths for kv in kinds]

    def exactness() -> list[Any]:
        count = 12 if quick else 200
        return [anyio.run(turns.exactness, words, kv, count, folder / f"exact-{kv}") for kv in turns.FORMATS]

    return {
        "resume": resume,
        "next_call": lambda: anyio.run(turns.next_call, small, rounds, folder / "next"),
        "first_token": first_token,
        "restart": lambda: restart.run(small, 200 if quick else 1000, rounds, folder / "restart"),
        "together": together,
        "peak": peak,
        "exactness": exactness,
        "llama_cpp": lambda: llama_cpp.run("30M", 512 if quick else 4096, rounds, folder / "llama"),
    }


if __name__ == "__main__":
    sys.exit(main())
