"""Safetensors files read and written one tensor at a time, so that memory holds one tensor and not one model.

Knows dtypes and byte ranges. bfloat16, which numpy lacks, is the upper half of a float32. Does not know what the
tensors mean. Every reader of safetensors opens what is written here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from engine.errors import InvalidInput
from engine.kv.tensors import SIZES, sync

Floats = NDArray[np.float32]
MOST_HEADER = 256 * 1024 * 1024
BLOCK = 8 * 1024 * 1024
FLOATS = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True)
class Place:
    """Where a tensor lies. `start` and `end` are bytes from the start of the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Written:
    """A file that was written: its bytes, and the xxh3-128 of them."""

    size: int
    sum: str


def places(path: Path) -> dict[str, Place]:
    """The tensors of one file by name, in the order of the file. Raises InvalidInput for a torn or foreign file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, MOST_HEADER):
                raise ValueError("its header is longer than the file")
            header = cast(dict[str, Any], json.loads(file.read(length)))
    except (OSError, ValueError, struct.error) as error:
        raise InvalidInput(f"{path} is no safetensors file: {error}.", "Fetch or make it again.") from error
    header.pop("__metadata__", None)
    first = 8 + length
    found: dict[str, Place] = {}
    for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"][0]):
        start, end = one["data_offsets"]
        found[name] = Place(path, str(one["dtype"]), tuple(one["shape"]), first + start, first + end)
    if found and size < max(place.end for place in found.values()):
        raise InvalidInput(f"{path} is torn: {size:,} bytes are too few.", "Fetch or make it again.")
    return found


def places_of(folder: Path, pattern: str = "model*.safetensors") -> dict[str, Place]:
    """All tensors of a model folder by name, file after file."""
    return {name: place for path in sorted(folder.glob(pattern)) for name, place in places(path).items()}


def blocks(place: Place) -> Iterator[bytes]:
    """The bytes of a tensor as they are, in pieces."""
    with place.path.open("rb") as file:
        file.seek(place.start)
        left = place.nbytes
        while left > 0:
            piece = file.read(min(BLOCK, left))
            if not piece:
                raise InvalidInput(f"{place.path} is torn.", "Fetch or make it again.")
            left -= len(piece)
            yield piece


def read(place: Place) -> Floats:
    """A float tensor in float32, exactly. Raises InvalidInput for integers, which are quantised weights."""
    if place.dtype not in FLOATS:
        raise InvalidInput(
            f"{place.path.name} holds tensors of {place.dtype}: these weights are quantised.",
            "Deltas are merged in full precision; give the unquantised model as `model`.",
        )
    raw = b"".join(blocks(place))
    if place.dtype == "BF16":
        wide = np.frombuffer(raw, np.uint16).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32).reshape(place.shape)
    kind = np.float16 if place.dtype == "F16" else np.float32
    return np.frombuffer(raw, kind).astype(np.float32).reshape(place.shape)


def encoded(values: Floats, dtype: str) -> bytes:
    """Float32 as the bytes of `dtype`, rounded to nearest, ties to even."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    if dtype != "BF16":
        raise InvalidInput(f"Weights cannot be written as {dtype}.", "Use F32, F16 or BF16.")
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> 16).astype("<u2").tobytes()


def write(
    path: Path, layout: Mapping[str, tuple[str, tuple[int, ...]]], pieces: Iterable[bytes], format: str = "mlx"
) -> Written:
    """Writes a new file piece by piece and makes it durable.

    Args:
        layout: dtype and shape by tensor name, in the order in which `pieces` gives their bytes.

    Raises:
        OSError: the disk is full, or the file is there already.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": format}}
    at = 0
    for name, (dtype, shape) in layout.items():
        end = at + SIZES[dtype] * int(np.prod(shape, dtype=np.int64))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    written = 0
    digest = xxhash.xxh3_128()
    with path.open("xb") as file:
        for piece in chain([struct.pack("<Q", len(header)) + header], pieces):
            written += file.write(piece)
            digest.update(piece)
        file.flush()
        sync(file.fileno())
    if written != 8 + len(header) + at:
        raise ValueError(f"{written} bytes were written for a layout of {at}")
    return Written(path.stat().st_size, digest.hexdigest())


def write_arrays(path: Path, arrays: Mapping[str, Floats], format: str = "mlx") -> Written:
    """Writes float32 arrays into a new file."""
    layout = {name: ("F32", tuple(array.shape)) for name, array in arrays.items()}
    return write(path, layout, (encoded(array, "F32") for array in arrays.values()), format)
