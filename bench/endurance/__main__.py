"""Writers and readers at once over one database, for minutes: no error, nothing lost, and how long each waits.

    python -m bench.endurance                 8 writers, 8 readers, 10 minutes
    python -m bench.endurance --quick         15 seconds, nothing written

Each writer is a process of its own. The readers are tasks of one memory as the daemon holds it, with the real embedder
and all its upkeep (embedding, indexes, compaction) beside them. Half of the questions ask for a packet by a word of its
own that a writer was told is committed: it must be the first hit. Writes endurance.json and .png to bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import numpy as np

from bench.endurance.drawing import draw
from bench.endurance.looking import Acknowledged, lost
from memory import cluster
from memory.database import Database, DatabaseConfig
from memory.embedder import default_embedder
from memory.memory import Memory
from memory.postgres import EmbeddedPostgres
from memory.recall import Query

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "endurance"
QUICK_MINUTES = 0.25
QUESTIONS = (
    "what did we decide about the harbour",
    "who keeps the keys of the boat house and since when",
    "the deadline of the second chapter",
    "how much does the new roof cost",
)
END_S = 120


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.endurance")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.minutes = QUICK_MINUTES
    home = Path(tempfile.mkdtemp(prefix="soul-"))
    try:
        report = anyio.run(_over_a_server, options, home)
    finally:
        shutil.rmtree(home)
    if not options.quick:
        options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        draw(report, options.out.with_suffix(".png"))
    del report["by_time"]
    print(json.dumps(report, indent=1))
    return 1 if report["errors"] or report["lost"] or report["not_found_at_once"] else 0


async def _over_a_server(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    server = EmbeddedPostgres(home)
    address = await server.ensure()
    folder = quote(str(address.socket_folder), safe="")
    try:
        return await _run(
            options, home, f"postgresql://{cluster.USER}@/{cluster.USER}?host={folder}&port={cluster.PORT}"
        )
    finally:
        await server.stop()


async def _run(options: argparse.Namespace, home: Path, url: str) -> dict[str, Any]:
    errors: list[str] = []
    reads: list[tuple[float, float]] = []
    missed: list[str] = []
    async with (
        Database.open(DatabaseConfig(home, url=url)) as database,
        Memory.open(database, default_embedder()) as memory,
    ):
        acknowledged = Acknowledged(home, options.writers)
        began = time.time()
        with ExitStack() as stack:
            writers = [
                stack.enter_context(_writer(home, url, number, options.seed)) for number in range(options.writers)
            ]
            async with anyio.create_task_group() as tasks:
                for number in range(options.readers):
                    tasks.start_soon(_read, memory, acknowledged, number, options.seed, reads, missed, errors)
                with anyio.move_on_after(options.minutes * 60):
                    while all(writer.poll() is None for writer in writers):
                        memory.upkeep.wake()  # other processes tell nobody that there is something to embed
                        await anyio.sleep(1)
                tasks.cancel_scope.cancel()
            for writer in writers:
                assert writer.stdin is not None
                writer.stdin.close()
            lasted = time.time() - began
            for number, writer in enumerate(writers):
                await anyio.to_thread.run_sync(lambda writer=writer: writer.wait(END_S))
                if writer.returncode:
                    errors.append(f"writer {number}: {(home / f'errors-{number}').read_text()[-1000:]}")
        acknowledged.read()
        missing = await lost(memory, acknowledged)
        owed = await memory.packets.owed()
        count = await memory.packets.count()
    writes = [(at, ms) for number in range(options.writers) for at, ms, _ in _took(home, number)]
    return {
        "command": " ".join(["python -m bench.endurance", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "seconds": round(lasted, 1),
        "writers": options.writers,
        "readers": options.readers,
        "packets": count,
        "acknowledged": len(acknowledged.ids),
        "lost": missing,
        "errors": errors,
        "not_found_at_once": missed[:20],
        "writes": _summary([ms for _, ms in writes]),
        "reads": _summary([ms for _, ms in reads]),
        "embedded": count - owed,
        "by_time": {
            "writes": [[round(at - began, 2), round(ms, 2)] for at, ms in sorted(writes)],
            "reads": [[round(at - began, 2), round(ms, 2)] for at, ms in sorted(reads)],
        },
    }


def _writer(home: Path, url: str, number: int, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.endurance.writer", url, str(number), str(seed), str(home)]
    with (home / f"errors-{number}").open("w") as errors:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=errors, text=True)


async def _read(
    memory: Memory,
    acknowledged: Acknowledged,
    number: int,
    seed: int,
    took: list[tuple[float, float]],
    missed: list[str],
    errors: list[str],
) -> None:
    """Asks without end: by turns for a packet that was just committed, and a question in plain words."""
    random = np.random.default_rng([seed, 1000 + number])
    turn = 0
    while True:
        turn += 1
        try:
            known = acknowledged.latest(random) if turn % 2 else None
            asked = known[1] if known else str(random.choice(QUESTIONS))
            started = time.perf_counter()
            hits = await memory.recall.search(Query(asked))
            took.append((time.time(), (time.perf_counter() - started) * 1000))
            if known and (not hits or hits[0].id != known[0]):
                missed.append(str(known[0]))
        except Exception as error:
            errors.append(f"reader {number}: {type(error).__name__}: {error}")
            return
        await anyio.sleep(0.01)


def _took(home: Path, number: int) -> list[tuple[float, float, int]]:
    path = home / f"took-{number}.json"
    return json.loads(path.read_text()) if path.exists() else []


def _summary(took: list[float]) -> dict[str, float]:
    if not took:
        return {"count": 0}
    p50, p99 = np.percentile(took, [50, 99])
    return {
        "count": len(took),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "most_ms": round(max(took), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
