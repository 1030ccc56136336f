"""The heartbeat: dream, integrate, gate, promote, one after the other, unattended, until the first doubt.

Each step is a command in a process of its own, so that a kill at any moment costs what that step's own resuming costs,
and the same command goes on. Knows when it may begin, and the morning report; what the steps do is their own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from engine.errors import Conflict

Command = Callable[[Sequence[str], float], "Said"]
"""Runs `soul` with these words for at most so many seconds."""


@dataclass(frozen=True)
class Said:
    """How a command ended. `status` None: it ran out of time and was ended."""

    status: int | None
    out: str
    error: str


@dataclass(frozen=True)
class Conditions:
    """When an unattended cycle may run."""

    minutes: float
    disk_gb: float
    power_unknown_ok: bool


@dataclass
class Morning:
    """What happened, for the person who reads it in the morning."""

    began: datetime
    steps: list[tuple[str, float, str]] = field(default_factory=list[tuple[str, float, str]])
    """(command, seconds, what came of it)"""
    end: str = ""
    promoted: int | None = None

    def markdown(self) -> str:
        lines = [f"# The night of {self.began:%Y-%m-%d}", "", self.end, "", "| step | seconds | |", "|---|---|---|"]
        lines += [f"| {name} | {seconds:.0f} | {said} |" for name, seconds, said in self.steps]
        return "\n".join([*lines, ""])


def on_mains(unknown_ok: bool) -> str:
    """Why the power speaks against it; "" when nothing does."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is None or battery.power_plugged is None:
        return "" if unknown_ok else "Whether this machine runs on mains power is unknown (evolve_power_unknown)."
    return "" if battery.power_plugged else "The machine runs on its battery."


def against(home: Path, conditions: Conditions, busy: str) -> str:
    """The first thing that speaks against beginning now; "" when nothing does. `busy` says who is at work."""
    if reason := on_mains(conditions.power_unknown_ok):
        return reason
    if busy:
        return busy
    free = shutil.disk_usage(home).free / 1e9
    if free < conditions.disk_gb:
        return f"{free:.1f} GB are free on the disk, and {conditions.disk_gb:g} are wanted (evolve_disk_gb)."
    return ""


def beat(
    home: Path, conditions: Conditions, busy: Callable[[], str], run: Command, dream: Sequence[str] = ()
) -> Morning:
    """One cycle; its report is written to `SOUL_HOME/logs` whatever comes of it. `dream`: words for `soul dream`.

    Raises Conflict, and writes nothing, when something speaks against beginning at all.
    """
    if reason := against(home, conditions, busy()):
        raise Conflict(f"Not now: {reason}", "The same command goes on later; --now passes over power and idleness.")
    morning = Morning(datetime.now())
    deadline = time.monotonic() + 60 * conditions.minutes
    try:
        _cycle(home, conditions, busy, run, dream, morning, deadline)
    finally:
        folder = home / "logs"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        report = folder / f"evolve-{morning.began:%Y-%m-%d-%H%M%S}.md"
        report.write_text(morning.markdown(), encoding="utf-8")
    return morning


def _cycle(
    home: Path,
    conditions: Conditions,
    busy: Callable[[], str],
    run: Command,
    dream: Sequence[str],
    morning: Morning,
    deadline: float,
) -> None:
    made: dict[str, object] = {}
    for name, words in (("dream", ("dream", "--json", *dream)), ("integrate", ("integrate", "--gate", "--json"))):
        if reason := against(home, conditions, busy()):
            morning.end = f"Stopped before {name}: {reason} The same command goes on."
            return
        said = _step(run, morning, words, deadline)
        if said.status is None:
            morning.end = f"Out of time in {name}. The same command goes on."
            return
        if said.status != 0:
            morning.end = f"Stopped at {name}: {_words(said)}"
            return
        made = json.loads(said.out)
    number = int(str(made["number"]))
    report = home / "generations" / str(number) / "gate.md"
    if made.get("verdict") != "passed":
        morning.end = f"Generation {number} did not pass its gate; what was in force stays. See {report}."
        return
    said = _step(run, morning, ("promote", str(number)), deadline)
    if said.status != 0:
        morning.end = f"Generation {number} passed its gate and was not promoted: {_words(said)}"
        return
    morning.promoted = number
    morning.end = f"Generation {number} is in force. `soul rollback` undoes it. See {report}."


def _step(run: Command, morning: Morning, words: Sequence[str], deadline: float) -> Said:
    started = time.monotonic()
    said = run(words, max(0.0, deadline - started))
    outcome = "out of time" if said.status is None else "done" if said.status == 0 else _words(said)
    morning.steps.append((f"`soul {' '.join(words)}`", time.monotonic() - started, outcome))
    return said


def _words(said: Said) -> str:
    return " ".join(said.error.split())[:400] or f"exit status {said.status}"


def run_command(script: str, home: Path) -> Command:
    """Runs the real command; one that runs out of time is killed, which no step minds."""

    def run(words: Sequence[str], seconds: float) -> Said:
        command = [script, words[0], "--home", str(home), *words[1:]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return Said(None, "", "")
        return Said(done.returncode, done.stdout, done.stderr)

    return run
