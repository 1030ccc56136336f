"""Reads a shelf's files, every byte of them, and says which are not as they were written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import NotFound
from engine.kv.journal import replay
from engine.kv.shelf import IDS, Shelf, check_origin
from engine.kv.tensors import Damaged, read, read_header


@dataclass(frozen=True)
class Fault:
    """Something on disk that is not as it was written."""

    context: str
    path: str
    fact: str


def verify(shelf: Shelf, names: Iterable[str] | None = None) -> list[Fault]:
    """Reads everything and compares checksums; what is bad is put into quarantine. Raises OSError."""
    faults: list[Fault] = []
    for name in names if names is not None else shelf.names():
        folder = shelf.home_of(name)
        if not folder.is_dir():
            raise NotFound(f"There is no context named {name} on disk.", "`soul agents` lists them.")
        try:
            if damage := shelf.log_damage(name, replay(folder / IDS)):
                faults.append(Fault(name, IDS, damage))
        except FileNotFoundError:
            faults.append(Fault(name, IDS, "missing"))
        manifest = shelf.manifest(name)
        files: list[Path] = []
        if manifest is not None:
            files = [shelf.pool / one for one in dict.fromkeys(ref.file for ref in manifest.blocks)]
            files += [folder / tail.file for tail in manifest.tails]
        for path in files:
            try:
                header = read_header(path)
                read(path, header)
                check_origin(path, header.metadata, shelf.fingerprint, shelf.form)
            except FileNotFoundError:
                faults.append(Fault(name, path.name, "missing"))
                shelf.forget_file(path.name)
            except (Damaged, ValueError, KeyError) as error:
                faults.append(Fault(name, path.name, str(error)))
                shelf.quarantine(path, str(error))
    return faults
