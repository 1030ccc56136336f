"""Following a log: what was written since the last look, also when the log was exchanged meanwhile.

Knows files, their beginnings and how far each was read; does not know what a line means (`agents.checks`). A log is
known again by its inode and the hash of its beginning, so that one that was begun anew is never taken for the old one;
what was still unread of a log that was moved aside (`app.log.1`) is read there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

HEAD = 4096
"""Bytes at the beginning by which a log is known again."""
LONGEST = 1_000_000
"""Bytes of a line; a longer one is taken as several."""


@dataclass(frozen=True)
class Mark:
    """How far a log was read: `position` bytes of the file `inode`. A log that was not there is read from its start."""

    inode: int = 0
    position: int = 0
    head: str = ""
    """Hash of the first `HEAD` of these bytes."""


class Reading:
    """One look at a log, from `mark` to its last whole line. Without a mark it begins at the end.

    Iterate over `lines`; then `mark` is how far it was read. `gap` says what could not be read, "" where nothing is
    missing. Raises OSError where the log cannot be read, and the mark stays.
    """

    def __init__(self, path: Path, mark: Mark | None) -> None:
        self._path = path
        self.mark = mark
        self.gap = ""

    def lines(self) -> Iterator[str]:
        with self._path.open("rb") as file:
            inode, size = _state(file)
            before = self.mark
            if before is None:
                self.mark = _mark(file, inode, size)
                return
            start = before.position
            if before.inode and not _known(file, before):
                yield from self._rest(before)
                start = 0
            yield from _whole_lines(file, start)
            self.mark = _mark(file, inode, file.tell())

    def _rest(self, before: Mark) -> Iterator[str]:
        """What is unread of the log that was there before, wherever it is now."""
        for path in sorted(self._path.parent.glob(f"{self._path.name}*")):
            if path == self._path or path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                if _known(file, before):
                    yield from _whole_lines(file, before.position)
                    return
        self.gap = f"{self._path} was begun anew; what was added to it behind byte {before.position:,} was not read"


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size


def _mark(file: BinaryIO, inode: int, position: int) -> Mark:
    return Mark(inode, position, _head(file, position))


def _head(file: BinaryIO, position: int) -> str:
    file.seek(0)
    return xxhash.xxh3_128_hexdigest(file.read(min(position, HEAD)))


def _known(file: BinaryIO, mark: Mark) -> bool:
    inode, size = _state(file)
    return inode == mark.inode and size >= mark.position and _head(file, mark.position) == mark.head


def _whole_lines(file: BinaryIO, start: int) -> Iterator[str]:
    """Lines that have ended; leaves the file behind the last of them."""
    file.seek(start)
    while line := file.readline(LONGEST):
        if not line.endswith(b"\n") and len(line) < LONGEST:
            break
        start += len(line)
        yield line.decode("utf-8", "replace").rstrip("\r\n")
    file.seek(start)
