"""`python -m bench.orders [--orders 1000] [--seed 7] [--quick]`: work orders whose Hands fail, a daemon that is killed.

Over an embedded Postgres of its own, with all its safety on. Writes bench/results/orders.json and orders.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread

from bench.orders.drawing import draw
from bench.orders.trial import count, fire, prepare
from memory import cluster
from memory.postgres import EmbeddedPostgres

RESULTS = Path(__file__).parents[1] / "results" / "orders.json"
QUICK = 32


async def main(orders: int, seed: int) -> dict[str, Any]:
    """A fresh home, working folder and server, gone afterwards."""
    home, work = Path(tempfile.mkdtemp(prefix="soul-")), Path(tempfile.mkdtemp(prefix="soul-work-"))
    server = EmbeddedPostgres(home)
    address = await server.ensure()
    folder = quote(str(address.socket_folder), safe="")
    url = f"postgresql://{cluster.USER}@/{cluster.USER}?host={folder}&port={cluster.PORT}"
    try:
        log = prepare(home, work)
        started = time.perf_counter()
        kills = await anyio.to_thread.run_sync(fire, home, url, orders, seed)
        seconds = time.perf_counter() - started
        return {**vars(await count(url, log, kills)), "seconds": round(seconds, 1), "seed": seed}
    finally:
        await server.stop()
        shutil.rmtree(home)
        shutil.rmtree(work)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="bench.orders")
    options.add_argument("--orders", type=int, default=1_000)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--quick", action="store_true", help=f"{QUICK} orders, nothing written")
    given = options.parse_args()
    figures = anyio.run(main, QUICK if given.quick else given.orders, given.seed)
    if not given.quick:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
        draw(figures, RESULTS.with_suffix(".png"))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if figures["open"] or figures["run_twice"] or figures["begun_again"] else 0)
