"""The golden log: exchanges worth learning from, proposed with their reasons, accepted or struck by a person.

An exchange is a question put to an agent and its answer. Knows how they are found in lived memory, what speaks for and
against them, and the file that a dream reads. Does not train.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import anyio.to_thread

from engine.errors import Conflict, NotFound
from memory.postings import LIVED
from memory.resonance import STAND_IN, observe
from memory.secrets import secret_in

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

State = Literal["proposed", "accepted", "struck"]

PROPOSED_FROM = 0.5
"""Resonance from which an exchange is proposed: what nobody praised must be as new as it is unjudged."""
LOOKED_AT = 500
"""The latest exchanges that one look weighs."""
RUN = 8
"""So many words in a row that also stand in outside text make an answer an echo of it."""
BUFFER = "training_buffer.jsonl"


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, with what was observed of the answer."""

    answer: UUID
    question: UUID
    time: datetime
    agent: str
    asked: str
    answered: str
    resonance: float
    parts: dict[str, Any]
    state: State | None = None
    """None: not in the golden log."""


class Golden:
    """The golden log of one home."""

    FIELDS = """a.id AS answer, q.id AS question, a.time, a.agent, q.prose AS asked, a.prose AS answered,
                a.resonance, a.resonance_parts::text AS parts"""
    # Ids are made in the order of time.
    FRESH = f"""
    SELECT {FIELDS} FROM packets a CROSS JOIN LATERAL (
        SELECT id, prose, kind FROM packets
        WHERE corpus_id = {LIVED} AND session = a.session AND agent = a.agent AND id < a.id
          AND kind IN ('said', 'answer') AND origin NOT LIKE '%:context' ORDER BY id DESC LIMIT 1) q
    WHERE a.corpus_id = {LIVED} AND a.kind = 'answer' AND q.kind = 'said'
      AND NOT EXISTS (SELECT FROM golden g WHERE g.answer = a.id)
    ORDER BY a.id DESC LIMIT {LOOKED_AT}
    """
    KEPT = f"""
    SELECT {FIELDS}, g.state FROM golden g
    JOIN packets a ON a.corpus_id = {LIVED} AND a.id = g.answer
    JOIN packets q ON q.corpus_id = {LIVED} AND q.id = g.question
    WHERE ($1::text IS NULL OR g.state = $1) AND ($2::uuid[] IS NULL OR g.answer = ANY($2) OR g.question = ANY($2))
    ORDER BY g.answer
    """
    # Tool results, what a client gave as context, and what the Hands reported.
    OUTSIDE = """
    SELECT o.prose FROM packets a JOIN packets o ON o.session = a.session AND o.id > $1 AND o.id < $2
    WHERE a.corpus_id = 0 AND a.id = $2
      AND (o.kind IN ('result', 'outcome') OR o.kind = 'said' AND o.origin LIKE '%:context')
    """
    NEAREST = f"""
    SELECT 1 - min(one.near <=> other.near) FROM nearness one
    JOIN traces t ON t.no = one.no
    JOIN nearness other ON other.corpus_id = {LIVED} AND other.embedder = one.embedder AND other.no < one.no
    JOIN traces o ON o.no = other.no AND o.id <> $2
    WHERE t.id = $1
    """
    EMBEDDED = "SELECT EXISTS (SELECT FROM nearness n JOIN traces t ON t.no = n.no WHERE t.id = $1)"
    PROPOSE = (
        "INSERT INTO golden (answer, question) SELECT * FROM unnest($1::uuid[], $2::uuid[]) ON CONFLICT DO NOTHING"
    )
    DECIDE = "UPDATE golden SET state = $2, decided_by = $3, decided = now() WHERE answer = ANY($1::uuid[])"
    VECTORS = f"""SELECT id, embedding::real[] AS vector FROM packets
                  WHERE corpus_id = {LIVED} AND id = ANY($1::uuid[]) AND embedding IS NOT NULL"""
    ANY = "SELECT EXISTS (SELECT FROM golden WHERE state <> 'proposed')"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def propose(self) -> int:
        """Weighs the latest exchanges that are not in the log and proposes those that resonate; says how many."""
        fresh = [_exchange(row) for row in await self._database.fetch(self.FRESH)]
        good: list[Exchange] = []
        for one in fresh:
            against = await self._against(one)
            near = await self._database.fetchval(self.NEAREST, one.answer, one.question)
            known = bool(await self._database.fetchval(self.EMBEDDED, one.answer))
            novelty = (1.0 if near is None else min(1.0, max(0.0, 1.0 - float(near)))) if known else None
            await self._database.run(partial(_weigh, one, against, novelty))
            good += [] if against else [one]
        weighed = {row["id"]: float(row["resonance"]) for row in await self._weights([one.answer for one in good])}
        chosen = [one for one in good if weighed.get(one.answer, 0.0) >= PROPOSED_FROM]
        await self._database.execute(self.PROPOSE, [one.answer for one in chosen], [one.question for one in chosen])
        return len(chosen)

    WEIGHTS = f"SELECT id, resonance FROM packets WHERE corpus_id = {LIVED} AND id = ANY($1::uuid[])"

    async def _weights(self, ids: Sequence[UUID]) -> list[asyncpg.Record]:
        return await self._database.fetch(self.WEIGHTS, list(ids))

    async def _against(self, one: Exchange) -> str:
        """Why an exchange may never be trained on; "" when it may."""
        if one.parts.get("V", {}).get("how") == STAND_IN or (one.resonance == 0.0 and not one.parts):
            return STAND_IN
        for text, whose in ((one.asked, "question"), (one.answered, "answer")):
            if kind := await anyio.to_thread.run_sync(secret_in, text):
                return f"a secret in the {whose}: {kind}"
        rows = await self._database.fetch(self.OUTSIDE, one.question, one.answer)
        if any(echoes(one.answered, row["prose"]) for row in rows):
            return "the answer repeats outside text"
        return ""

    async def list(self, state: State | None = None) -> list[Exchange]:
        """The log, the oldest first."""
        return [_exchange(row) for row in await self._database.fetch(self.KEPT, state, None)]

    async def show(self, id: UUID) -> Exchange:
        """One exchange, by the id of its answer or its question. Raises NotFound."""
        rows = await self._database.fetch(self.KEPT, None, [id])
        if not rows:
            raise NotFound(f"{id} is not in the golden log.", "`soul golden list` shows what is.")
        return _exchange(rows[0])

    async def decide(self, ids: Sequence[UUID], state: State, by: str) -> list[Exchange]:
        """Accepts or strikes exchanges, all or none. Raises NotFound; Conflict where one may not be trained on."""
        found = [await self.show(id) for id in ids]
        for one in found:
            if state == "accepted" and (against := await self._against(one)):
                raise Conflict(f"{one.answer} may not be trained on: {against}.", f"soul golden strike {one.answer}")
        await self._database.execute(self.DECIDE, [one.answer for one in found], state, by)
        return found

    async def feedback(self, id: UUID, good: bool, by: str) -> None:
        """A person's word on a packet; it counts for its whole exchange. Raises NotFound."""

        async def work(connection: asyncpg.Connection) -> int:
            rows = await connection.fetch(self.PARTNER, id)
            ids = [id, *(row["id"] for row in rows)]
            return await observe(connection, ids, "F", float(good), f"{'accepted' if good else 'rejected'} by {by}")

        if not await self._database.run(work):
            raise NotFound(f"There is no memory {id} of what was lived.", "`soul recall` shows ids.")

    # Of an answer its question; of a question nothing: its answer may not be the only one.
    PARTNER = f"""
    SELECT q.id FROM packets a CROSS JOIN LATERAL (
        SELECT id, kind FROM packets WHERE corpus_id = {LIVED} AND session = a.session AND agent = a.agent AND id < a.id
          AND kind IN ('said', 'answer') AND origin NOT LIKE '%:context' ORDER BY id DESC LIMIT 1) q
    WHERE a.corpus_id = {LIVED} AND a.id = $1 AND a.kind = 'answer' AND q.kind = 'said'
    """

    async def vectors(self, ids: Sequence[UUID]) -> dict[UUID, list[float]]:
        """The vectors of those answers that have one."""
        return {row["id"]: list(row["vector"]) for row in await self._database.fetch(self.VECTORS, list(ids))}

    async def export(self, folder: Path) -> Path | None:
        """Writes what is accepted as chats in JSON lines, the file that a dream reads.

        None, and nothing written, before any decision: a file that a person put there stays.
        """
        mine = await anyio.to_thread.run_sync(_written_here, folder / BUFFER)
        if not mine and not await self._database.fetchval(self.ANY):
            return None
        lines = [as_line(one) for one in await self.list("accepted")]

        def write() -> Path:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh, path = folder / f".{BUFFER}", folder / BUFFER
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            return path

        return await anyio.to_thread.run_sync(write)


async def _weigh(one: Exchange, against: str, novelty: float | None, connection: asyncpg.Connection) -> None:
    both = [one.question, one.answer]
    await observe(connection, both, "V", 0.0 if against else 1.0, against or "nothing speaks against it")
    if novelty is not None:
        await observe(connection, both, "N", novelty, "1 - cosine of the answer to the nearest memory")


def _written_here(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return '"packets"' in file.readline()
    except FileNotFoundError:
        return False


def as_line(one: Exchange) -> str:
    """mlx-lm's chat form, with the packets it came from."""
    messages = [{"role": "user", "content": one.asked}, {"role": "assistant", "content": one.answered}]
    said = {"messages": messages, "packets": [str(one.question), str(one.answer)]}
    return json.dumps(said, ensure_ascii=False) + "\n"


def echoes(text: str, outside: str) -> bool:
    """Whether RUN words in a row of `text` stand in `outside`, too."""
    mine, theirs = text.lower().split(), outside.lower().split()
    runs = {tuple(theirs[at : at + RUN]) for at in range(len(theirs) - RUN + 1)}
    return any(tuple(mine[at : at + RUN]) in runs for at in range(len(mine) - RUN + 1))


def _exchange(row: asyncpg.Record) -> Exchange:
    values: dict[str, Any] = dict(row)
    values["parts"] = json.loads(values["parts"]) if values["parts"] else {}
    return Exchange(**values)
