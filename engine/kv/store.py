"""The contexts' way to disk and back, as the engine uses it: who does what on which thread, and what is under way.

The compute thread copies bytes out, the writer thread writes them, the loader thread reads them; the event loop keeps
the account. One snapshot per context is under way at most, so that memory for unwritten bytes is bounded by the caches
themselves. Nothing here raises into a turn: what cannot be saved is said in the status, and tried again after the next
turn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import structlog

from engine.compute import ComputeThread
from engine.contexts import Context
from engine.errors import Conflict, NotFound, Unavailable
from engine.kv.carrying import adopt, export
from engine.kv.chain import Chain
from engine.kv.families import Family
from engine.kv.form import BLOCK
from engine.kv.journal import Journal
from engine.kv.loading import restore
from engine.kv.removing import remove_shelves
from engine.kv.saving import COMPACT_AT, IDS, Snapshot, Vanished, compact, extract, save
from engine.kv.shelf import Shelf, foreign
from engine.kv.verifying import Fault, verify

if TYPE_CHECKING:
    from engine.kv.manifest import Manifest

log = structlog.get_logger()


@dataclass(frozen=True)
class Kept:
    """A context as `soul agents` shows it. `used` in seconds since 1970, None for one that was never saved."""

    name: str
    tokens: int
    saved_tokens: int
    hot_bytes: int
    disk_bytes: int
    written_bytes: int
    form: str
    fingerprint: str
    used: float | None
    shared_tokens: int
    lasting: bool
    save_error: str


class Store:
    """All contexts of one engine, and the shelf they are kept on."""

    def __init__(
        self,
        compute: ComputeThread,
        kv: Path | None,
        fingerprint: str,
        family: Family,
        disk_bytes: int,
        beside: Store | None = None,
    ) -> None:
        """`beside` is the store of another engine on the same compute thread, whose own threads serve this one, too."""
        self.contexts: dict[str, Context] = {}
        self.error = "" if kv is not None else "contexts are not kept: the setting `persist` is off"
        self.family = family
        self.shelf: Shelf | None = Shelf(kv, fingerprint, family.form.label) if kv is not None else None
        self._fingerprint = fingerprint
        self._limit = disk_bytes
        self._compute = compute
        self._loop = compute.loop
        self._own = beside is None
        self._writer = beside._writer if beside else ComputeThread("soul-kv-writer", self._loop)
        self._loader = beside._loader if beside else ComputeThread("soul-kv-loader", self._loop)
        self._live: set[Path] = beside._live if beside else set()
        """The shelves of all these stores."""
        self._changed = anyio.Event()

    async def open(self) -> None:
        """Starts the threads and finds the saved contexts; without a usable folder nothing is kept, and says so."""
        if self._own:
            self._writer.start()
            self._loader.start()
        shelf = self.shelf
        if shelf is None:
            return
        shelf.live = self._live
        self._live.add(shelf.folder)
        started = time.monotonic()
        try:
            found = await self._loader.call(lambda: self._find(shelf))
        except OSError as error:
            self.shelf = None
            self.error = f"{shelf.folder} cannot be used: {error}"
            log.warning("kv_not_durable", error=self.error, remedy="Make the folder writable and restart the daemon.")
            return
        shelf.held = lambda: {ref.file for one in tuple(self.contexts.values()) for ref in tuple(one.refs)}
        self.contexts.update(found)
        log.info("kv_opened", contexts=len(found), seconds=round(time.monotonic() - started, 3))

    def _find(self, shelf: Shelf) -> dict[str, Context]:
        shelf.open()
        found: dict[str, Context] = {}
        for name in shelf.names():
            try:
                ids, journal = shelf.ids(name)
            except OSError as error:
                log.warning("kv_ids_unreadable", context=name, error=str(error))
                continue
            manifest = shelf.manifest(name)
            context = Context(name, ids, chain=self._chain(), journal=journal)
            context.saved = manifest.tokens if manifest else 0
            found[name] = context
        return found

    async def close(self) -> None:
        """Waits for what is being written. To be called when nothing is computed any more."""
        if self._own:
            await self._writer.stop()
            await self._loader.stop()
            return
        await self._writer.call(lambda: None)
        if self.shelf is not None:
            self._live.discard(self.shelf.folder)

    def _chain(self) -> Chain:
        return Chain(self._fingerprint, self.family.form.label)

    def new_context(self, name: str, ids: Sequence[int], lasting: bool) -> Context:
        """A context that is not on disk yet."""
        context = Context(name, list(ids), chain=self._chain())
        if lasting and self.shelf is not None:
            context.journal = Journal(self.shelf.home_of(name) / IDS)
        return context

    def record(self, context: Context) -> None:
        """Writes a turn's ids, on the compute thread, before the turn is answered: one short system call."""
        if context.journal is None:
            return
        try:
            context.journal.write(context.ids)
        except OSError as error:
            self._failed(context, error)

    def save_soon(self, context: Context) -> None:
        """Has the context saved, unless it is not lasting. Returns at once."""
        if context.journal is None or self.contexts.get(context.name) is not context:
            return
        if context.saver.busy:
            context.saver.due = True
            return
        context.saver.busy = True
        self._compute.post(lambda: self._extract(context))

    def _extract(self, context: Context) -> None:
        """On the compute thread, between two steps."""
        shelf = self.shelf
        try:
            if shelf is None or context.cache is None or context.lent or context.cached == 0:
                self._loop.call(self._done, context, None, "")
                return
            snapshot = extract(context)
        except Exception as error:
            log.exception("kv_extract_failed", context=context.name)
            self._loop.call(self._done, context, None, f"{type(error).__name__}: {error}")
            return
        self._writer.post(lambda: self._write(shelf, context, snapshot))

    def _write(self, shelf: Shelf, context: Context, snapshot: Snapshot) -> None:
        """On the writer thread."""
        try:
            manifest = save(shelf, snapshot)
        except Vanished as error:
            log.warning("kv_blocks_vanished", context=context.name, error=str(error))
            self._loop.call(self._vanished, context, str(error))
            return
        except Exception as error:
            log.warning("kv_save_failed", context=context.name, error=str(error))
            self._loop.call(self._done, context, None, str(error))
            return
        self._loop.call(self._done, context, manifest, "")

    def _failed(self, context: Context, error: Exception) -> None:
        log.warning("kv_ids_not_written", context=context.name, error=str(error))
        context.saver.error = str(error)

    def _vanished(self, context: Context, error: str) -> None:
        """On the event loop. Everything is in memory still, so everything is written once more."""
        context.refs = []
        context.saver.due = True
        self._done(context, None, error)

    def _done(self, context: Context, manifest: Manifest | None, error: str) -> None:
        """On the event loop."""
        saver = context.saver
        saver.busy = False
        if error:
            saver.error = error
        elif manifest is not None:
            saver.error = ""
            context.saved = manifest.tokens
            # Checked against the ids whenever they are used, so that a cut which came in between does no harm.
            context.refs = list(manifest.blocks)
            self._tidy(context, manifest)
        self._changed.set()
        self._changed = anyio.Event()
        if saver.due:
            saver.due = False
            self.save_soon(context)

    def _tidy(self, context: Context, manifest: Manifest) -> None:
        """Compaction and the disk's limit, when no request is running; otherwise after a later turn."""
        shelf = self.shelf
        if shelf is None or self._compute.runs:
            return
        if len(manifest.blocks) >= COMPACT_AT:
            self._writer.post(lambda: self._compact(shelf, context))
        self._writer.post(lambda: self._trim(shelf))

    def _compact(self, shelf: Shelf, context: Context) -> None:
        try:
            manifest = compact(shelf, context.name)
        except OSError as error:
            log.warning("kv_compaction_failed", context=context.name, error=str(error))
            return
        if manifest is not None:
            log.info("kv_compacted", context=context.name, bytes=manifest.blocks[0].nbytes)
            self._loop.call(self._compacted, shelf, context, manifest)

    def _compacted(self, shelf: Shelf, context: Context, manifest: Manifest) -> None:
        """On the event loop. What a context holds is not swept, so it lets go of the small files first."""
        # A snapshot under way may name them; the next compaction removes them then.
        if context.refs and context.cache is not None and not context.saver.busy:
            context.refs = list(manifest.blocks)
        self._writer.post(shelf.sweep)

    def _in_use(self) -> set[str]:
        return {one.name for one in tuple(self.contexts.values()) if one.busy or one.cache is not None}

    def _trim(self, shelf: Shelf) -> None:
        try:
            dropped = shelf.trim_to(self._limit, self._in_use)
        except OSError as error:
            log.warning("kv_trim_failed", error=str(error))
            return
        for name in dropped:
            log.info("kv_dropped", context=name, reason="the disk's limit for caches", limit=self._limit)
            self._loop.call(self._gone, name)

    def _gone(self, name: str) -> None:
        context = self.contexts.get(name)
        if context is not None and context.cache is None and not context.busy:
            del self.contexts[name]

    async def load(self, context: Context, known: int) -> bool:
        """Loads what is on disk for a context's ids; False where that is not more than `known` tokens."""
        shelf = self.shelf
        if shelf is None or context.chain is None:
            return False
        ids = tuple(context.ids)
        links = context.chain.links(ids, (len(ids) - 1) // BLOCK)
        if sum(ref.count for ref in shelf.find(context.name, links)) * BLOCK < known:
            return False
        whole = not self.family.in_blocks
        started = time.monotonic()
        context.restored = await self._loader.call(lambda: restore(shelf, context.name, ids, links, whole=whole))
        shelf.touch(context.name)
        if context.restored.nbytes:
            log.info(
                "kv_loaded",
                context=context.name,
                bytes=context.restored.nbytes,
                seconds=round(time.monotonic() - started, 4),
            )
        return bool(context.restored.nbytes)

    async def settled(self, context: Context) -> bool:
        """Waits until no save of a context is under way; False when the last one failed."""
        while context.saver.busy or context.saver.due:
            await self._changed.wait()
        return not context.saver.error and self.is_saved(context)

    def is_saved(self, context: Context) -> bool:
        """Whether the disk has all that is computed."""
        return not context.saver.busy and context.saved == context.cached

    async def forget(self, context: Context) -> None:
        """Removes a context from disk, behind what is being written of it."""
        shelf = self.shelf
        if shelf is None or context.journal is None:
            return
        context.saver.due = False
        while context.saver.busy:
            await self._changed.wait()
        try:
            await self._writer.call(lambda: shelf.drop(context.name))
        except OSError as error:
            log.warning("kv_drop_failed", error=str(error))

    async def forget_others(self) -> None:
        """Removes from disk what is kept for weights and forms that are not loaded, and the quarantine.

        Raises OSError.
        """
        shelf = self.shelf
        if shelf is not None:
            await self._writer.call(lambda: remove_shelves(shelf.kv, self._live))

    def list(self) -> list[Kept]:
        """All contexts, those of other models and formats on disk included, the latest used first."""
        rows: list[Kept] = []
        for context in self.contexts.values():
            manifest = self.shelf.manifest(context.name) if self.shelf is not None else None
            disk, shared = self.disk_bytes(context.name)
            rows.append(
                Kept(
                    name=context.name,
                    tokens=len(context.ids),
                    saved_tokens=context.saved if manifest else 0,
                    hot_bytes=context.kv_bytes,
                    disk_bytes=disk,
                    written_bytes=manifest.written if manifest else 0,
                    form=self.family.form.label,
                    fingerprint=self._fingerprint,
                    used=manifest.used if manifest else None,
                    shared_tokens=shared,
                    lasting=context.journal is not None,
                    save_error=context.saver.error,
                )
            )
        if self.shelf is not None:
            for manifest in foreign(self.shelf):
                rows.append(
                    Kept(
                        name=manifest.name,
                        tokens=manifest.tokens,
                        saved_tokens=manifest.tokens,
                        hot_bytes=0,
                        disk_bytes=manifest.nbytes,
                        written_bytes=manifest.written,
                        form=manifest.form,
                        fingerprint=manifest.fingerprint,
                        used=manifest.used,
                        shared_tokens=0,
                        lasting=True,
                        save_error="",
                    )
                )
        return sorted(rows, key=lambda row: -(row.used or time.time()))

    async def verify(self, name: str | None = None) -> list[Fault]:
        """Reads a context's files (all, without a name) and compares checksums; bad ones go into quarantine.

        Raises NotFound.
        """
        shelf = self._usable()
        return await self._writer.call(lambda: verify(shelf, [name] if name is not None else None))

    async def compact(self, name: str) -> tuple[int, int]:
        """Puts a context's block files into one; how many there were before and after. Raises NotFound."""
        shelf = self._usable()
        manifest = shelf.manifest(name)
        if manifest is None:
            raise NotFound(f"There is no saved context named {name}.", "`soul agents` lists them.")
        await self._writer.call(lambda: self._compact(shelf, self.contexts[name]))
        await self._writer.call(lambda: None)  # the small files are swept behind it
        after = shelf.manifest(name)
        return len(manifest.blocks), len(after.blocks) if after else 0

    async def export(self, name: str, target: Path) -> int:
        """Copies a context into a new folder; the bytes. Raises NotFound, Conflict, Unavailable."""
        shelf = self._usable()
        try:
            return await self._writer.call(lambda: export(shelf, name, target))
        except OSError as error:
            raise Unavailable(f"{target} cannot be written: {error}.", "Choose another folder.") from error

    async def adopt(self, source: Path, name: str | None) -> str:
        """Takes in an exported context; its name. Raises InvalidInput, Conflict, Unavailable."""
        shelf = self._usable()
        if name is not None and name in self.contexts:
            raise Conflict(f"A context named {name} is there already.", "Drop it, or give another name.")
        try:
            manifest = await self._writer.call(lambda: adopt(shelf, source, name))
            ids, journal = await self._writer.call(lambda: shelf.ids(manifest.name))
        except OSError as error:
            raise Unavailable(
                f"{source} cannot be imported: {error}.", "Free disk space, or check the path."
            ) from error
        context = Context(manifest.name, ids, chain=self._chain(), journal=journal)
        context.saved = manifest.tokens
        self.contexts[manifest.name] = context
        return manifest.name

    def _usable(self) -> Shelf:
        if self.shelf is None:
            raise Unavailable(f"Nothing is kept on disk: {self.error}.", "Make the folder writable and restart.")
        return self.shelf

    @property
    def written_bytes(self) -> int:
        """Bytes written since the engine opened."""
        return self.shelf.written if self.shelf is not None else 0

    def disk_bytes(self, name: str) -> tuple[int, int]:
        """Bytes of a context on disk, and its tokens in shared blocks."""
        return self.shelf.disk_bytes(name) if self.shelf is not None else (0, 0)
