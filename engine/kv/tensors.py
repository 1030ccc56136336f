"""Safetensors files that notice every changed byte.

Any safetensors reader opens them. Beyond the plain format the metadata holds `sums`, an xxh3-128 per tensor, and
`check`, the xxh3-128 of the header itself, computed with 32 zeros in its place. Files are written whole under a
temporary name, synced, renamed, and never changed. Imports no MLX.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

NO_CHECK = "0" * 32
MARK = '"check":"'
MOST_HEADER = 64 * 1024 * 1024
SIZES = {"U32": 4, "I32": 4, "F32": 4, "F16": 2, "BF16": 2, "U16": 2, "U8": 1, "I8": 1, "BOOL": 1, "I64": 8, "U64": 8}


class Damaged(Exception):
    """A file is not what was written: torn, flipped or foreign. The text says where."""


@dataclass(frozen=True)
class Tensor:
    """Bytes of an array: `dtype` as safetensors names it (numpy has no bfloat16)."""

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes)


@dataclass(frozen=True)
class Header:
    """What a file says of itself. `sums` by tensor name."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...], int, int]]
    """Name to dtype, shape, first byte and end, counted from the start of the file."""
    sums: dict[str, str]
    size: int


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Writes a file and makes it durable; the bytes written. The folder must be synced by the caller.

    Raises OSError; nothing is left behind then.
    """
    entries: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    sums = {name: xxhash.xxh3_128_hexdigest(tensor.data.data) for name, tensor in tensors.items()}
    said = {"check": NO_CHECK, "sums": json.dumps(sums, separators=(",", ":")), **metadata}
    header = json.dumps({"__metadata__": said, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    start = struct.pack("<Q", len(header))
    check = xxhash.xxh3_128_hexdigest(start + header)
    header = header.replace(f"{MARK}{NO_CHECK}".encode(), f"{MARK}{check}".encode(), 1)
    return replace_file(path, [start, header, *(tensor.data.data for tensor in tensors.values())])


def read_header(path: Path) -> Header:
    """Reads and checks the header, and that the file is as long as it says.

    Raises:
        Damaged: the file is torn or its header was changed.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise Damaged(f"{path.name}: {size} bytes, too short for a header")
        (length,) = struct.unpack("<Q", start)
        if length > min(size - 8, MOST_HEADER):
            raise Damaged(f"{path.name}: its header of {length} bytes is longer than the file")
        raw = file.read(length)
    mark = raw.find(MARK.encode())
    check = raw[mark + len(MARK) : mark + len(MARK) + len(NO_CHECK)]
    whole = raw[: mark + len(MARK)] + NO_CHECK.encode() + raw[mark + len(MARK) + len(NO_CHECK) :]
    if mark < 0 or xxhash.xxh3_128_hexdigest(start + whole).encode() != check:
        raise Damaged(f"{path.name}: its header does not match its checksum")
    content = cast(dict[str, Any], json.loads(raw))
    metadata = cast(dict[str, str], content.pop("__metadata__"))
    first = 8 + length
    tensors = {
        name: (str(one["dtype"]), tuple(one["shape"]), first + one["data_offsets"][0], first + one["data_offsets"][1])
        for name, one in content.items()
    }
    if size != (end := max((one[3] for one in tensors.values()), default=first)):
        raise Damaged(f"{path.name}: {size} bytes instead of {end}")
    return Header(metadata, tensors, cast(dict[str, str], json.loads(metadata["sums"])), size)


def read(path: Path, header: Header, names: Any = None) -> dict[str, Tensor]:
    """Reads and checks tensors (all, or those named). Raises Damaged or OSError."""
    found: dict[str, Tensor] = {}
    with path.open("rb") as file:
        for name in header.tensors if names is None else names:
            dtype, shape, first, end = header.tensors[name]
            file.seek(first)
            data = np.fromfile(file, np.uint8, end - first)
            check(path, header, name, data)
            found[name] = Tensor(dtype, shape, data)
    return found


def check(path: Path, header: Header, name: str, data: Any) -> None:
    """Raises Damaged when a tensor's bytes are not those that were written. `data`: anything with a buffer."""
    if xxhash.xxh3_128_hexdigest(data) != header.sums.get(name):
        raise Damaged(f"{path.name}: the tensor {name} does not match its checksum")


def replace_file(path: Path, parts: Any) -> int:
    """Temporary file, sync, rename. Raises OSError and leaves nothing behind."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    written = 0
    try:
        with fresh.open("wb") as file:
            for part in parts:
                written += file.write(part)
            file.flush()
            sync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    return written


def sync(descriptor: int) -> None:
    """Makes a file's bytes durable; on macOS only F_FULLFSYNC reaches the medium."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        fcntl.fcntl(descriptor, full)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
