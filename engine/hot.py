"""Which contexts have their caches in memory: who makes room for whom, and where a cold one's cache comes from.

Idle caches leave memory longest unused first, never before they are saved. A cold context is loaded from disk on the
loader thread, or shares the blocks of a hot one that begins alike; the others' decode steps go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import structlog

from engine.admission import Admission
from engine.compute import ComputeThread
from engine.config import EngineConfig
from engine.kv.form import BLOCK

if TYPE_CHECKING:
    from engine.contexts import Context
    from engine.kv.store import Store

log = structlog.get_logger()


class HotSet:
    """The contexts in memory, within the budget and the limits of the configuration."""

    def __init__(
        self,
        compute: ComputeThread,
        store: Store,
        admission: Admission,
        config: EngineConfig,
        make_way: Callable[[int], Awaitable[None]],
    ) -> None:
        """`make_way` frees that many bytes of what other models hold, as far as it can."""
        self._compute = compute
        self._store = store
        self._admission = admission
        self._contexts: dict[str, Context] = store.contexts
        self._count = config.hot_contexts
        self._bytes = config.hot_bytes
        self._make_way = make_way

    async def change(self, found: Context, change: Callable[[], None]) -> None:
        """Changes an idle context on the compute thread; whoever wants it meanwhile waits for the end of the change."""
        found.busy = True
        found.changed = anyio.Event()
        try:
            with anyio.CancelScope(shield=True):
                await self._compute.call(change)
        finally:
            found.busy = False
            found.changed.set()
            found.changed = None

    async def make_room(self, found: Context, tokens: int) -> None:
        """Frees caches of idle contexts until this one's fits; their ids stay, and are computed again when needed."""
        others = [context for context in self._contexts.values() if context is not found]
        if (over := self._admission.over(tokens, others)) > 0:
            await self._make_way(over)
        for context in [*self._admission.room(tokens, others), *self._surplus(found)]:
            await self.cool(context)

    async def cool(self, context: Context) -> int:
        """Frees the cache of an idle context; its bytes, 0 where it is not idle any more."""
        freed = context.kv_bytes
        if context.busy or context.cache is None:
            return 0
        log.info("cache_freed", context=context.name, bytes=freed)
        await self.change(context, context.drop_cache)
        return freed

    def _surplus(self, found: Context) -> list[Context]:
        """Idle contexts beyond those that may stay in memory beside `found`, longest unused first.

        One whose last turn is still being written stays until it is.
        """
        hot = [one for one in self._contexts.values() if one is not found and one.cache is not None and not one.busy]
        hot.sort(key=lambda context: context.used)
        limit = self._bytes
        held = sum(context.kv_bytes for context in hot)
        surplus: list[Context] = []
        count = len(hot)
        for context in hot:
            if count < self._count and (limit is None or held <= limit):
                break
            if context.journal is None or self._store.is_saved(context):
                surplus.append(context)
                count -= 1
                held -= context.kv_bytes
        return surplus

    async def warm(self, found: Context) -> None:
        """Loads what is on disk, or shares what another context has in memory, when nothing is computed yet.

        The others' decode steps go on meanwhile. Frees the context again when the caller leaves.
        """
        try:
            if found.cache is None and len(found.ids) > 1:
                donor, blocks = self._donor(found)
                on_disk = await self._store.load(found, blocks * BLOCK)
                if not on_disk and donor is not None:
                    await self._borrow(found, donor, blocks)
        except BaseException:
            found.busy = False
            raise

    def _donor(self, found: Context) -> tuple[Context | None, int]:
        """The hot context that shares the longest run of whole blocks, and how many they are."""
        from engine.contexts import common_prefix

        if not self._store.family.in_blocks:
            return None, 0
        best: Context | None = None
        most = 0
        for other in self._contexts.values():
            if other is found or other.cache is None:
                continue
            same = min(common_prefix(other.ids, found.ids), other.cached, len(found.ids) - 1)
            blocks = min(same // BLOCK, max(0, other.cached - 1) // BLOCK)
            if blocks > most:
                best, most = other, blocks
        return best, most

    async def _borrow(self, found: Context, donor: Context, blocks: int) -> None:
        from engine.contexts import lend
        from engine.kv.loading import Restored

        ids = found.ids[: blocks * BLOCK]
        pieces = await self._compute.call(lambda: lend(donor, ids))
        found.restored = Restored({piece.start: piece for piece in pieces})
        if pieces:
            log.info("prefix_shared", context=found.name, of=donor.name, tokens=blocks * BLOCK)
