"""How far to go from the anchor: the largest lambda that passes the gate, found by halving.

Knows lambdas and verdicts; not how a generation is made or judged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from evolution.gate import Verdict

T = TypeVar("T")


def bisected(lam: float, rounds: int, attempt: Callable[[float], tuple[T, Verdict]]) -> T:
    """What passed with the largest lambda up to `lam`; the last that failed where none did.

    A breach calls for a smaller lambda. A doubt about what was learned does not: nothing mends that.
    """
    made, verdict = attempt(lam)
    if verdict.passed or verdict.doubts:
        return made
    low, high, best = 0.0, lam, made
    for _ in range(rounds):
        middle = (low + high) / 2
        made, verdict = attempt(middle)
        if verdict.passed:
            low, best = middle, made
        else:
            high = middle
            best = best if low else made
    return best
