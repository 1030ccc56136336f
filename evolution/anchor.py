"""The anchor: the untouched base weights, split once into a frozen part and a plastic part.

Every generation hard-links the frozen part and writes a plastic part of its own, so that a generation of a 70B model
costs the bytes of its attention projections. Knows files; does not know how the plastic part is merged.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from engine.errors import Conflict, InvalidInput, StorageFull
from engine.fingerprint import PARTS, fingerprint
from engine.kv.tensors import replace_file, sync_folder
from engine.models import NAME_FILE, check_folder
from evolution import tensors
from evolution.plastic import linear_names, plastic_names
from evolution.tensors import Place, Written

log = structlog.get_logger()

Scope = Literal["attention", "all-linear"]
Report = Callable[[str, float | None], None]

PLASTIC_FILE = "model-plastic.safetensors"
FROZEN_FILE = "model-frozen.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MANIFEST = "anchor.json"
SPARE_BYTES = 200 * 10**6
"""Left free on the disk beside what is written."""


@dataclass(frozen=True)
class Anchor:
    """A split anchor. `id` is the fingerprint of the model it was made from, `seal` that of the split files."""

    folder: Path
    id: str
    seal: str
    scope: Scope
    source: str
    frozen_bytes: int
    plastic_bytes: int
    frozen_file: tuple[int, str]
    """Size and content hash of the file that generations link."""

    @property
    def plastic(self) -> dict[str, Place]:
        """The tensors that may change."""
        return tensors.places(self.folder / PLASTIC_FILE)

    def side_files(self) -> list[Path]:
        """Everything but weights, index and our own notes: config, tokenizer, chat template."""
        return [self.folder / name for name in (*PARTS, NAME_FILE) if (self.folder / name).is_file()]

    def check(self, known: Path | None) -> None:
        """Raises Conflict when a file is not what was split: everything merged onto it would be wrong."""
        if fingerprint(self.folder, known=known) != self.seal:
            raise Conflict(
                f"The anchor in {self.folder} was changed since it was split.",
                "Remove that folder; the next integration splits the model anew.",
            )


def anchor_id(model: Path, known: Path | None = None) -> str:
    """The fingerprint that ties adapters to a model folder. Moving the folder does not change it."""
    check_folder(model)
    return fingerprint(model, known=known)


def split_cost(model: Path, scope: Scope) -> tuple[int, int]:
    """Bytes of the frozen and of the plastic part, read from headers alone. Raises InvalidInput as `split` does."""
    every = tensors.places_of(model)
    plastic = set(plastic_of(every, scope))
    inside = sum(place.nbytes for name, place in every.items() if name in plastic)
    return sum(place.nbytes for place in every.values()) - inside, inside


def find(home: Path, id: str, scope: Scope) -> Anchor | None:
    """The split anchor of that id, where it was made already."""
    folder = _folder(home, id, scope)
    try:
        said: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        said["frozen_file"] = tuple(said["frozen_file"])
        return Anchor(folder, **said)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def split(home: Path, model: Path, scope: Scope, *, known: Path | None, report: Report) -> Anchor:
    """The split anchor of a model folder, made now where it is not there yet; called under the lock.

    Raises:
        InvalidInput: the weights are quantised, or no tensor is plastic by a known name.
        StorageFull: the parts would not fit.
    """
    report("reading the anchor", None)
    id = anchor_id(model, known)
    if (found := find(home, id, scope)) is not None:
        return found
    every = tensors.places_of(model)
    plastic = dict.fromkeys(plastic_of(every, scope))
    if quantised := [name for name in plastic if every[name].dtype not in tensors.FLOATS]:
        tensors.read(every[quantised[0]])
    frozen_bytes, plastic_bytes = split_cost(model, scope)
    need_room(home, frozen_bytes + plastic_bytes, "splitting the anchor")

    folder = _folder(home, id, scope)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for torn in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(torn, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for name in (*PARTS, NAME_FILE):
            if (model / name).is_file():
                shutil.copyfile(model / name, fresh / name)
        parts: list[tuple[str, Mapping[str, Place]]] = [
            (FROZEN_FILE, {name: place for name, place in every.items() if name not in plastic}),
            (PLASTIC_FILE, {name: every[name] for name in plastic}),
        ]
        done, total = 0, frozen_bytes + plastic_bytes
        written: dict[str, Written] = {}
        for file, chosen in parts:

            def pieces(chosen: Mapping[str, Place] = chosen) -> Iterator[bytes]:
                nonlocal done
                for place in chosen.values():
                    for piece in tensors.blocks(place):
                        done += len(piece)
                        yield piece
                    report("splitting the anchor", done / max(1, total))

            written[file] = tensors.write(
                fresh / file, {name: (p.dtype, p.shape) for name, p in chosen.items()}, pieces()
            )
        write_index(fresh, {file: list(chosen) for file, chosen in parts}, total)
        frozen = (written[FROZEN_FILE].size, written[FROZEN_FILE].sum)
        anchor = Anchor(folder, id, fingerprint(fresh), scope, str(model), frozen_bytes, plastic_bytes, frozen)
        write_json(fresh / MANIFEST, {name: value for name, value in asdict(anchor).items() if name != "folder"})
        sync_folder(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    log.info("anchor_split", folder=str(folder), frozen=frozen_bytes, plastic=plastic_bytes)
    return anchor


def need_room(home: Path, wanted: int, purpose: str) -> None:
    """Raises StorageFull, with the figures, when `wanted` bytes and some spare ones do not fit on the home's disk."""
    free = shutil.disk_usage(home).free
    if free < wanted + SPARE_BYTES:
        raise StorageFull(
            f"{purpose[0].upper()}{purpose[1:]} writes {wanted / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free on the "
            f"disk of {home}.",
            f"Free {(wanted + SPARE_BYTES - free) / 1e9:.2f} GB there and call again.",
        )


def write_index(folder: Path, files: Mapping[str, list[str]], total: int) -> None:
    """The index that tells readers which file holds which tensor."""
    weight_map = {name: file for file, names in files.items() for name in names}
    write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all, durably but for the folder's sync."""
    replace_file(path, [(json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()])


def link(source: Path, target: Path) -> None:
    """A second name for a file; a copy on disks without hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def plastic_of(every: Mapping[str, Place], scope: Scope) -> tuple[str, ...]:
    """The names of the tensors that may change. Raises InvalidInput where none has a name that is known."""
    attention = plastic_names(every)
    return attention if scope == "attention" else tuple(sorted({*attention, *linear_names(every)}))


def _folder(home: Path, id: str, scope: Scope) -> Path:
    return home / "anchors" / f"{id[:16]}-{scope}"


def check_scope(names: set[str], attention: set[str], linear: set[str], adapter: str) -> Scope:
    """The smaller part that holds all tensors an adapter changes; InvalidInput when none does."""
    if names <= attention:
        return "attention"
    if beyond := sorted(names - attention - linear):
        raise InvalidInput(
            f"The adapter {adapter} changes {len(beyond)} tensors that the anchor has not or keeps frozen, "
            f"{beyond[0]} among them.",
            "Give an adapter of this very model, on the linear layers of its blocks.",
        )
    return "all-linear"
