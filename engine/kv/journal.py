"""The token ids of a context on disk: an append-only log, each record chained to the one before by its checksum.

A record says "cut to `start`, then append these", so that cuts cost a few bytes. It is written with one system call
when a turn ends, which a killed process cannot lose, and synced with the next save. Ids are the truth: what else is
lost can be computed again from them.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from engine.kv.chain import id_bytes
from engine.kv.tensors import replace_file, sync, sync_folder

MAGIC = b"SOULIDS1"
HEAD = struct.Struct("<8sII16s")
"""Magic, start, count, checksum over (checksum of the record before, start, count, ids)."""


@dataclass(frozen=True)
class Replayed:
    """What a log holds. `damage` says where it broke off, "" if it is whole; `good` are the bytes before that."""

    ids: list[int]
    last: bytes
    damage: str
    good: int


def replay(path: Path) -> Replayed:
    """Reads a log up to its end or its first bad record. Raises OSError."""
    content = path.read_bytes()
    ids = array("i")
    last, at = bytes(16), 0
    while at < len(content):
        if len(content) - at < HEAD.size:
            return Replayed(list(ids), last, f"torn at byte {at}", at)
        magic, start, count, check = HEAD.unpack_from(content, at)
        body = content[at + HEAD.size : at + HEAD.size + 4 * count]
        if magic != MAGIC or len(body) < 4 * count or start > len(ids) or _sum(last, start, body) != check:
            return Replayed(list(ids), last, f"damaged at byte {at}", at)
        del ids[start:]
        ids.frombytes(body)
        last = check
        at += HEAD.size + 4 * count
    return Replayed(list(ids), last, "", at)


class Journal:
    """Writes one context's log."""

    def __init__(self, path: Path, held: int = 0, last: bytes = bytes(16), size: int = 0) -> None:
        self._path = path
        self._size = size
        """Bytes of the file as this writer knows it."""
        self._last = last
        self._length = held
        """How many ids the log says there are."""
        self._same = held
        """How many of them are known to be true still."""
        self._unsynced = False

    @property
    def length(self) -> int:
        """How many leading ids are in the log and still true."""
        return self._same

    @property
    def size(self) -> int:
        """Bytes of the log."""
        return self._size

    def cut(self, length: int) -> None:
        """Ids from `length` on have changed or are gone."""
        self._same = min(self._same, length)

    def write(self, ids: Sequence[int]) -> int:
        """Appends what changed; the bytes written. Raises OSError."""
        if self._same == self._length == len(ids):
            return 0
        body = id_bytes(ids[self._same :])
        check = _sum(self._last, self._same, body)
        record = HEAD.pack(MAGIC, self._same, len(body) // 4, check) + body
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size != self._size:
                # Dropped from disk meanwhile, or changed by somebody else: what is held here is the truth.
                return self.rewrite(ids)
            if (done := os.write(descriptor, record)) != len(record):
                os.ftruncate(descriptor, size)
                raise OSError(28, f"only {done} of {len(record)} bytes could be written")
        finally:
            os.close(descriptor)
        self._last, self._length, self._same = check, len(ids), len(ids)
        self._size += len(record)
        self._unsynced = True
        return len(record)

    def sync(self) -> None:
        """Makes what was written durable. Raises OSError."""
        if self._unsynced:
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                sync(descriptor)
            finally:
                os.close(descriptor)
            self._unsynced = False

    def rewrite(self, ids: Sequence[int]) -> int:
        """The whole log as one record; the bytes written. Raises OSError."""
        body = id_bytes(ids)
        check = _sum(bytes(16), 0, body)
        written = replace_file(self._path, [HEAD.pack(MAGIC, 0, len(ids), check), body])
        sync_folder(self._path.parent)
        self._last, self._length, self._same, self._size = check, len(ids), len(ids), written
        return written


def _sum(last: bytes, start: int, body: bytes) -> bytes:
    digest = xxhash.xxh3_128(last)
    digest.update(struct.pack("<II", start, len(body) // 4))
    digest.update(body)
    return digest.digest()
