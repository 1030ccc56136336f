"""Repeated timings: peers take turns within each round, so that what else the machine does falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Work = tuple[Callable[[], Any], Callable[[], None]]
"""What is timed, and what comes before it untimed."""


def nothing() -> None:
    """Nothing to prepare."""


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median, extremes and count, as the results hold them. Seconds."""
    return {"median": median(times), "min": min(times), "max": max(times), "n": len(times)}


def interleaved(works: Mapping[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """Times each work once per round; what it returns is freed after the clock has stopped."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, before) in works.items():
            before()
            began = time.perf_counter()
            kept = work()
            times[name].append(time.perf_counter() - began)
            del kept
    return {name: spread(found) for name, found in times.items()}
