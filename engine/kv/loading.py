"""From files back to a context's cache, on the loader thread: read once, checked, ready to be used as it is.

Arrays are evaluated here, so that the compute thread may use them, and so that loading one context runs beside the
others' decode steps. What is damaged goes into quarantine and is simply missing: the hole is computed from ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from engine.backend import mx
from engine.kv.form import BLOCK
from engine.kv.manifest import BlockRef, TailRef
from engine.kv.shelf import Shelf, check_origin
from engine.kv.tensors import Damaged, check, read_header

log = structlog.get_logger()

AHEAD = 24
"""Tensors that are read while as many are hashed: four layers of a quantised cache."""


@dataclass(frozen=True)
class Piece:
    """Neighbouring sealed blocks: per layer number, arrays by name. `ref`: where they are on disk, if they are."""

    start: int
    count: int
    ref: BlockRef | None
    layers: dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Tail:
    """What follows the sealed blocks: exact keys and values per layer, states of layers without blocks."""

    blocks: int
    tokens: int
    """Usable ones; perhaps fewer than were saved."""
    layers: dict[int, dict[str, Any]]
    states: dict[int, Any]


@dataclass
class Restored:
    """What was found for a context's ids. `pieces` by first block, perhaps with holes."""

    pieces: dict[int, Piece] = field(default_factory=lambda: dict[int, Piece]())
    tail: Tail | None = None
    nbytes: int = 0

    def at(self, tokens: int) -> Piece | None:
        """The piece that goes on at this many tokens."""
        return self.pieces.get(tokens // BLOCK) if tokens % BLOCK == 0 else None

    def next_start(self, tokens: int) -> int | None:
        """Where the next piece behind `tokens` begins, in tokens."""
        return min((start * BLOCK for start in self.pieces if start * BLOCK > tokens), default=None)


def restore(shelf: Shelf, name: str, ids: Sequence[int], links: Sequence[str], *, whole: bool) -> Restored:
    """Loads what is on disk for these ids, all but the last of them at most. Runs on the loader thread.

    Args:
        links: of all full blocks of `ids[:-1]`, the first before any token.
        whole: the model has layers without blocks, so that only a saved turn's end can be gone on from.
    """
    found = Restored()
    manifest = shelf.manifest(name)
    for tail in reversed(manifest.tails if manifest else ()):
        loaded = _load_tail(shelf, shelf.home_of(name) / tail.file, tail, ids, whole)
        if loaded is None:
            continue
        found.tail = loaded
        found.nbytes += tail.nbytes
        break
    if whole and found.tail is None:
        return found
    wanted = links[: found.tail.blocks + 1] if whole and found.tail is not None else links
    pieces = _load_all(shelf, shelf.find(name, wanted))
    if None in pieces:
        # A file that vanished was put into another one by a compaction just now; one that is bad is out of the index.
        pieces = _load_all(shelf, shelf.find(name, wanted))
    for piece in pieces:
        if piece is not None and piece.ref is not None:
            found.pieces[piece.start] = piece
            found.nbytes += piece.ref.nbytes
    if whole and found.tail is not None and sum(one.count for one in found.pieces.values()) < found.tail.blocks:
        return Restored()  # a hole, and layers that cannot be computed around it
    return found


def _load_all(shelf: Shelf, refs: Sequence[BlockRef]) -> list[Piece | None]:
    return [_load_blocks(shelf, ref) for ref in refs]


def _load_blocks(shelf: Shelf, ref: BlockRef) -> Piece | None:
    path = shelf.pool / ref.file
    loaded = _load(shelf, path)
    if loaded is None:
        return None
    metadata, arrays = loaded
    links = json.loads(metadata["links"])[1:]
    if tuple(links[ref.row : ref.row + ref.count]) != ref.links:
        shelf.quarantine(path, "it holds other blocks than the manifest says")
        return None
    layers: dict[int, dict[str, Any]] = {}
    cut = ref.count < len(links)
    for name, array in arrays.items():
        number, part = name.split(".", 1)
        layers.setdefault(int(number), {})[part] = array[ref.row : ref.row + ref.count] if cut else array
    if cut:
        mx.eval(layers)
    return Piece(ref.start, ref.count, ref, layers)


def _load_tail(shelf: Shelf, path: Path, tail: TailRef, ids: Sequence[int], whole: bool) -> Tail | None:
    blocks = tail.blocks
    if blocks * BLOCK >= len(ids) - 1 or (whole and tail.tokens > len(ids) - 1):
        return None
    loaded = _load(shelf, path)
    if loaded is None:
        return None
    metadata, arrays = loaded
    saved = [int(one) for one in arrays.pop("ids").tolist()]
    del saved[tail.tokens :]
    if len(saved) < tail.tokens:
        return None
    same = next(
        (n for n, pair in enumerate(zip(saved, ids, strict=False)) if pair[0] != pair[1]), min(len(saved), len(ids))
    )
    usable = min(same, len(ids) - 1)
    if usable <= blocks * BLOCK or (whole and usable < tail.tokens):
        return None
    layers: dict[int, dict[str, Any]] = {}
    parts: dict[int, dict[int, Any]] = {}
    for name, array in arrays.items():
        number, part = name.split(".", 1)
        if part.startswith("s"):
            parts.setdefault(int(number), {})[int(part[1:])] = array
        else:
            layers.setdefault(int(number), {})[part] = array[..., : usable - blocks * BLOCK, :]
    mx.eval(layers)
    states = {
        int(number): _state(one, parts.get(int(number), {})) for number, one in json.loads(metadata["states"]).items()
    }
    return Tail(blocks, usable, layers, states)


def _state(skeleton: Any, arrays: dict[int, Any]) -> Any:
    """The reverse of `saving._skeleton`."""
    ((kind, content),) = skeleton.items()
    if kind == "array":
        return arrays[content]
    if kind == "value":
        return content
    made = [_state(one, arrays) for one in content]
    return made if kind == "list" else tuple(made)


def _load(shelf: Shelf, path: Path) -> tuple[dict[str, str], dict[str, Any]] | None:
    """A file's metadata and arrays, evaluated and checked; None, and the file in quarantine, when it is bad."""
    try:
        header = read_header(path)
        check_origin(path, header.metadata, shelf.fingerprint, shelf.form)
        arrays: dict[str, Any] = mx.load(str(path))  # pyright: ignore[reportAssignmentType]
        names = list(arrays)
        mx.async_eval([arrays[name] for name in names[:AHEAD]])
        for place, name in enumerate(names):
            if place % AHEAD == 0:
                # The next ones are read while these are hashed.
                mx.async_eval([arrays[one] for one in names[place + AHEAD : place + 2 * AHEAD]])
            array = arrays[name]
            plain = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
            check(path, header, name, memoryview(plain).cast("B") if plain.size else b"")
        if arrays.keys() != header.tensors.keys():
            raise Damaged(f"{path.name}: tensors are missing")
        return header.metadata, arrays
    except FileNotFoundError:
        log.warning("kv_missing", file=str(path))
        shelf.forget_file(path.name)
    except (Damaged, ValueError, KeyError, RuntimeError, OSError) as error:
        shelf.quarantine(path, str(error))
    return None
