"""Placing a work order: the intent as words and as a vector, with what memory holds nearest to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from agents.orders import CLIENT
from memory.recall import Query

if TYPE_CHECKING:
    from agents.director import Director
    from agents.orders import Order, Orders
    from memory.memory import Memory

NEAREST = 3
NEAREST_CHARACTERS = 300


def criteria(acceptance: Sequence[str], constraints: Sequence[str]) -> list[str]:
    """By what the outcome of an order is judged: its own criteria, and what holds for each."""
    return [
        *acceptance,
        "The task is done as asked.",
        *(f"Kept: {rule}" for rule in constraints),
        "The outcome says what was done, what was seen, and names what was made or changed.",
    ]


async def place(
    memory: Memory,
    director: Director,
    orders: Orders,
    task: str,
    constraints: Sequence[str],
    context: str,
    client: str,
    session: str,
    agent: str = CLIENT,
    budget: dict[str, Any] | None = None,
    acceptance: Sequence[str] = (),
    id: UUID | None = None,
    withheld: Callable[[str], str] = lambda _: "",
) -> Order:
    """Records an order for `agent` with its embedding state and the packet that remembers it.

    `embedding_state` is `{embedder, dimension, vector, nearest: [{id, source, score, prose}]}`; without an embedder
    the vector is empty and the nearest memories come by keyword. What `withheld` says a word about is not sent along.
    An order of that `id` that is there already is left as it is.
    """
    hits = await memory.recall.search(Query(text=task[:2_000], k=NEAREST))
    vector = await memory.recall.embed(task[:2_000]) if memory.embedder is not None else None
    state: dict[str, Any] = {
        "embedder": memory.embedder.id if memory.embedder is not None else "",
        "dimension": len(vector) if vector is not None else 0,
        "vector": [round(float(x), 6) for x in vector] if vector is not None else [],
        "nearest": [
            {"id": str(hit.id), "source": hit.citation, "score": hit.score, "prose": hit.prose[:NEAREST_CHARACTERS]}
            for hit in hits
            if not withheld(hit.prose)
        ],
    }
    needs = criteria(acceptance, constraints)
    order = await orders.add(task, constraints, context, needs, state, client, session, agent, budget, id)
    words = "\n".join([f"Work order: {task}", *(f"- {rule}" for rule in constraints)])
    await director.record(session, "order", words, client, order.id)
    return order
