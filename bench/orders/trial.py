"""Orders under fire: workers are killed at random moments until every order is closed; then the rows are counted."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import asyncpg

CLAUDE = """#!/bin/sh
# Notes that it ran, then does what the task says.
words=$(cat)
echo "$SOUL_RUN" >> "{log}"
case "$words" in
  *fault=kill*) kill -9 $$ ;;
  *fault=hang*) sleep 600 ;;
  *fault=garbage*) echo lorem ipsum; exit 0 ;;
  *fault=status*) echo boom >&2; exit 3 ;;
  *fault=login*) echo '{{"type":"result","is_error":true,"result":"Not logged in"}}'; exit 1 ;;
esac
sleep 0.05
echo '{{"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"s"}}'
"""
TABLE = """
[{name}]
role = "builder"
runs_on = "claude"
folder = "{folder}"
command = "{command}"
minutes = 0.01
turns = 5
usd = 1.0
safe_to_repeat = {repeat}
"""
STATES = "SELECT state, agent, count(*) AS n FROM orders GROUP BY 1, 2"
RUNS = "SELECT id::text AS id, work_order::text AS work_order, agent, state FROM hands_runs ORDER BY started, id"
CLOSED = {"accepted", "rejected", "failed"}


@dataclass(frozen=True)
class Counted:
    """What is in the rows. `run_twice` and `begun_again` must be 0, `open` too."""

    orders: int
    states: dict[str, int]
    open: int
    runs: dict[str, int]
    kills: int
    run_twice: int
    """Runs whose process was started more than once."""
    begun_again: int
    """Orders not marked safe to repeat that were begun after a run that was lost or had failed."""
    repeated: int
    """Orders marked safe to repeat that were."""


def prepare(home: Path, work: Path) -> Path:
    """Writes the fake command and agents.toml; the log of its starts."""
    log = home / "starts.log"
    command = home / "claude"
    command.write_text(CLAUDE.format(log=log))
    command.chmod(0o755)
    tables = [
        TABLE.format(name=name, folder=work, command=command, repeat=repeat)
        for name, repeat in (("once", "false"), ("again", "true"))
    ]
    (home / "agents.toml").write_text("".join(tables))
    log.touch()
    return log


def fire(
    home: Path,
    url: str,
    number: int,
    seed: int,
    module: str = "bench.orders.worker",
    least_s: float = 2.0,
    most_s: float = 6.0,
    most_kills: float = math.inf,
) -> int:
    """Runs workers, each killed (-9) after a random time, until one comes to the end by itself; the number of kills.

    After `most_kills` of them the next worker is left alone.
    """
    dice, kills = random.Random(seed), 0
    while True:
        worker = [sys.executable, "-m", module, str(home), url, str(number), str(dice.random())[2:8]]
        with (home / "worker.log").open("a") as output, subprocess.Popen(worker, stdout=output, stderr=output) as one:
            patience = dice.uniform(least_s, most_s) * (1 + kills / 20)
            try:
                if one.wait(timeout=patience if kills < most_kills else None) != 0:
                    raise RuntimeError((home / "worker.log").read_text()[-4_000:])
                return kills
            except subprocess.TimeoutExpired:
                one.kill()
                kills += 1


async def count(url: str, log: Path, kills: int) -> Counted:
    """Counts the rows and compares them with the starts that the fake command noted."""
    connection = await asyncpg.connect(url)
    try:
        states, runs = await connection.fetch(STATES), await connection.fetch(RUNS)
    finally:
        await connection.close()
    by_state: Counter[str] = Counter()
    for row in states:
        by_state[row["state"]] += row["n"]
    starts = Counter(log.read_text().split())  # noqa: ASYNC240 -- nothing else runs here
    ended: dict[str, str] = {}
    again: Counter[str] = Counter()
    for row in runs:
        if ended.get(row["work_order"]) in ("lost", "failed"):
            again[row["agent"]] += 1
        ended[row["work_order"]] = row["state"]
    return Counted(
        sum(by_state.values()),
        dict(by_state),
        sum(n for state, n in by_state.items() if state not in CLOSED),
        dict(Counter(row["state"] for row in runs)),
        kills,
        sum(1 for n in starts.values() if n > 1),
        again["once"],
        again["again"],
    )
