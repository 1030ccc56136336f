"""The heartbeat: begins only when nothing speaks against it, ends at the first doubt, survives kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.errors import Conflict
from evolution.generations import Generations
from evolution.heartbeat import Conditions, Said, beat
from tests.drawn import drawn
from tests.evolution.test_dream import QUICK, SOUL, chats, run
from tests.evolution.test_gate import LOOSE, few, harbour

FREE = Conditions(minutes=10, disk_gb=0, power_unknown_ok=True)
DREAM = " ".join(word for word in QUICK if word != "--json")
NIGHT = {**LOOSE, "SOUL_EVOLVE_DISK_GB": "0"}


def never(words: Sequence[str], seconds: float) -> Said:
    raise AssertionError(f"{words} was begun")


def test_it_does_not_begin_while_somebody_is_at_work_or_the_disk_is_nearly_full(home: Path) -> None:
    with pytest.raises(Conflict, match=r"Director is at work.*goes on later"):
        beat(home, FREE, lambda: "The Director is at work (1 jobs).", never)
    with pytest.raises(Conflict, match="GB are free on the disk"):
        beat(home, Conditions(10, 1e9, True), lambda: "", never)
    assert not (home / "logs").exists()


def test_it_stops_at_the_first_step_that_fails_and_leaves_a_report(home: Path) -> None:
    drawn(home / "base")
    status, out, _ = run(home, "evolve", "--now", **NIGHT)
    assert status == 1
    assert "Stopped at dream" in out
    assert "no training buffer" in out
    (report,) = (home / "logs").glob("evolve-*.md")
    assert "no training buffer" in report.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_night_promotes_what_passed_and_the_next_finds_it_done(home: Path) -> None:
    drawn(home / "base")
    harbour(home)
    few(home)
    status, out, error = run(home, "evolve", "--now", "--dream", DREAM, **NIGHT)
    assert status == 0, out + error
    assert Generations(home).current() == 1
    assert "Generation 1 is in force" in out
    status, out, error = run(home, "evolve", "--now", "--dream", DREAM, **NIGHT)
    assert status == 0, out + error
    assert len(Generations(home).all()) == 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_kills_leave_one_whole_generation_in_force_and_the_same_command_goes_on(home: Path) -> None:
    """Kills the cycle with all its steps at random moments of its work, then lets it end."""
    kills = int(os.environ.get("SOUL_TEST_KILLS", "100"))
    drawn(home / "base")
    few(home)
    moments = random.Random(7)
    generations = Generations(home)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUL_")}
    environment = {**clean, **NIGHT, "SOUL_HOME": str(home), "SOUL_MODEL": str(home / "base")}
    command = [SOUL, "evolve", "--now", "--dream", DREAM]
    killed = rounds = 0
    while killed < kills:
        # Another week each few rounds, of which nothing is known, so that every step has something to do.
        week(home, rounds // 4)
        rounds += 1
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moments.uniform(0.5, 25))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        for one in generations.all():
            generations.verify(one.number)
        number = generations.current()
        assert number == 0 or generations.served(str(home / "base")) == generations.folder(number)
    week(home, rounds)
    status, out, error = run(home, "evolve", "--now", "--dream", DREAM, **NIGHT)
    assert status == 0, out + error
    assert generations.current() > 0


def week(home: Path, number: int) -> None:
    chats(
        home / "golden" / "training_buffer.jsonl",
        [(f"Week {number}, where is thing {n}?", f"It is in box {number}.") for n in range(32)],
    )
