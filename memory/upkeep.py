"""What memory does in the background: vectors that are owed, indexes that are due, postings that lie scattered.

Knows when each is due and that a question must not wait behind it. Does not know how any of them is done
(`memory.vectors`, `memory.postings`).
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import structlog

from engine.compute import ComputeThread
from engine.errors import SoulError
from memory import postings, vectors
from memory.shapes import Vectors
from memory.vectors import Owed

if TYPE_CHECKING:
    import asyncpg
    import numpy as np
    from numpy.typing import NDArray

    from memory.database import Database
    from memory.embedder import Embedder

log = structlog.get_logger()

BATCH = 32
"""Packets embedded at a time: a third of a second on two cores, so that a question waits no longer than that."""
CHARACTERS_PER_TOKEN = 20
INDEX_EVERY = 64
"""Batches after which it is asked whether an index is due."""
SCATTERED_FROM = 1000
"""Writes to a corpus after which its postings are compacted."""
TIDY_EVERY_S = 60.0
"""Indexes and postings are looked at no more often than this while packets trickle in."""
RETRY_S = 5.0
RETRY_AFTER_FAULT_S = 60.0
NICENESS = 10
"""Of the embedding thread: a model on the same processors comes first. On a Mac it has the GPU to itself."""


def give_way() -> None:
    """Lowers the priority of the calling thread, for good. Linux has one for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class Upkeep:
    """The background work of memory; `run` is one task of whoever opened memory."""

    def __init__(self, database: Database, embedder: Embedder | None, made_by: Vectors | None) -> None:
        self._database = database
        self._embedder = embedder
        self.vectors = made_by
        """Which vectors can be compared now, and where an index holds them; recall reads this."""
        self._due = anyio.Event()
        self._idle = anyio.Event()
        self._waited_for = False
        self._tidied = -math.inf
        # Apart from the threads that embed questions.
        self._thread = ComputeThread("soul-embedding")

    def wake(self) -> None:
        """Something was written."""
        self._due.set()
        if self._idle.is_set():
            self._idle = anyio.Event()

    async def settled(self) -> None:
        """Returns when everything written before this call is embedded, indexed and compacted."""
        self._waited_for = True
        self.wake()
        await self._idle.wait()

    async def run(self) -> None:
        """Works whenever something is due, until cancelled. A database that is away is tried again later."""
        self._thread.start()
        self._thread.post(give_way)
        try:
            await self._work()
        finally:
            await self._thread.stop()

    async def _work(self) -> None:
        while True:
            self._due = anyio.Event()
            try:
                await self._embed_owed()
                if self._waited_for or time.monotonic() - self._tidied >= TIDY_EVERY_S:
                    await self._tidy()
            except SoulError as error:
                log.warning("upkeep of memory is put off", reason=str(error), retry_s=RETRY_S)
                await anyio.sleep(RETRY_S)
                continue
            except Exception:
                # Packets and recall work without upkeep, so a fault in it must not close them.
                log.exception("upkeep of memory failed", retry_s=RETRY_AFTER_FAULT_S)
                await anyio.sleep(RETRY_AFTER_FAULT_S)
                continue
            if not self._due.is_set():
                self._idle.set()
            await self._due.wait()

    async def _embed_owed(self) -> None:
        if self._embedder is None or self.vectors is None:
            return
        batches = 0
        characters = self._embedder.max_tokens * CHARACTERS_PER_TOKEN
        while owed := await vectors.next_owed(self._database, BATCH, characters):
            await self._embed(self._embedder, self.vectors, owed)
            batches += 1
            if batches % INDEX_EVERY == 0:
                self.vectors = await vectors.keep_indexes(self._database, self.vectors)

    async def _embed(self, embedder: Embedder, made_by: Vectors, owed: Sequence[Owed]) -> None:
        def embed() -> NDArray[np.float32]:
            return embedder.embed([item.prose for item in owed])

        try:
            made = await self._thread.call(embed)
        except Exception as error:
            # One text must not keep all others from ever being embedded.
            if len(owed) > 1:
                for item in owed:
                    await self._embed(embedder, made_by, [item])
                return
            log.error("a packet cannot be embedded", packet=str(owed[0].id), error=f"{type(error).__name__}: {error}")
            await vectors.give_up(self._database, owed)
            return
        # What was computed is kept also when the daemon is leaving.
        with anyio.CancelScope(shield=True):
            await vectors.store(self._database, made_by, owed, made)

    async def _tidy(self) -> None:
        # Before the work, not after it: who begins to wait meanwhile waits for the next round.
        self._waited_for, self._tidied = False, time.monotonic()
        if self.vectors is not None:
            self.vectors = await vectors.keep_indexes(self._database, self.vectors)
            await vectors.forget_others(self._database, self.vectors)
        for corpus_id in await postings.scattered(self._database, SCATTERED_FROM):

            async def work(connection: asyncpg.Connection, corpus_id: int = corpus_id) -> None:
                await postings.compact(connection, corpus_id)

            await self._database.run(work)
