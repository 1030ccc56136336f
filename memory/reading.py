"""What stands in a file: its bytes, and the text they mean.

Knows encodings, what is no text, and what is too large. Does not know formats that must be unpacked first
(`memory.documents`), how text is split or where it is stored. Runs in worker threads: everything here may block.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from memory import documents, markup
from memory.files import is_racy, stamp
from memory.text import UNWANTED

FILE_MB = 8
"""Megabytes of the largest text file that is read, where the setting `corpus_file_mb` says nothing else."""
DOCUMENT_FACTOR = 8
"""PDF and Word files may be so many times larger: most of them is pictures."""
SNIFF_BYTES = 8192
GUESS_BYTES = 65_536
CONTROL_SHARE = 0.01
"""Share of control characters from which bytes that are not UTF-8 are no text either."""
PACKED_SUFFIXES = frozenset({".css", ".csv", ".js", ".json", ".jsonl", ".mjs", ".tsv", ".xml"})
PACKED_LINE = 20_000
"""A line this long, in a file of those suffixes, was written by a program for a program; no passage of it helps."""


class NotText(Exception):
    """A file is passed over; `reason` says why, for a person."""

    def __init__(self, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lasting = lasting
        """Whether the same bytes would be passed over again."""


@dataclass(frozen=True)
class Part:
    """A run of text of one kind: a whole file, a page, a cell."""

    text: str
    suffix: str
    """Tells how it is split: `.md`, `.py`, `.txt`."""
    place: Mapping[str, int] = field(default_factory=dict[str, int])
    """Where in the file it stands, where lines do not tell: `{"page": 3}`."""
    unit: str = "lines"
    """What its lines are to a person: `lines`, `paragraphs`."""


@dataclass(frozen=True)
class Decoded:
    """What bytes mean as text."""

    text: str
    doubt: str = ""
    """Why they may mean something else, for a person: the encoding was guessed, or the bytes are damaged."""


@dataclass(frozen=True)
class Read:
    """What stands in a file."""

    parts: tuple[Part, ...]
    doubt: str = ""
    """As `Decoded.doubt`."""


@dataclass(frozen=True)
class Raw:
    """The bytes of a file."""

    data: bytes
    stamp: str
    """Empty where it could change without its times showing it."""


def limit_of(path: str, file_mb: float) -> float:
    """Megabytes that a file may have."""
    return file_mb * (DOCUMENT_FACTOR if PurePosixPath(path).suffix.lower() in documents.SUFFIXES else 1)


def too_large(path: str, size: int, file_mb: float) -> str:
    """Why a file of that size is passed over; empty when it is not."""
    limit = limit_of(path, file_mb)
    if size <= limit * 1e6:
        return ""
    return f"larger than {limit:g} MB ({size / 1e6:.1f} MB); the limit is the setting `corpus_file_mb`"


def load(path: Path, file_mb: float) -> Raw:
    """The bytes of a file that is no link, device or pipe.

    Raises:
        NotText: it is too large, changes all the time, or cannot be read.
    """
    try:
        # Not blocking, since opening a pipe without a writer would wait for one for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            for _ in range(2):
                began, before = time.time_ns(), os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    raise NotText("not a file", lasting=False)
                if reason := too_large(path.name, before.st_size, file_mb):
                    raise NotText(reason, lasting=False)
                file.seek(0)
                data = file.read(before.st_size + 1)
                if stamp(os.fstat(file.fileno())) == stamp(before) and len(data) == before.st_size:
                    return Raw(data, "" if is_racy(before, began) else stamp(before))
    except FileNotFoundError as error:
        raise NotText("gone while it was being read", lasting=False) from error
    except PermissionError as error:
        raise NotText("may not be read", lasting=False) from error
    except OSError as error:
        raise NotText(f"cannot be read: {error.strerror}", lasting=False) from error
    raise NotText("changed while it was being read; the next refresh takes it", lasting=False)


def parts_of(path: str, data: bytes) -> Read:
    """The text of a file that needs no unpacking. Line ends become `\\n`.

    Raises:
        NotText: it is binary, packed data, broken or empty.
    """
    suffix = PurePosixPath(path).suffix.lower()
    read = decoded(data)
    text = read.text.replace("\r\n", "\n").replace("\r", "\n")
    if suffix in markup.SUFFIXES:
        text, suffix = markup.plain(text), ".md"
    if not text.strip():
        raise NotText("empty" if suffix != ".md" or not data.strip() else "no text in it")
    if suffix in PACKED_SUFFIXES and (longest := max(map(len, text.split("\n")))) > PACKED_LINE:
        raise NotText(f"packed data: a line of {longest:,} characters")
    return Read((Part(text, suffix),), read.doubt)


def decoded(data: bytes) -> Decoded:
    """The text that bytes mean: by their byte order mark, as UTF-8, else in the encoding they most probably have.

    Raises:
        NotText: they are binary, or their mark lies.
    """
    for mark, encoding in ((b"\xff\xfe\x00\x00", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            try:
                return Decoded(data.decode(encoding))
            except UnicodeDecodeError as error:
                raise NotText(f"broken {encoding.upper()}") from error
    if b"\x00" in data[:SNIFF_BYTES]:
        raise NotText("binary")
    try:
        return Decoded(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _guessed(data, error)


def _guessed(data: bytes, why: UnicodeDecodeError) -> Decoded:
    """Text that is not UTF-8, by the best guess of its encoding."""
    from charset_normalizer import from_bytes

    sample = data[:SNIFF_BYTES].decode("latin-1")
    if b"\x00" in data or len(UNWANTED.findall(sample)) > CONTROL_SHARE * len(sample):
        raise NotText("binary")
    # A damaged UTF-8 file is that, not another encoding: almost all of what is not ASCII in it reads well as UTF-8.
    lenient = data.decode("utf-8-sig", errors="replace")
    broken = lenient.count("\N{REPLACEMENT CHARACTER}")
    if broken * 10 < sum(not character.isascii() for character in lenient):
        more = f" and in {broken - 1:,} more places" if broken > 1 else ""
        return Decoded(lenient, f"damaged UTF-8: cannot be read at byte {why.start:,}{more}")
    around = max(0, why.start - GUESS_BYTES // 2)
    best = from_bytes(data[around : around + GUESS_BYTES]).best()
    # What stands in no language that it knows is a guess among dozens of code pages; cp1252 is then the likeliest.
    encoding = best.encoding if best is not None and best.coherence > 0 else "cp1252"
    doubt = "not UTF-8; read as {}, which is a guess"
    try:
        return Decoded(data.decode(encoding), doubt.format(encoding))
    except UnicodeDecodeError:
        return Decoded(data.decode("latin-1"), doubt.format("latin-1"))
