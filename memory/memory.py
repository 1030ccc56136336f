"""Memory: packets, corpora and recall over one database, with their background work.

Knows how the parts are joined and that the background work lives as long as they do. Holds no logic of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from memory import vectors
from memory.corpora import Corpora
from memory.exchange import Exchange
from memory.flushes import Flushes
from memory.forgetting import Forgetting
from memory.golden import Golden
from memory.notebook import Notebook
from memory.packets import Packets
from memory.parcels import Parcels
from memory.reading import FILE_MB
from memory.recall import Recall
from memory.selves import Selves
from memory.shapes import Weights
from memory.sizes import Sizes
from memory.upkeep import Upkeep
from memory.watching import Watching
from memory.window import Windows

if TYPE_CHECKING:
    from memory.database import Database
    from memory.embedder import Embedder


class Memory:
    """What the Soul remembers."""

    def __init__(
        self,
        database: Database,
        embedder: Embedder | None,
        allowed_roots: Sequence[Path],
        upkeep: Upkeep,
        sizes: Sizes,
        *,
        weights: Weights,
        distinct: bool,
        file_mb: float,
    ) -> None:
        self.database = database
        self.embedder = embedder
        """None: searched by words alone."""
        self.upkeep = upkeep
        self.packets = Packets(database, upkeep.wake)
        self.corpora = Corpora(database, allowed_roots, upkeep.wake, file_mb)
        self.parcels = Parcels(database, self.corpora, embedder, upkeep)
        self.watching = Watching(self.corpora)
        self.recall = Recall(database, embedder, upkeep, weights, distinct)
        self.selves = Selves(database, sizes.self_tokens)
        self.notebook = Notebook(database, sizes.notebook_tokens)
        self.windows = Windows(database)
        self.flushes = Flushes(database, self.notebook, self.windows, self.packets)
        self.exchange = Exchange(database, self.packets, embedder, upkeep)
        self.golden = Golden(database)
        self.forgetting = Forgetting(database, self.corpora, upkeep.wake)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database: Database,
        embedder: Embedder | None,
        allowed_roots: Sequence[Path] = (),
        sizes: Sizes | None = None,
        *,
        weights: Weights | None = None,
        distinct: bool = True,
        watching: bool = False,
        file_mb: float = FILE_MB,
    ) -> AsyncGenerator[Memory]:
        """Memory over an open database, with its background work running until the block ends.

        `embedder` is best `default_embedder()`; with None, memory is searched by words alone and vectors stay owed.
        Corpora may lie under `allowed_roots` only; with `watching` those that are worn follow their files. `weights`
        and `distinct` are recall's.
        """
        made_by = await vectors.register(database, embedder) if embedder is not None else None
        await Selves(database).plant()
        upkeep = Upkeep(database, embedder, made_by)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(upkeep.run, name="upkeep of memory")
                memory = cls(
                    *(database, embedder, allowed_roots, upkeep, sizes or Sizes()),
                    weights=weights or Weights(),
                    distinct=distinct,
                    file_mb=file_mb,
                )
                if watching:
                    tasks.start_soon(memory.watching.run, name="watching of corpora")
                yield memory
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What the block raised should reach the caller as it was, not inside the task group's wrapping.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
