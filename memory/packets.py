"""Packets: the atoms of memory, written once and kept word for word.

Knows what a packet is and how it is written and read back. Does not know how packets are ranked (`memory.recall`) nor
how text from files becomes packets (`memory.corpora`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID

import anyio.to_thread
import xxhash

from engine.errors import InvalidInput, NotFound
from memory import languages, postings
from memory.lexemes import count
from memory.postings import LIVED, PRIVATE, TRAFFIC, Trace
from memory.text import cleaned

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

Kind = Literal[
    "said", "answer", "thought", "call", "result", "note", "chunk", "order", "outcome", "review", "self", "event"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
TRAFFIC_KINDS: frozenset[Kind] = frozenset({"call", "result", "event"})
"""What passes between the parts; remembered, but recalled only when somebody asks for these kinds."""

COUNT_IN_THREAD = 20_000
"""Characters from which the words are counted in a worker thread, so that a pasted megabyte does not stall others."""


@dataclass(frozen=True)
class Packet:
    """One thing remembered. Prose is verbatim but for characters that Postgres and terminals cannot take."""

    id: UUID
    """UUIDv7 made by the writer: writing the same packet twice is the same as writing it once."""
    time: datetime
    """With a time zone."""
    agent: str
    session: str
    """What belongs together and is ordered by `sequence`; of a chunk, the path of its file."""
    sequence: int
    kind: Kind
    prose: str
    corpus: str | None = None
    """None: lived memory."""
    origin: str = ""
    """Whose words these are: `person`, `director`, `tool:recall`, `hands`, `corpus`. Outside text is data."""
    resonance: float = 0.5
    generation: str = ""
    work_order: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def private(self) -> bool:
        """Whether it came of private work; `{"private": True}` in the metadata, which exports carry along."""
        return self.metadata.get("private") is True


class Packets:
    """Reads and writes packets."""

    def __init__(self, database: Database, written: Callable[[], None] = lambda: None) -> None:
        """`written` is called after each commit; it wakes whoever makes the vectors."""
        self._database = database
        self._written = written

    async def write(self, packets: Sequence[Packet]) -> None:
        """Commits all of them, or none; those that are there already stay as they are.

        They can be found by their words at once, and by their meaning when the background embedding has come to them.

        Raises:
            InvalidInput: an argument is out of range, or a packet claims to belong to a corpus.
        """
        if packets:
            await self._database.run(lambda connection: self.add(connection, packets))
            self.committed()

    async def add(self, connection: asyncpg.Connection, packets: Sequence[Packet]) -> None:
        """Writes them in the caller's transaction, who calls `committed` when it is through. Raises as `write` does."""
        for packet in packets:
            _check(packet)
        groups: defaultdict[int, list[Packet]] = defaultdict(list)
        for packet in packets:
            of_kind = TRAFFIC if packet.kind in TRAFFIC_KINDS else LIVED
            groups[PRIVATE if packet.private else of_kind].append(packet)
        for corpus_id, group in sorted(groups.items()):
            await insert(connection, corpus_id, group)

    def committed(self) -> None:
        """Wakes whoever makes the vectors of what was written."""
        self._written()

    GET = """
    SELECT p.id, p.time, p.agent, p.session, p.sequence, p.kind, p.prose, c.name AS corpus, p.origin, p.resonance,
           p.generation, p.work_order, p.metadata::text AS metadata
    FROM traces t JOIN packets p ON p.corpus_id = t.corpus_id AND p.id = t.id LEFT JOIN corpora c ON c.id = t.corpus_id
    WHERE t.id = $1
    """

    async def get(self, id: UUID) -> Packet:
        """The packet of that id.

        Raises:
            NotFound: there is none.
        """
        row = await self._database.fetchrow(self.GET, id)
        if row is None:
            raise NotFound(f"There is no packet {id}.", "Take an id from a recall result.")
        packet = Packet(**dict(row))
        return replace(packet, metadata=MappingProxyType(json.loads(row["metadata"])))

    OWED = "SELECT count(*) FROM owed"

    async def owed(self) -> int:
        """How many packets are found by their words alone so far, because their vector is still to be made."""
        return int(await self._database.fetchval(self.OWED))

    COUNT = """
    SELECT count(*) FROM packets
    WHERE ($1::text IS NULL OR agent = $1) AND ($2::text IS NULL OR kind = $2)
      AND ($3::text IS NULL OR session = $3) AND ($4 OR corpus_id < 16)
    """
    COUNT_ALL = "SELECT coalesce(sum(packets), 0) FROM extents WHERE $1 OR corpus_id < 16"

    async def count(
        self,
        *,
        agent: str | None = None,
        kind: Kind | None = None,
        session: str | None = None,
        corpora: bool = False,
    ) -> int:
        """How many packets there are, of lived memory or, with `corpora`, of all."""
        if agent is None and kind is None and session is None:
            return int(await self._database.fetchval(self.COUNT_ALL, corpora))
        return int(await self._database.fetchval(self.COUNT, agent, kind, session, corpora))


INSERT = """
INSERT INTO packets (corpus_id, id, time, agent, session, sequence, kind, origin, prose, resonance, generation,
                     work_order, content_hash, metadata)
SELECT $1, id, time, agent, session, sequence, kind, origin, prose, resonance, generation, work_order, hash, meta::jsonb
FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[], $9::text[],
            $10::real[], $11::text[], $12::uuid[], $13::text[], $14::text[])
     AS new (id, time, agent, session, sequence, kind, origin, prose, resonance, generation, work_order, hash, meta)
ON CONFLICT (corpus_id, id) DO NOTHING
RETURNING id, no
"""


SPEAK = "INSERT INTO languages (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"


async def insert(
    connection: asyncpg.Connection, corpus_id: int, packets: Sequence[Packet], language: str | None = None
) -> int:
    """Writes packets of one corpus and all that is derived from them, in the caller's transaction; says how many
    were new. `language` is the stemmer for their words, None each text's own."""
    prose = [cleaned(packet.prose) for packet in packets]
    rows = await connection.fetch(
        INSERT,
        corpus_id,
        [p.id for p in packets],
        [p.time for p in packets],
        [cleaned(p.agent) for p in packets],
        [cleaned(p.session) for p in packets],
        [p.sequence for p in packets],
        [p.kind for p in packets],
        [cleaned(p.origin) for p in packets],
        prose,
        [p.resonance for p in packets],
        [p.generation for p in packets],
        [p.work_order for p in packets],
        [content_hash(text) for text in prose],
        [json.dumps(_clean(p.metadata)) for p in packets],
    )
    numbers = {row["id"]: row["no"] for row in rows}
    new = [(p, text) for p, text in zip(packets, prose, strict=True) if p.id in numbers]

    def traces() -> tuple[list[Trace], set[str]]:
        found = [language or languages.detected(text) for _, text in new]
        made = [
            Trace(
                *(numbers[p.id], p.id, p.kind, p.time, p.resonance, cleaned(p.session), p.sequence),
                count(text, spoken),
            )
            for (p, text), spoken in zip(new, found, strict=True)
        ]
        return made, set(found) - {languages.ENGLISH}

    slow = not languages.ready() or sum(len(text) for _, text in new) > COUNT_IN_THREAD
    made, spoken = await anyio.to_thread.run_sync(traces) if slow else traces()
    if spoken:
        await connection.execute(SPEAK, sorted(spoken))
    await postings.add(connection, corpus_id, made)
    return len(new)


def content_hash(prose: str) -> str:
    """Tells whether two texts are the same, word for word: 128-bit xxh3 in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(prose.encode())


def _check(packet: Packet) -> None:
    if packet.corpus is not None:
        raise InvalidInput(
            f"A packet of the corpus {packet.corpus!r} cannot be written by itself.", "Index its file: soul corpus add."
        )
    if packet.kind not in KINDS:
        raise InvalidInput(f"There is no kind {packet.kind!r} of packet.", f"Kinds are: {', '.join(KINDS)}.")
    if not 0.0 <= packet.resonance <= 1.0:
        raise InvalidInput(f"A resonance of {packet.resonance} is out of range.", "It lies between 0 and 1.")
    if packet.time.tzinfo is None:
        raise InvalidInput("The time of a packet has no time zone.", "Use datetime.now(UTC).")


def _clean(value: Any) -> Any:
    """JSON with the characters dropped that Postgres refuses in jsonb."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, Mapping):
        return {cleaned(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
