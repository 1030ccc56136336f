"""The review of an attempt, the same for every kind of Hands: the Director judges, and a stand-in only says so.

Knows what a verdict leads to and how it is told; does not know how the attempt came about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from agents.orders import Attempt, Order, Orders, ReviewVerdict
from engine.errors import SoulError

if TYPE_CHECKING:
    from agents.director import Director


@dataclass(frozen=True)
class Review:
    """What came of it. `verdict` is None where a person has to decide; `words` are for whoever reported."""

    verdict: ReviewVerdict | None
    order: Order
    attempt: Attempt
    words: str


async def review(director: Director, orders: Orders, order: Order, attempt: Attempt, session: str) -> Review:
    """Lets the Director judge the attempt and records the verdict; one that does not count is recorded as words."""
    person = f"`soul order review {order.id} accept|revise|reject`"
    try:
        judgement = await director.review(order, attempt)
    except SoulError as error:
        words = f"Recorded attempt {attempt.number}, not reviewed: {error}\nA person decides: {person}."
        return Review(None, order, attempt, words)
    said = f"{judgement.words}\n{judgement.reason}"
    await director.record(session, "review", said, judgement.by, order.id, binding=judgement.binding)
    if not judgement.binding:
        words = (
            f"Recorded attempt {attempt.number}. The Director's model is a stand-in, so its review does not "
            f"count; it would say {judgement.words}. A person decides: {person}."
        )
        return Review(None, order, attempt, words)
    verdict = cast(ReviewVerdict, judgement.choice)
    order, attempt = await orders.decide(order.id, verdict, judgement.reason, judgement.by)
    return Review(verdict, order, attempt, verdict_text(order, attempt))


def verdict_text(order: Order, attempt: Attempt) -> str:
    """The verdict as the Hands read it, and what follows from it."""
    head = (
        f"Attempt {attempt.number} on work order {order.id}: {attempt.verdict} (by {attempt.decided_by}). {attempt.why}"
    )
    match order.state:
        case "accepted":
            return f"{head}\nThe order is closed."
        case "rejected":
            return f"{head}\nThe order is closed as rejected."
        case _:
            left = order.budget["rounds"] - attempt.number
            return f"{head}\nRevise accordingly and report again ({left} round{'s' if left != 1 else ''} left)."
