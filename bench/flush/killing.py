"""Kills a process with -9 at random points around its flushes, and looks each time at what is left in the database.

Knows what must hold: every window turn is in the store, none twice; the notebook is one of its versions, whole. Does
not know how the flush is made.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from tests.models import parrot

ROOT = Path(__file__).parents[2]
AFTER_FLUSH_S = 0.12
"""A kill comes up to so long after a flush began, which takes about half of it."""
AFTER_READY_S = 0.8
PATIENCE_S = 60.0
ERRORS = "worker.log"
NOTES = (
    "The Director kept this: port 5433, Ada, 2026-11-21. End of notes one.",
    "Another time it kept that: the deadline is Friday. End of notes two.",
)


@dataclass
class Outcome:
    """What was seen in all kills of one run."""

    points: int = 0
    states: Counter[str] = field(default_factory=Counter[str])
    """The latest flush's state at each kill."""
    kills: list[tuple[str, float, str]] = field(default_factory=list[tuple[str, float, str]])
    """Behind what (`flush`, `ready`), after how many milliseconds, in which state of the latest flush."""
    violations: list[str] = field(default_factory=list[str])
    turns: int = 0
    flushes: int = 0
    versions: int = 0
    digests: int = 0
    seconds: float = 0.0


def models(folder: Path) -> list[Path]:
    """Two that write different notebooks and one that is untrained, so that it comes to a digest."""
    made = [
        parrot(folder / f"parrot-{place}", {"": "Aye.", "Rewrite": notes}, name=f"parrot-{place}")
        for place, notes in enumerate(NOTES)
    ]
    return [*made, parrot(folder / "stand-in", "Aye.", trained=False, name="stand-in")]


async def run(home: Path, url: str, points: int, seed: int) -> Outcome:
    """`points` kills, one after the other over the same database; then one process that ends by itself."""
    random_ = random.Random(seed)
    outcome = Outcome()
    found = models(home)
    first, answered = 1, set[int]()
    began = time.monotonic()
    for _ in range(points):
        model = random_.choice(found)
        after_flush = random_.random() < 0.8
        delay = random_.random() * (AFTER_FLUSH_S if after_flush else AFTER_READY_S)
        lines = await anyio.to_thread.run_sync(_killed, home, url, model, first, after_flush, delay)
        first = _note(lines, answered, first)
        outcome.points += 1
        state = await _look(url, outcome, answered)
        outcome.states[state] += 1
        outcome.kills.append(("flush" if after_flush else "ready", round(delay * 1000, 1), state))
    lines = await anyio.to_thread.run_sync(_ended, home, url, found[0], first)
    first = _note(lines, answered, first)
    await _look(url, outcome, answered, last=True)
    outcome.turns, outcome.seconds = first - 1, time.monotonic() - began
    return outcome


def _start(home: Path, url: str, model: Path, first: int, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.flush.worker", str(home), url, str(model), str(first), str(number)]
    with (home / ERRORS).open("wb") as errors:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)


def _killed(home: Path, url: str, model: Path, first: int, after_flush: bool, delay: float) -> list[str]:
    """Starts a worker, kills it, and returns what it had said."""
    process = _start(home, url, model, first, 0)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.strip() == ("flush" if after_flush else "ready"):
            break
    time.sleep(delay)  # the point: any moment
    by_itself = process.poll()
    process.kill()
    # By the same reader, which has read further than it gave out: `communicate` would lose what it holds.
    lines += process.stdout.read().splitlines()
    process.stdout.close()
    process.wait(PATIENCE_S)
    if by_itself is not None:
        raise RuntimeError(f"the worker failed by itself: {(home / ERRORS).read_text()[-2000:]}")
    return lines


def _ended(home: Path, url: str, model: Path, first: int) -> list[str]:
    process = _start(home, url, model, first, 2)
    said, _ = process.communicate(timeout=PATIENCE_S)
    if process.returncode != 0:
        raise RuntimeError(f"the worker failed: {(home / ERRORS).read_text()[-2000:]}")
    return said.split("\n")


def _note(lines: list[str], answered: set[int], first: int) -> int:
    """The number of the next question, which nobody has asked yet."""
    for line in lines:
        word, _, number = line.partition(" ")
        if word == "answered" and number.isdigit():
            answered.add(int(number))
        if word == "asked" and number.isdigit():
            first = max(first, int(number) + 1)
    return first


LEFT = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
TURNS = """SELECT w.role, w.content, w.packet, t.id FROM window_turns w LEFT JOIN traces t ON t.id = w.packet
           ORDER BY w.sequence"""
TWICE = "SELECT id FROM packets GROUP BY id HAVING count(*) > 1"
KEPT = """SELECT session, count(*) FILTER (WHERE kind = 'said') AS said,
                 count(*) FILTER (WHERE kind = 'answer') AS answers
          FROM packets WHERE session LIKE 'turn %' GROUP BY session"""
NOTEBOOKS = "SELECT version, content, author FROM notebooks ORDER BY version"
OPENING = "SELECT opening_text FROM windows WHERE agent = 'director'"
FLUSHES = "SELECT state, version FROM flushes ORDER BY number"


async def _look(url: str, outcome: Outcome, answered: set[int], *, last: bool = False) -> str:
    """Counts what is there and notes what should not be; the state of the latest flush."""
    connection = await asyncpg.connect(url)
    try:
        # A commit that was sent before the kill is still carried out.
        with anyio.fail_after(PATIENCE_S):
            while await connection.fetchval(LEFT):  # noqa: ASYNC110 -- the server tells nobody
                await anyio.sleep(0.005)
        rows: dict[str, list[Any]] = {}
        for name, statement in (
            ("turns", TURNS),
            ("twice", TWICE),
            ("kept", KEPT),
            ("notebooks", NOTEBOOKS),
            ("flushes", FLUSHES),
        ):
            rows[name] = await connection.fetch(statement)
        opening = await connection.fetchval(OPENING)
    finally:
        await connection.close()
    outcome.flushes, outcome.versions = len(rows["flushes"]), len(rows["notebooks"])
    outcome.digests = sum(row["author"] == "digest" for row in rows["notebooks"])
    where = "at the end" if last else f"at kill {outcome.points}"
    outcome.violations += [f"{where}: {said}" for said in violations(rows, opening, answered, last)]
    return rows["flushes"][-1]["state"] if rows["flushes"] else "none"


def violations(rows: dict[str, list[Any]], opening: str | None, answered: set[int], last: bool) -> list[str]:
    """What should not be, in words."""
    found: list[str] = []
    for turn in rows["turns"]:
        if turn["id"] is None:
            found.append(f"a window turn is not in the store: {turn['content'][:40]!r}")
    packets = [turn["packet"] for turn in rows["turns"]]
    if len(packets) != len(set(packets)):
        found.append("a turn stands twice in the window")
    if rows["twice"]:
        found.append(f"{len(rows['twice'])} packets stand twice in the store")
    kept = {int(row["session"].split()[1]): (row["said"], row["answers"]) for row in rows["kept"]}
    for number in answered:
        if kept.get(number) != (1, 1):
            found.append(f"question {number} was answered and is kept as {kept.get(number)}")
    for number, counts in kept.items():
        if max(counts) > 1:
            found.append(f"question {number} is kept as {counts}")
    asked = [int(match[1]) for turn in rows["turns"] if turn["role"] == "user" and (match := _asked(turn["content"]))]
    # The window is the end of what was asked, without a hole.
    if asked != sorted(kept)[len(kept) - len(asked) :]:
        found.append(f"the window holds questions {asked}, the store {sorted(kept)[-len(asked) - 1 :]}")
    contents = {row["version"]: row["content"] for row in rows["notebooks"]}
    if sorted(contents) != list(range(1, len(contents) + 1)):
        found.append(f"notebook versions are {sorted(contents)}")
    for row in rows["notebooks"]:
        if row["author"] != "digest" and row["content"] not in NOTES:
            found.append(f"notebook version {row['version']} is not whole: {row['content']!r}")
    if opening is not None:
        match = re.search(r"# Notebook \(version (\d+)\)\n(.*)\n\n# Mounted corpora", opening, re.DOTALL)
        if match is None or (contents.get(int(match[1]), "") or "(empty)") != match[2]:
            found.append("the notebook in the window is none of its versions")
    unfinished = [row["state"] for row in rows["flushes"] if row["state"] != "done"]
    if len(unfinished) > (0 if last else 1):
        found.append(f"unfinished flushes: {unfinished}")
    return found


def _asked(content: str) -> re.Match[str] | None:
    return re.search(r"Task from person:\nQuestion (\d+):", content)
