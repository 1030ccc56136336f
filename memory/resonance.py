"""Resonance: how much a packet deserves to shape the weights, 0..1, from parts that were observed one by one.

`R = V · (0.20 S + 0.20 N + 0.35 F + 0.25 O)`: S reducible surprise, N novelty, F a person's feedback, O the verdict on
the work order it led to; V is 0 for what may never be trained on. A part that nobody observed counts a half. Each is
kept with how it was observed. Does not know who observes (`memory.golden`, `agents.orders`, a person).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from memory.postings import LIVED

if TYPE_CHECKING:
    import asyncpg

Part = Literal["S", "N", "F", "O", "V"]
WEIGHTS: Mapping[str, float] = {"S": 0.20, "N": 0.20, "F": 0.35, "O": 0.25}
UNKNOWN = 0.5
STAND_IN = "the words of a stand-in"
"""What an agent wrote with a resonance of 0 (`agents.agent`); nothing that is observed later makes it valid."""
VERDICTS: Mapping[str, float] = {"accept": 1.0, "revise": 0.5, "reject": 0.0}

Parts = dict[str, dict[str, Any]]
"""By part: `value` 0..1 and `how` it was observed."""


def resonance(parts: Mapping[str, Mapping[str, Any]]) -> float:
    """The formula. V is 1 unless something was held against the packet."""
    valid = float(parts["V"]["value"]) if "V" in parts else 1.0
    return valid * sum(
        weight * (float(parts[name]["value"]) if name in parts else UNKNOWN) for name, weight in WEIGHTS.items()
    )


HELD = f"""SELECT id, resonance, resonance_parts::text AS parts FROM packets
          WHERE corpus_id = {LIVED} AND id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"""
KEEP = f"UPDATE packets SET resonance_parts = $2::text::jsonb, resonance = $3 WHERE corpus_id = {LIVED} AND id = $1"
TRACE = "UPDATE traces SET resonance = $2 WHERE id = $1"


async def observe(connection: asyncpg.Connection, ids: Sequence[UUID], part: Part, value: float, how: str) -> int:
    """Keeps one part for packets of lived memory, in the caller's transaction; says how many there were."""
    rows = await connection.fetch(HELD, list(ids))
    for row in rows:
        parts: Parts = json.loads(row["parts"]) if row["parts"] else {}
        if not parts and row["resonance"] == 0:
            parts["V"] = {"value": 0.0, "how": STAND_IN}
        if part == "V" and parts.get("V", {}).get("how") == STAND_IN:
            continue
        parts[part] = {"value": value, "how": how}
        weight = resonance(parts)
        await connection.execute(KEEP, row["id"], json.dumps(parts), weight)
        await connection.execute(TRACE, row["id"], weight)
    return len(rows)


LED_TO = f"""
SELECT p.id FROM packets p JOIN orders o ON o.id = $1
WHERE p.corpus_id = {LIVED} AND p.kind IN ('said', 'answer') AND (p.work_order = o.id OR p.session = o.session)
"""


async def judged(connection: asyncpg.Connection, order: UUID, verdict: str, by: str) -> None:
    """A work order got its verdict: what was said in the session that led to it is weighed by that."""
    ids = [row["id"] for row in await connection.fetch(LED_TO, order)]
    await observe(connection, ids, "O", VERDICTS[verdict], f"{verdict} by {by}, work order {order}")
