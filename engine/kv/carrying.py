"""Contexts that are carried to another machine, as plain folders, and taken in there after every byte was checked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from engine.errors import Conflict, InvalidInput, NotFound
from engine.kv.journal import replay
from engine.kv.manifest import Manifest
from engine.kv.shelf import IDS, MANIFEST, Shelf, check_origin
from engine.kv.tensors import Damaged, read, read_header, sync_folder


def export(shelf: Shelf, name: str, target: Path) -> int:
    """Copies a context with all its blocks into a new folder; the bytes. Raises NotFound, Conflict, OSError."""
    manifest = shelf.manifest(name)
    if manifest is None:
        raise NotFound(f"There is no saved context named {name}.", "`soul agents` lists them.")
    if target.exists():
        raise Conflict(f"{target} is there already.", "Name a folder that does not exist.")
    (target / "pool").mkdir(parents=True)
    files = [shelf.home_of(name) / IDS, shelf.home_of(name) / MANIFEST]
    files += [shelf.home_of(name) / tail.file for tail in manifest.tails]
    for path in files:
        shutil.copyfile(path, target / path.name)
    (target / MANIFEST).write_bytes(manifest.encode())
    for file in {ref.file for ref in manifest.blocks}:
        shutil.copyfile(shelf.pool / file, target / "pool" / file)
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def adopt(shelf: Shelf, source: Path, name: str | None = None) -> Manifest:
    """Takes in what `export` made, on this or another machine, after checking every byte.

    Raises InvalidInput for what is damaged or of another model, Conflict when the context is there already.
    """
    try:
        manifest = Manifest.decode((source / MANIFEST).read_bytes())
        if manifest.fingerprint != shelf.fingerprint or manifest.form != shelf.form:
            raise InvalidInput(
                f"{source} was made with other weights or another format ({manifest.form}, fingerprint "
                f"{manifest.fingerprint[:12]}).",
                f"Load the model it came from; this one is {shelf.form}, {shelf.fingerprint[:12]}.",
            )
        log_found = replay(source / IDS)
        if log_found.damage or any(log_found.good < tail.log_bytes for tail in manifest.tails[-1:]):
            raise Damaged("its ids are damaged")
        files = [source / "pool" / ref.file for ref in manifest.blocks]
        for path in {*files, *(source / tail.file for tail in manifest.tails)}:
            if path.resolve().parent not in (source.resolve(), (source / "pool").resolve()):
                raise Damaged("it names files outside itself")
            header = read_header(path)
            read(path, header)
            check_origin(path, header.metadata, shelf.fingerprint, shelf.form)
    except (OSError, Damaged, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{source} cannot be imported: {error}.", "Export it again.") from error
    manifest = replace(manifest, name=name or manifest.name)
    folder = shelf.home_of(manifest.name)
    if folder.exists():
        raise Conflict(f"A context named {manifest.name} is there already.", "Drop it, or give another name.")
    folder.mkdir()
    try:
        for file in {ref.file for ref in manifest.blocks}:
            if not (shelf.pool / file).exists():
                shutil.copyfile(source / "pool" / file, shelf.pool / file)
        for file in (IDS, *(tail.file for tail in manifest.tails)):
            shutil.copyfile(source / file, folder / file)
        sync_folder(shelf.pool)
        shelf.commit(manifest)
    except OSError:
        # What is half there would stand in the way of the next attempt; blocks that nobody names are swept.
        shutil.rmtree(folder, ignore_errors=True)
        shelf.sweep()
        raise
    return manifest
