"""Generations: one whole generation is in force at every moment, and there is a way back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import Conflict, NotFound, Unavailable
from evolution.anchor import PLASTIC_FILE
from evolution.generations import CURRENT, Generations
from evolution.integrate import integrate
from evolution.lock import evolving
from evolution.ties import Ties
from tests.drawn import drawn
from tests.evolution.making import adapter, quiet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def three(home: Path) -> Generations:
    """A home with three generations, of which none is in force."""
    base = drawn(home / "base")
    for seed in (1, 2, 3):
        integrate(home, base, [adapter(f"week-{seed}", base, seed)], Ties(), report=quiet)
    return Generations(home)


def test_the_anchor_is_in_force_until_something_is_promoted_and_every_promotion_can_be_undone(
    three: Generations,
) -> None:
    assert (three.current(), three.served(None)) == (0, None)
    assert three.promote(1, unjudged=True) == 0
    assert three.promote(3, unjudged=True) == 1
    assert three.served(None) == three.folder(3)
    assert three.rollback() == 1
    assert three.rollback() == 0
    with pytest.raises(Conflict, match="nothing before"):
        three.rollback()


def test_a_generation_is_not_served_in_place_of_another_model(three: Generations) -> None:
    three.promote(1, unjudged=True)
    assert three.served("mlx-community/another") is None


def test_what_does_not_exist_is_broken_or_failed_its_gate_is_not_promoted(three: Generations) -> None:
    with pytest.raises(NotFound, match="no generation 9"):
        three.promote(9, unjudged=True)
    with (three.folder(2) / PLASTIC_FILE).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    with pytest.raises(Conflict, match="not what was written"):
        three.promote(2, unjudged=True)
    three.judge(3, "failed", {"gate.md": b"worse"})
    with pytest.raises(Conflict, match="failed its gate"):
        three.promote(3, unjudged=True)
    assert three.current() == 0


def test_a_generation_in_force_that_was_spoilt_is_named_and_no_other_mind_answers(three: Generations) -> None:
    three.promote(1, unjudged=True)
    os.truncate(three.folder(1) / PLASTIC_FILE, 100)
    with pytest.raises(Unavailable, match=r"not whole.*soul rollback"):
        three.served(None)
    three.rollback()
    assert three.served(None) is None


def test_a_pointer_that_cannot_be_read_is_mended_by_promoting(three: Generations) -> None:
    (three.root / CURRENT).write_text("{")
    with pytest.raises(Unavailable, match="soul promote"):
        three.current()
    three.promote(2, unjudged=True)
    assert three.current() == 2


def test_two_evolutions_at_once_are_refused_and_the_holder_is_named(home: Path) -> None:
    with (
        evolving(home, "integrate"),
        pytest.raises(Conflict, match=f"integrate, process {os.getpid()}"),
        evolving(home, "dream"),
    ):
        pass
    with evolving(home, "dream"):
        pass


def test_a_kill_at_any_moment_leaves_one_whole_generation_and_the_same_command_goes_on(home: Path) -> None:
    check_kills(home, kills=8)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_leave_one_whole_generation(home: Path) -> None:
    check_kills(home, kills=100)


def check_kills(home: Path, kills: int) -> None:
    """Kills a process that integrates and promotes in a loop, each time a little later in its work."""
    drawn(home / "base")
    random_moments = random.Random(7)
    generations = Generations(home)
    in_force: set[int] = set()
    for _ in range(kills):
        command = [sys.executable, "-m", "tests.evolution.evolving", str(home)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        for _ in range(random_moments.randrange(1, 120)):
            assert process.stdout.readline()  # a step of its work: moments are counted in steps, not in seconds
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for one in generations.all():
            generations.verify(one.number)
        number = generations.current()
        in_force.add(number)
        assert number == 0 or generations.served(None) == generations.folder(number)
    assert len(in_force) > 1
    generations.begin()
    assert len(list(generations.root.glob(".making-*"))) == 1
