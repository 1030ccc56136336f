"""`python -m bench.flush [--points 200] [--seed 1] [--quick]`: kill -9 at random points around a flush.

Over an embedded Postgres of its own, with all its safety on. Writes bench/results/flush.json and flush.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import anyio

from bench.flush.drawing import draw
from bench.flush.killing import Outcome, run
from memory import cluster
from memory.postgres import EmbeddedPostgres

RESULTS = Path(__file__).parents[1] / "results" / "flush.json"


async def main(points: int, seed: int) -> Outcome:
    """A fresh home and server, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="soul-"))
    server = EmbeddedPostgres(home)
    address = await server.ensure()
    folder = quote(str(address.socket_folder), safe="")
    url = f"postgresql://{cluster.USER}@/{cluster.USER}?host={folder}&port={cluster.PORT}"
    try:
        return await run(home, url, points, seed)
    finally:
        await server.stop()
        shutil.rmtree(home)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="bench.flush")
    options.add_argument("--points", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--quick", action="store_true", help="10 points, nothing written")
    given = options.parse_args()
    outcome = anyio.run(main, 10 if given.quick else given.points, given.seed)
    figures = {**vars(outcome), "states": dict(outcome.states), "seed": given.seed}
    if not given.quick:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
        draw(figures, RESULTS.with_suffix(".png"))
    del figures["kills"]
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if outcome.violations else 0)
