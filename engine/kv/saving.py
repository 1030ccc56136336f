"""From a context's cache to files: what the compute thread copies out, and what the writer makes of it.

`extract` runs on the compute thread and only copies bytes. `save` runs on the writer thread and only knows files: block
file, tail file, folder syncs, and the manifest last. `compact` puts a context's many block files into one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from engine.kv.chain import id_bytes, next_link
from engine.kv.form import BLOCK, sealed_blocks
from engine.kv.journal import Journal
from engine.kv.manifest import BlockRef, Manifest, TailRef, leading
from engine.kv.shelf import IDS, SUFFIX, Shelf, tail_name
from engine.kv.tensors import Tensor, read, read_header, sync_folder, write

if TYPE_CHECKING:
    from engine.contexts import Context

TAILS_OF_STATES = 3
"""How many turn ends are kept for models whose caches cannot be cut."""
COMPACT_AT = 12
"""Block files of one context before they are put together."""


@dataclass(frozen=True)
class Snapshot:
    """A context at one moment, as bytes. Nothing in it belongs to MLX."""

    name: str
    ids: tuple[int, ...]
    """The computed ones, and those behind them that the log has."""
    tokens: int
    """How many are computed."""
    links: tuple[str, ...]
    """At the ends of the sealed blocks; the first is before any token."""
    refs: tuple[BlockRef, ...]
    """The sealed blocks that are on disk already."""
    fresh: Mapping[str, Tensor]
    """The sealed blocks behind them; none when empty."""
    tail: Mapping[str, Tensor]
    states: str
    """JSON: per layer without blocks, what else than arrays its state holds."""
    trimmable: bool
    journal: Journal
    log_bytes: int

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in (*self.fresh.values(), *self.tail.values()))


def extract(context: Context) -> Snapshot:
    """Copies what is not on disk yet. Runs on the compute thread, between two steps."""
    from engine.kv.sealed import ExactCache, SealedCache, merged

    assert context.cache is not None and context.chain is not None and context.journal is not None
    context.check()
    tokens = context.cached
    if len(context.ids) > tokens and all(isinstance(layer, SealedCache) for layer in context.cache):
        # The token behind a full tail is known: sealed now, between turns, it need not be sealed while one waits.
        for layer in context.cache:
            layer.seal_full()
    # Blocks that came from a longer context may be sealed although no token is behind them yet.
    sealed = max((layer.blocks for layer in context.cache if isinstance(layer, SealedCache)), default=0)
    most = context.chain.links(context.ids, tokens // BLOCK)
    refs = leading(context.refs, most)
    first = refs[-1].end if refs else 0
    in_blocks = any(isinstance(layer, SealedCache | ExactCache) for layer in context.cache)
    blocks = max(sealed_blocks(tokens), sealed, first) if in_blocks else 0
    fresh: dict[str, Tensor] = {}
    ids = tuple(context.ids[: max(tokens, context.journal.length)])
    tail: dict[str, Tensor] = {"ids": Tensor("I32", (len(ids),), np.frombuffer(id_bytes(ids), np.uint8))}
    states: dict[str, Any] = {}
    for number, layer in enumerate(context.cache):
        if isinstance(layer, SealedCache):
            assert layer.offset == tokens and layer.blocks == blocks
            if blocks > first:
                for name, array in merged(layer.blocks_between(first, blocks)).arrays().items():
                    fresh[f"{number}.{name}"] = _bytes_of(array)
            if tokens > blocks * BLOCK:
                used = tokens - blocks * BLOCK
                tail[f"{number}.k"] = _bytes_of(layer.tail_keys[..., :used, :])
                tail[f"{number}.v"] = _bytes_of(layer.tail_values[..., :used, :])
        elif isinstance(layer, ExactCache):
            assert layer.offset == tokens
            if blocks > first:
                for name, array in layer.blocks_between(first, blocks).items():
                    fresh[f"{number}.{name}"] = _bytes_of(array)
            if tokens > blocks * BLOCK:
                for name, whole in (("k", layer.keys), ("v", layer.values)):
                    rows: Any = whole
                    tail[f"{number}.{name}"] = _bytes_of(rows[..., blocks * BLOCK : tokens, :])
        else:
            arrays: list[Any] = []
            states[str(number)] = _skeleton(layer.state, arrays)
            for place, array in enumerate(arrays):
                tail[f"{number}.s{place}"] = _bytes_of(array)
    return Snapshot(
        context.name,
        ids,
        tokens,
        tuple(most[: blocks + 1]),
        tuple(refs),
        fresh,
        tail,
        json.dumps(states),
        not states,
        context.journal,
        context.journal.size,
    )


def _skeleton(state: Any, arrays: list[Any]) -> Any:
    """A state as JSON, its arrays replaced by their places in `arrays`."""
    from engine.backend import mx

    if isinstance(state, mx.array):
        arrays.append(state)
        return {"array": len(arrays) - 1}
    if isinstance(state, list | tuple):
        return {"list" if isinstance(state, list) else "tuple": [_skeleton(one, arrays) for one in state]}
    if state is None or isinstance(state, bool | int | float | str):
        return {"value": state}
    raise TypeError(f"a cache state holds a {type(state).__name__}, which cannot be saved")


def _bytes_of(array: Any) -> Tensor:
    from engine.backend import mx

    names = {
        mx.uint32: "U32", mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.int32: "I32",
        mx.uint8: "U8", mx.bool_: "BOOL", mx.uint16: "U16", mx.int64: "I64",
    }  # fmt: skip
    dtype = names[array.dtype]
    shape = tuple(int(one) for one in array.shape)
    plain = array.view(mx.uint16) if dtype == "BF16" else array
    copied = np.array(plain, copy=True)
    return Tensor(dtype, shape, copied.reshape(-1).view(np.uint8))


class Vanished(OSError):
    """Blocks that a context goes on from are on disk no more; what it holds in memory has to be saved anew."""


def save(shelf: Shelf, snapshot: Snapshot) -> Manifest:
    """Writes a snapshot and commits it. Raises OSError (Vanished, too); what was saved before is then still valid.

    Runs where compactions and sweeps run, so that no file it names goes meanwhile.
    """
    folder = shelf.home_of(snapshot.name)
    folder.mkdir(parents=True, exist_ok=True)
    snapshot.journal.sync()
    written = 0
    blocks = _standing(shelf, snapshot)
    if snapshot.fresh:
        ref, count = _write_blocks(shelf, snapshot.fresh, snapshot.links, blocks[-1].end if blocks else 0)
        blocks.append(ref)
        written += count
    old = shelf.manifest(snapshot.name)
    tokens = snapshot.tokens
    rest = snapshot.ids[(len(snapshot.links) - 1) * BLOCK : tokens]
    file = tail_name(tokens)
    link = next_link(snapshot.links[-1], rest)
    metadata = {**_origin(shelf, "tail"), "tokens": str(tokens), "states": snapshot.states}
    size = write(folder / file, snapshot.tail, metadata)
    written += size
    tails = [TailRef(file, tokens, len(snapshot.links) - 1, link, size, snapshot.log_bytes)]
    if not snapshot.trimmable and old is not None:
        # A cache that cannot be cut comes back from an earlier turn's end; one of the ids that were cut is of no use,
        # and is found out when it is looked at.
        earlier = [one for one in old.tails if one.tokens < tokens]
        tails = [*earlier[-(TAILS_OF_STATES - 1) :], *tails]
    now = time.time()
    manifest = Manifest(
        snapshot.name,
        shelf.fingerprint,
        shelf.form,
        tokens,
        old.created if old else now,
        now,
        written + (old.written if old else 0),
        tuple(blocks),
        tuple(tails),
    )
    shelf.written += written
    shelf.commit(manifest)
    return manifest


def _standing(shelf: Shelf, snapshot: Snapshot) -> list[BlockRef]:
    """The snapshot's references to what is on disk already.

    A context that was loaded while its small files were put into one may still name those, although they were swept.
    """
    if _are_there(shelf, snapshot.refs):
        return list(snapshot.refs)
    end = snapshot.refs[-1].end
    found = leading(shelf.find(snapshot.name, snapshot.links[: end + 1]), snapshot.links)
    if not found or found[-1].end < end or not _are_there(shelf, found):
        raise Vanished(f"block files of {snapshot.name} are gone from {shelf.pool}")
    return found


def _are_there(shelf: Shelf, refs: Sequence[BlockRef]) -> bool:
    return all((shelf.pool / file).exists() for file in {ref.file for ref in refs})


def _origin(shelf: Shelf, kind: str) -> dict[str, str]:
    return {"soul_kv": "1", "kind": kind, "fingerprint": shelf.fingerprint, "form": shelf.form, "block": str(BLOCK)}


def _write_blocks(
    shelf: Shelf, tensors: Mapping[str, Tensor], links: Sequence[str], start: int
) -> tuple[BlockRef, int]:
    """A pool file with the blocks from `start` to the end of `links`; one with these bytes is not written again."""
    count = len(links) - 1 - start
    own = tuple(links[start + 1 :])
    digest = xxhash.xxh3_128()
    for tensor in tensors.values():
        digest.update(tensor.data.data)
    path = shelf.pool / f"{own[-1][:32]}-{count}-{digest.hexdigest()[:16]}{SUFFIX}"
    written = 0
    if not path.exists():
        metadata = {
            **_origin(shelf, "blocks"),
            "start": str(start * BLOCK),
            "end": str((start + count) * BLOCK),
            "links": json.dumps([links[start], *own]),
        }
        written = write(path, tensors, metadata)
        sync_folder(shelf.pool)
    return BlockRef(path.name, 0, start, count, own, sum(one.nbytes for one in tensors.values()) // count), written


def compact(shelf: Shelf, name: str) -> Manifest | None:
    """Puts all block files of a context into one; the small ones are left to a sweep.

    None when there is nothing to do or a file is bad (then later use finds it out). Raises OSError.
    """
    from engine.kv.tensors import Damaged

    manifest = shelf.manifest(name)
    if manifest is None or len(manifest.blocks) < 2:
        return None
    pieces: dict[str, list[NDArray[np.uint8]]] = {}
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    links: list[str] = []
    try:
        for ref in manifest.blocks:
            path = shelf.pool / ref.file
            header = read_header(path)
            if not links:
                links.append(json.loads(header.metadata["links"])[0])
            links.extend(ref.links)
            for tensor_name, tensor in read(path, header).items():
                rows = tensor.data.reshape(tensor.shape[0], -1)
                pieces.setdefault(tensor_name, []).append(rows[ref.row : ref.row + ref.count])
                kinds[tensor_name] = (tensor.dtype, tensor.shape[1:])
    except (Damaged, ValueError, KeyError):
        return None
    blocks = len(links) - 1
    whole = {
        one: Tensor(kinds[one][0], (blocks, *kinds[one][1]), np.concatenate(parts).reshape(-1))
        for one, parts in pieces.items()
    }
    ref, written = _write_blocks(shelf, whole, links, 0)
    if shelf.manifest(name) is not manifest:
        return None
    shelf.written += written
    fresh = replace(manifest, blocks=(ref,), written=manifest.written + written)
    shelf.commit(fresh)
    return fresh


@dataclass
class Saver:
    """What is under way for one context: one snapshot at a time, and whether another one is due behind it."""

    busy: bool = False
    due: bool = False
    error: str = ""
    """Why the last save failed; empty when it did not."""


__all__ = ["IDS", "Saver", "Snapshot", "Vanished", "compact", "extract", "save"]
