"""The folder with all contexts of one model in one form: a pool of block files, and per context ids, manifest, tails.

    kv/<fingerprint>-<form>/pool/<name>.safetensors     sealed blocks, named by what they hold, shared by contexts
                            agents/<context>/ids.log      the token ids: the truth
                                             manifest     which blocks and tails, written last
                                             tail-*.safetensors
    kv/quarantine/                                        what was found damaged, for a person to look at

Runs on whatever thread does the I/O (a lock guards the index); computes nothing, imports no MLX.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import structlog

from engine.kv.journal import Journal, Replayed, replay
from engine.kv.manifest import BlockRef, Manifest, TailRef
from engine.kv.tensors import Damaged, read, read_header, replace_file, sync_folder

log = structlog.get_logger()

MANIFEST = "manifest"
IDS = "ids.log"
SUFFIX = ".safetensors"
QUARANTINE = "quarantine"
LONGEST = 200
"""Bytes of a folder's name; file systems allow 255."""


class Shelf:
    """One model's contexts on disk."""

    def __init__(self, kv: Path, fingerprint: str, form: str) -> None:
        self.kv = kv
        self.fingerprint = fingerprint
        self.form = form
        self.folder = kv / f"{fingerprint[:24]}-{form}"
        self.pool = self.folder / "pool"
        self.agents = self.folder / "agents"
        self.written = 0
        """Bytes written since the engine opened."""
        self._manifests: dict[str, Manifest] = {}
        self._index: dict[str, BlockRef] = {}
        """A single block by its link, for contexts that share a prefix."""
        self._lock = threading.RLock()
        self.held: Callable[[], set[str]] = set
        """Pool files that contexts in memory go on from, though no manifest may name them yet."""
        self.live: Set[Path] = frozenset()
        """Folders of the shelves that are in use now; each is trimmed by its own."""

    def open(self) -> None:
        """Makes the folders, reads every manifest, sweeps what no manifest names. Raises OSError."""
        for folder in (self.pool, self.agents):
            folder.mkdir(parents=True, exist_ok=True)
        self.kv.chmod(0o700)
        for folder in self.agents.iterdir():
            for rest in folder.glob(".*.new"):
                rest.unlink(missing_ok=True)
            manifest = self._read(folder)
            if manifest is not None:
                with self._lock:
                    self._manifests[manifest.name] = manifest
                    self._learn(manifest)
        for rest in self.pool.glob(".*.new"):
            rest.unlink(missing_ok=True)
        self.sweep()

    def _read(self, folder: Path) -> Manifest | None:
        path = folder / MANIFEST
        try:
            manifest = Manifest.decode(path.read_bytes())
            if manifest.fingerprint != self.fingerprint or manifest.form != self.form:
                raise Damaged("the manifest is of other weights or another form")
            if self.home_of(manifest.name) != folder:
                raise Damaged("the manifest is of another context")
            return manifest
        except FileNotFoundError:
            return None
        except Damaged as damage:
            self.quarantine(path, str(damage))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.quarantine(path, f"the manifest cannot be read: {error}")
        return None

    def home_of(self, name: str) -> Path:
        """The folder of a context. Names are quoted, so that any text is one folder below `agents`."""
        folder = quote(name, safe=" ").replace(".", "%2E") or "%00"
        if len(folder) > LONGEST:
            folder = f"{folder[: LONGEST - 25].rstrip('%')}~{hashlib.sha256(name.encode()).hexdigest()[:24]}"
        return self.agents / folder

    def names(self) -> list[str]:
        """All contexts that have ids or a cache here."""
        from urllib.parse import unquote

        with self._lock:
            known = {self.home_of(name).name: name for name in self._manifests}
        try:
            folders = [folder.name for folder in self.agents.iterdir() if folder.is_dir()]
        except OSError:
            return []
        # A long name that was cut for its folder is known by its manifest only.
        return sorted(known.get(one) or unquote(one) for one in folders if one in known or "~" not in one[-25:-24])

    def manifest(self, name: str) -> Manifest | None:
        with self._lock:
            return self._manifests.get(name)

    def ids(self, name: str) -> tuple[list[int], Journal]:
        """A context's ids and their log, mended where it was damaged: from the latest tail, which holds them too.

        Raises OSError.
        """
        path = self.home_of(name) / IDS
        try:
            found = replay(path)
        except FileNotFoundError:
            found = None
        damage = self.log_damage(name, found) if found is not None else ""
        if found is not None and not damage:
            return found.ids, Journal(path, len(found.ids), found.last, found.good)
        ids = found.ids if found is not None else []
        if found is not None:
            self.quarantine(path, f"the ids of {name} are {damage}", keep=True)
        kept = self._ids_of_tails(name)
        # The log may have gone on behind the last save; where it broke off before, the tail knows more.
        ids = kept if len(kept) > len(ids) else ids
        journal = Journal(path)
        journal.rewrite(ids)
        return ids, journal

    def log_damage(self, name: str, found: Replayed) -> str:
        """What is wrong with a log, "" if nothing is; one cut off between two records is told by the last save."""
        manifest = self.manifest(name)
        known = manifest.tails[-1].log_bytes if manifest is not None and manifest.tails else 0
        if not found.damage and found.good < known:
            return f"cut off at byte {found.good} of {known}"
        return found.damage

    def _ids_of_tails(self, name: str) -> list[int]:
        import numpy as np

        manifest = self.manifest(name)
        for tail in reversed(manifest.tails if manifest else ()):
            path = self.home_of(name) / tail.file
            try:
                ids = read(path, read_header(path), ["ids"])["ids"].data.view(np.int32)
                return [int(one) for one in ids]
            except (OSError, Damaged, ValueError, KeyError) as error:
                log.warning("kv_tail_unreadable", context=name, file=tail.file, error=str(error))
        return []

    def commit(self, manifest: Manifest) -> None:
        """Makes a manifest the truth, and removes tails it no longer names. Raises OSError."""
        folder = self.home_of(manifest.name)
        content = manifest.encode()
        replace_file(folder / MANIFEST, [content])
        sync_folder(folder)
        with self._lock:
            self.written += len(content)
            self._manifests[manifest.name] = manifest
            self._learn(manifest)
        named = {tail.file for tail in manifest.tails}
        for path in folder.glob(f"tail-*{SUFFIX}"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def touch(self, name: str) -> None:
        """Notes in memory that a context was used now; it reaches the disk with the next save."""
        with self._lock:
            manifest = self._manifests.get(name)
            if manifest is not None:
                self._manifests[name] = replace(manifest, used=time.time())

    def _learn(self, manifest: Manifest) -> None:
        for ref in manifest.blocks:
            for place, link in enumerate(ref.links):
                self._index.setdefault(link, ref.part(ref.start + place, ref.start + place + 1))

    def find(self, name: str, links: Sequence[str]) -> list[BlockRef]:
        """Where the blocks named by `links` are: in the context's own files first, then in anybody's. May have holes.

        `links`: the first is before any token, as `Chain.links` gives them.
        """
        found: list[BlockRef] = []
        with self._lock:
            manifest = self._manifests.get(name)
            own = {
                link: ref.part(ref.start + place, ref.start + place + 1)
                for ref in (manifest.blocks if manifest else ())
                for place, link in enumerate(ref.links)
            }
            for link in links[1:]:
                ref = own.get(link) or self._index.get(link)
                if ref is None:
                    continue
                last = found[-1] if found else None
                if last and last.file == ref.file and last.end == ref.start and last.row + last.count == ref.row:
                    joined = replace(last, count=last.count + 1, links=(*last.links, *ref.links))
                    found[-1] = joined
                else:
                    found.append(ref)
        return found

    def forget_file(self, file: str) -> None:
        """Takes a pool file out of the index and out of every manifest in memory."""
        with self._lock:
            self._index = {link: ref for link, ref in self._index.items() if ref.file != file}
            for name, manifest in self._manifests.items():
                blocks = tuple(ref for ref in manifest.blocks if ref.file != file)
                if len(blocks) < len(manifest.blocks):
                    self._manifests[name] = replace(manifest, blocks=blocks)
            for manifest in self._manifests.values():
                self._learn(manifest)

    def quarantine(self, path: Path, why: str, *, keep: bool = False) -> None:
        """Moves a damaged file away (`keep`: copies it), and says so in the log. Never raises OSError."""
        log.warning("kv_quarantined", file=str(path), reason=why)
        try:
            folder = self.kv / QUARANTINE
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / f"{time.time_ns()}-{path.parent.name}-{path.name}"
            if keep:
                shutil.copyfile(path, target)
            else:
                path.replace(target)
        except OSError as error:
            log.warning("kv_quarantine_failed", file=str(path), error=str(error))
        if path.parent == self.pool:
            self.forget_file(path.name)

    def sweep(self) -> int:
        """Removes pool files that no manifest names; the bytes freed. Runs where nothing is being saved."""
        with self._lock:
            named = {ref.file for manifest in self._manifests.values() for ref in manifest.blocks} | self.held()
        freed = 0
        for path in self.pool.glob(f"*{SUFFIX}"):
            if path.name not in named:
                try:
                    freed += path.stat().st_size
                    path.unlink()
                except OSError as error:
                    log.warning("kv_sweep_failed", file=str(path), error=str(error))
        with self._lock:
            self._index = {link: ref for link, ref in self._index.items() if ref.file in named}
            # What was known by a file that went is perhaps in one that stays.
            for manifest in self._manifests.values():
                self._learn(manifest)
        return freed

    def drop(self, name: str) -> None:
        """Removes a context from disk; blocks that others share stay. Raises OSError."""
        with self._lock:
            self._manifests.pop(name, None)
        folder = self.home_of(name)
        if folder.exists():
            # The manifest first: what is left of a removal that breaks off is not taken for a context with a cache.
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)
        self.sweep()

    def disk_bytes(self, name: str) -> tuple[int, int]:
        """Bytes of a context on disk, and how many of its tokens lie in blocks that another context has too."""
        with self._lock:
            manifest = self._manifests.get(name)
            if manifest is None:
                return 0, 0
            others = {
                link for one in self._manifests.values() if one.name != name for ref in one.blocks for link in ref.links
            }
            shared = sum(link in others for ref in manifest.blocks for link in ref.links)
        from engine.kv.form import BLOCK

        total = sum(ref.nbytes for ref in manifest.blocks) + sum(tail.nbytes for tail in manifest.tails)
        return total, shared * BLOCK

    def total_bytes(self) -> int:
        """Bytes of all files of all shelves, the quarantine included."""
        total = 0
        for path in self.kv.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:
                continue  # it was replaced meanwhile
        return total

    def trim_to(self, limit: int, in_use: Callable[[], set[str]]) -> list[str]:
        """Drops contexts, longest unused first, until all shelves fit into `limit` bytes; never one in use.

        What lies in quarantine goes first. Returns those of this shelf that were dropped.
        """
        dropped: list[str] = []
        if self.total_bytes() <= limit:
            return dropped
        shutil.rmtree(self.kv / QUARANTINE, ignore_errors=True)
        with self._lock:
            mine = list(self._manifests.values())
        for manifest in sorted([*mine, *foreign(self)], key=lambda one: one.used):
            if self.total_bytes() <= limit:
                break
            if manifest not in mine:
                other = Shelf(self.kv, manifest.fingerprint, manifest.form)
                if other.folder not in self.live:
                    other.open()
                    other.drop(manifest.name)
            elif manifest.name not in in_use():
                self.drop(manifest.name)
                dropped.append(manifest.name)
        return dropped


def foreign(mine: Shelf) -> list[Manifest]:
    """The contexts of other models and formats below the same folder. What cannot be read is left out."""
    found: list[Manifest] = []
    for path in mine.kv.glob(f"*/agents/*/{MANIFEST}"):
        if path.parent.parent == mine.agents:
            continue
        try:
            found.append(Manifest.decode(path.read_bytes()))
        except (OSError, Damaged, ValueError, KeyError, TypeError) as error:
            log.debug("kv_foreign_unreadable", path=str(path), error=str(error))
    return found


def check_origin(path: Path, metadata: dict[str, str], fingerprint: str, form: str) -> None:
    """Raises Damaged for a file of other weights or another form."""
    if metadata.get("fingerprint") != fingerprint or metadata.get("form") != form:
        raise Damaged(f"{path.name}: made with other weights or in another form")


def tail_name(tokens: int) -> str:
    """A fresh name for a tail file: never one that was used before."""
    return f"tail-{tokens}-{time.time_ns()}{SUFFIX}"


__all__ = ["BlockRef", "Manifest", "Shelf", "TailRef", "tail_name"]
