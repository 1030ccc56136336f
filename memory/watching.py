"""Keeps the corpora that are worn at what their files are: whoever saves a file finds it a moment later.

Knows which folders to watch, and that watching may fail: a folder goes and comes back, a volume tells nothing, the
system allows no more watches. So everything is looked at again from time to time as well. Does not know how a folder is
indexed (`memory.corpora`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import structlog

from engine.errors import SoulError
from memory.corpora import Corpora
from memory.files import GENERATED_FOLDERS

log = structlog.get_logger()

RESCAN_S = 300.0
"""Everything is looked at anew this often: network volumes and containers may tell nothing of what changed."""
BLIND_S = 15.0
"""How often what is worn is looked at where the system refuses to watch; RESCAN_S later it is asked again."""
LOOK_MS = 1000
"""How often it is asked whether a watched folder is still the same one."""
DEBOUNCE_MS = 400
STEP_MS = 50
"""Changes are taken together until nothing more comes for STEP_MS, but no longer than DEBOUNCE_MS."""
REST = 2.0
"""After a look that took t seconds the next one waits REST times t, so that a folder that is written to all the time
costs at most a third of one core."""
RETRY_S = 5.0


class Watching:
    """The background work that follows files; `run` is one task of whoever opened memory."""

    def __init__(self, corpora: Corpora, rescan_s: float = RESCAN_S) -> None:
        self._corpora = corpora
        self._rescan_s = rescan_s
        self._worn: Mapping[str, Path] = {}
        self._troubles: dict[str, str] = {}
        self._due: set[str] = set()
        self._something_due = anyio.Event()
        self._dressed = anyio.Event()
        self._changes: dict[str, int] = {}
        self._thread = anyio.CapacityLimiter(1)
        corpora.dressed = self.wake

    @property
    def state(self) -> dict[str, str]:
        """Of each corpus that is followed: empty, or what keeps it from being up to date."""
        return {name: self._troubles.get(name, "") for name in self._worn}

    def changes(self) -> list[tuple[str, int]]:
        """(corpus, files) of what was brought up to date since this was last asked."""
        found, self._changes = list(self._changes.items()), {}
        return found

    def wake(self) -> None:
        """An agent put something on or off."""
        self._dressed.set()

    async def run(self) -> None:
        """Follows what is worn until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_when_due, name="refresh of corpora")
            while True:
                await self._take_up()
                roots = {name: path for name, path in self._worn.items() if path.exists()}
                if roots:
                    await self._follow(roots)
                else:
                    await self._until_dressed(LOOK_MS / 1000 if self._worn else None)

    # -- what is worn

    async def _take_up(self) -> bool:
        """Learns what is worn; True when that is something else than before."""
        self._dressed = anyio.Event()
        try:
            worn = await self._corpora.worn()
        except Exception as error:
            # Packets and recall work without this, so a fault in it must not close them.
            log.warning("following files is put off", reason=_said(error), retry_s=RETRY_S)
            await anyio.sleep(RETRY_S)
            self._dressed.set()
            return False
        new = worn.keys() - self._worn.keys()
        changed = worn != self._worn
        self._worn = worn
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name in worn}
        self._call_for(new)
        return changed

    async def _until_dressed(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._dressed.wait()

    # -- what the system tells

    async def _follow(self, roots: Mapping[str, Path]) -> None:
        """Listens until something else is worn, or a folder is not the one any more that it was."""
        stop = threading.Event()

        async def stop_when_dressed() -> None:
            try:
                while True:
                    await self._dressed.wait()
                    if await self._take_up():
                        return
            finally:
                # The thread cannot be cancelled; it looks at this.
                stop.set()

        trouble = ""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop_when_dressed)
            trouble = await anyio.to_thread.run_sync(self._listen, roots, stop, limiter=self._thread)
            tasks.cancel_scope.cancel()
        if trouble:
            log.warning("files cannot be watched; they are looked at now and then", reason=trouble, every_s=BLIND_S)
            until = time.monotonic() + self._rescan_s
            while time.monotonic() < until and not self._dressed.is_set():
                await self._until_dressed(BLIND_S)
                self._call_for(roots)

    def _listen(self, roots: Mapping[str, Path], stop: threading.Event) -> str:
        """Tells of changes until `stop`, in a thread of its own. Why it cannot, or nothing."""
        from watchfiles import Change, watch

        called = {name: _identity(path) for name, path in roots.items()}
        first = True
        try:
            for changes in watch(
                *roots.values(),
                watch_filter=lambda _, path: _concerns(path, roots.values()),
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                rust_timeout=LOOK_MS,
                yield_on_timeout=True,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                changed = {path for _, path in changes}
                names = [name for name, root in roots.items() if any(_lies_in(path, root) for path in changed)]
                # What was changed between the first look and the first watch was told by nobody.
                anyio.from_thread.run_sync(self._call_for, roots if first else names)
                first = False
                # A folder made anew may have the number of the one that was deleted.
                deleted = {path for change, path in changes if change is Change.deleted}
                if any(_identity(path) != called[name] or str(path) in deleted for name, path in roots.items()):
                    anyio.from_thread.run_sync(self._call_for, roots)
                    return ""
        except FileNotFoundError:
            return ""  # it went away just now; whoever called looks again
        except Exception as error:
            # The watcher has no error class of its own in its interface: a system's limit comes as RuntimeError.
            return _said(error)
        return ""

    # -- looking

    def _call_for(self, names: Iterable[str]) -> None:
        self._due.update(names)
        if self._due:
            self._something_due.set()

    async def _look_when_due(self) -> None:
        last = time.monotonic()
        while True:
            with anyio.move_on_after(max(0.0, last + self._rescan_s - time.monotonic())):
                await self._something_due.wait()
            self._something_due = anyio.Event()
            names, self._due = self._due, set()
            began = time.monotonic()
            if began - last >= self._rescan_s:
                names, last = set(self._worn), began
            for name in sorted(names):
                # Asked anew for each: it may have been taken off while others were looked at.
                if name in self._worn:
                    await self._look(name)
            await anyio.sleep(REST * (time.monotonic() - began))

    async def _look(self, name: str) -> None:
        try:
            changed = await self._corpora.look_again(name)
        except Exception as error:
            # One corpus that cannot be read must not keep the others from being followed.
            said = _said(error)
            if self._troubles.get(name) != said:
                log.warning("a corpus cannot be brought up to date; it stays as it is", corpus=name, reason=said)
            self._troubles[name] = said
            return
        self._troubles.pop(name, None)
        if changed:
            self._changes[name] = self._changes.get(name, 0) + changed
            log.info("a corpus was brought up to date", corpus=name, files=changed)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, SoulError) else f"{type(error).__name__}: {error}"


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or folder from another one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lies_in(path: str, root: Path) -> bool:
    return path == str(root) or path.startswith(f"{root}/")


def _concerns(path: str, roots: Iterable[Path]) -> bool:
    """Could the path belong to a corpus? Hidden and generated files never do, and are written to all the time."""
    for root in roots:
        if _lies_in(path, root):
            parts = path[len(str(root)) + 1 :].split("/")
            hidden = any(part.startswith(".") and part != ".gitignore" for part in parts)
            if not hidden and GENERATED_FOLDERS.isdisjoint(parts):
                return True
    return False
