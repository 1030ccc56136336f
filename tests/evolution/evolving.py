"""A process that evolves without end: integrates adapter after adapter, promotes and rolls back. Says every step."""

from __future__ import annotations

import sys
from pathlib import Path

from evolution.adapter import Adapter
from evolution.generations import Generations
from evolution.integrate import integrate
from evolution.lock import evolving
from evolution.ties import Ties
from tests.evolution.making import adapter


def step(detail: str, share: float | None) -> None:
    print(detail, share, flush=True)


def run(home: Path) -> None:
    generations = Generations(home)
    done = len(generations.all())
    kept: list[Adapter] = [adapter(f"week-{seed}", home / "base", seed) for seed in range(1, done + 2)]
    while True:
        with evolving(home, "integrate"):
            made = integrate(home, home / "base", kept[-2:], Ties(), report=step)
            step("made", None)
            generations.promote(made.number, unjudged=True)
            step("promoted", None)
            if made.number % 3 == 0:
                generations.rollback()
                step("rolled back", None)
        kept.append(adapter(f"week-{len(kept) + 1}", home / "base", len(kept) + 1))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
