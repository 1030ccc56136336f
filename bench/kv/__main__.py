"""KV caches that outlive the process: exactness, resuming, saving, damage, decoding together.

    python -m bench.kv [--quick] [--only exactness,first_token,resume,together,peak,flips]

Writes bench/results/kv.json and kv.png (with --quick: to the temporary folder only). Medians of `repeats` runs. The
kill test is `pytest -m slow tests/kv`, since it needs a process to kill.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio

from engine.blas import preload

preload()

from bench.kv import drawing, loading, shapes, turns  # noqa: E402
from engine.kv.form import KvChoice  # noqa: E402

RESULTS = Path(__file__).parent.parent / "results"
PARTS = ("exactness", "first_token", "resume", "together", "peak", "flips")


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
    given = parser.parse_args()
    parts = given.only.split(",")
    repeats = 3 if given.quick else given.repeats
    report: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {turns.load_average():.1f}",
        "repeats": repeats,
    }

    def note(part: str, value: Any) -> None:
        report[part] = value
        print(json.dumps({part: value}, indent=1), flush=True)

    with tempfile.TemporaryDirectory(prefix="soul-bench-") as name:
        folder = Path(name)
        small = shapes.model(folder, "30M")
        seedling = folder / "words" / "seedling-1"
        if "exactness" in parts:
            kinds: tuple[KvChoice, ...] = turns.FORMATS
            count = 30 if given.quick else 200
            note("exactness", [anyio.run(turns.exactness, seedling, kv, count, folder / f"exact-{kv}") for kv in kinds])
        if "first_token" in parts:
            lengths = (1024, 4096) if given.quick else (1024, 4096, 8192, 16384)
            found = {"30M": anyio.run(turns.first_tokens, small, lengths, repeats, folder / "ttft-30M")}
            if not given.quick:
                large = shapes.model(folder, "150M")
                found["150M"] = anyio.run(turns.first_tokens, large, lengths, repeats, folder / "ttft-150M")
            note("first_token", found)
        if "resume" in parts:
            wanted = [shapes.LLAMA_8B] if given.quick else [shapes.LLAMA_8B, shapes.MISTRAL_LARGE]
            rows = [
                on_a_thread(lambda shape=shape: loading.run(shape, 4200, repeats, folder / f"resume-{shape.layers}"))
                for shape in wanted
            ]
            note("resume", rows)
        if "together" in parts:
            note("together", anyio.run(turns.together, small, 4, 64, repeats, folder / "together"))
        if "peak" in parts:
            lengths = (2048,) if given.quick else (8192, 16384)
            kinds = ("k8v4", "exact")
            note(
                "peak",
                [anyio.run(turns.peak, small, kv, length, folder / "peak") for length in lengths for kv in kinds],
            )
        if "flips" in parts:
            note("flips", anyio.run(turns.flips, seedling, 500 if given.quick else 3000, folder / "flips"))
        target = folder if given.quick else RESULTS
        if set(parts) >= {"first_token", "resume"} and not given.quick:
            target.mkdir(exist_ok=True)
            (target / "kv.json").write_text(json.dumps(report, indent=1) + "\n")
            drawing.draw(report, target / "kv.png")


if __name__ == "__main__":
    sys.exit(main())
