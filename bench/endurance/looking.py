"""What the writers were told is committed, and whether it is all there in the end."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np

from memory.memory import Memory
from memory.recall import Query

SAMPLE = 100
"""Packets that are asked for one by one at the end."""


class Acknowledged:
    """Reads the writers' files as they grow."""

    def __init__(self, folder: Path, writers: int) -> None:
        self._paths = [folder / f"acknowledged-{number}" for number in range(writers)]
        self._places = [0] * writers
        self.ids: dict[UUID, tuple[str, str]] = {}
        """id to (word of its own, content hash)"""

    def read(self) -> list[UUID]:
        """The new ones."""
        found: list[UUID] = []
        for number, path in enumerate(self._paths):
            if not path.exists():
                continue
            with path.open() as file:
                file.seek(self._places[number])
                text = file.read()
            whole = text.rpartition("\n")[0]
            self._places[number] += len(whole) + 1 if whole else 0
            for line in whole.splitlines():
                id, word, hash = line.split()
                self.ids[UUID(id)] = (word, hash)
                found.append(UUID(id))
        return found

    def latest(self, random: np.random.Generator) -> tuple[UUID, str] | None:
        """One that was acknowledged since the last look, or any; None as long as there is none."""
        new = self.read() or list(self.ids)[-100:]
        if not new:
            return None
        id = new[int(random.integers(len(new)))]
        return id, self.ids[id][0]


HELD = "SELECT id, content_hash FROM packets WHERE corpus_id < 16"
DERIVED = """SELECT (SELECT count(*) FROM packets WHERE corpus_id < 16) AS packets,
                    (SELECT count(*) FROM traces WHERE corpus_id < 16) AS traces,
                    (SELECT coalesce(sum(packets), 0) FROM extents WHERE corpus_id < 16) AS counted,
                    (SELECT count(*) FROM traces t WHERE corpus_id < 16 AND NOT EXISTS (SELECT FROM nearness n
                        WHERE n.no = t.no) AND NOT EXISTS (SELECT FROM owed o WHERE o.no = t.no)) AS neither"""


async def lost(memory: Memory, acknowledged: Acknowledged) -> list[str]:
    """What should be there and is not, in words; empty when all is well."""
    held = {row["id"]: row["content_hash"] for row in await memory.database.fetch(HELD)}
    found = [f"{id} is gone" for id in acknowledged.ids if id not in held]
    found += [f"{id} has another text" for id, (_, hash) in acknowledged.ids.items() if held.get(id, hash) != hash]
    counts = await memory.database.fetchrow(DERIVED)
    assert counts is not None
    if not counts["packets"] == counts["traces"] == counts["counted"]:
        found.append(f"packets, traces and extents differ: {dict(counts)}")
    if counts["neither"]:
        found.append(f"{counts['neither']} have neither a vector nor the promise of one")
    every = max(1, len(acknowledged.ids) // SAMPLE)
    for id in list(acknowledged.ids)[::every]:
        hits = await memory.recall.search(Query(acknowledged.ids[id][0], k=1))
        if not hits or hits[0].id != id:
            found.append(f"{id} is not found by its own word")
    return found[:20]
