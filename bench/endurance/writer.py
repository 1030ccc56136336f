"""One process that writes packets until it is told to stop: `python -m bench.endurance.writer URL NUMBER SEED FOLDER`.

Each packet has a word of its own. What was committed is noted in a file only behind the commit: id, word and hash. Ends
when its stdin does; leaves the milliseconds of each write in a second file.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
import structlog

from bench.store.rows import make_world
from memory.database import Database, DatabaseConfig
from memory.packets import Packet, Packets, content_hash
from memory.uuid7 import uuid7

MOST_AT_ONCE = 20
PAUSE_S = 0.05
"""Mean of what a writer waits between two writes: 8 that never wait would only show how fast two cores are."""


async def main(url: str, number: int, seed: int, folder: Path) -> None:
    """Writes until stdin ends."""
    random = np.random.default_rng([seed, number])
    words = np.array(make_world(1000).words)
    took: list[tuple[float, float, int]] = []
    over = anyio.Event()
    # The upkeep is the daemon's alone.

    async def listen() -> None:
        await anyio.to_thread.run_sync(sys.stdin.read)
        over.set()

    async with (
        Database.open(DatabaseConfig(folder, url=url, pool_size=2)) as database,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listen)
        sequence = 0
        with (folder / f"acknowledged-{number}").open("w") as acknowledged:
            while not over.is_set():
                packets: list[Packet] = []
                for _ in range(int(random.integers(1, MOST_AT_ONCE + 1))):
                    sequence += 1
                    prose = " ".join(random.choice(words, int(random.integers(15, 60)))) + f" {word(number, sequence)}"
                    kind = "said" if sequence % 3 else "answer"
                    packets.append(Packet(uuid7(), datetime.now(UTC), "director", f"w{number}", sequence, kind, prose))
                started = time.perf_counter()
                await Packets(database).write(packets)
                took.append((time.time(), (time.perf_counter() - started) * 1000, len(packets)))
                acknowledged.writelines(
                    f"{one.id} {word(number, one.sequence)} {content_hash(one.prose)}\n" for one in packets
                )
                acknowledged.flush()
                await anyio.sleep(float(random.exponential(PAUSE_S)))
    (folder / f"took-{number}.json").write_text(json.dumps(took))


def word(writer: int, sequence: int) -> str:
    """A word that stands in one packet alone."""
    return f"zq{writer}x{sequence}q"


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    anyio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
