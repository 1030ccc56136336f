"""The file in which a corpus travels: its format, how it comes to be whole or not at all, and how it is distrusted.

Knows members, sums and rows. Does not know the database (`memory.parcels`). Runs in worker threads: everything here may
block. The file is a zip of JSON lines and raw numbers, which any program can read:

    manifest.json   format, version, name, counts, embedder, sha256 of each of the others
    files.jsonl     {path, hash, bytes, reason, terms}
    chunks.jsonl    {path, sequence, prose, metadata, hash, vector: whether it has one}
    vectors.f32     little-endian float32, (vectors, dimension), in the order of the chunks that have one
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from engine.errors import Conflict, InvalidInput, NotFound, StorageFull
from memory.packets import content_hash

FORMAT = "soul corpus"
VERSION = 1
MANIFEST, FILES, CHUNKS, VECTORS = "manifest.json", "files.jsonl", "chunks.jsonl", "vectors.f32"
ROWS = 2000
"""Rows read, written or stored at a time."""
MANIFEST_BYTES = 100_000
LINE_BYTES = 4_000_000
PIECE = 1 << 20


@dataclass(frozen=True)
class Parcel:
    """What is in a file."""

    name: str
    files: int
    chunks: int
    vectors: int
    embedder: str
    """Who made the vectors; empty without any."""
    dimension: int


def manifest_of(parcel: Parcel, sums: dict[str, str]) -> dict[str, Any]:
    """What the manifest says; `sums` are the sha256 of the other members."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": parcel.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": parcel.files,
        "chunks": parcel.chunks,
        "vectors": parcel.vectors,
        "embedder": parcel.embedder,
        "dimension": parcel.dimension,
        "sha256": sums,
    }


@contextmanager
def created(target: Path) -> Generator[IO[bytes]]:
    """A new file that gets its name when the block is through; Conflict where the name is taken."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    if target.exists():
        raise Conflict(f"{target} exists.", "Give another name, or remove it.")
    try:
        file = part.open("xb")
    except FileNotFoundError as error:
        raise NotFound(f"There is no folder {target.parent}.", "Make it, or give another one.") from error
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror}.", "Give another path.") from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"There is no room for {target}.", "Make room, or give another path.") from error
        raise InvalidInput(f"{target} cannot be written: {error.strerror}.", "Give another path.") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def opened(source: Path) -> Generator[zipfile.ZipFile]:
    """The archive. Whatever of it cannot be read raises InvalidInput; a missing file NotFound."""
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {source}.", "Give what `soul corpus export` wrote.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        _refuse(f"it is damaged or no such file ({error})", error)
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}.", "Give another path.") from error


def _refuse(why: str, cause: BaseException | None = None) -> NoReturn:
    raise InvalidInput(f"This is no corpus that can be imported: {why}.", "Export it again.") from cause


def checked(source: Path) -> Parcel:
    """What is in the file, after every byte of it was looked at. Nothing is unpacked to disk.

    Raises:
        InvalidInput: it is damaged, was changed, or is something else.
        NotFound: there is no such file.
    """
    with opened(source) as archive:
        names = sorted(entry.filename for entry in archive.infolist())
        if names != sorted((MANIFEST, FILES, CHUNKS, VECTORS)):
            _refuse("it holds other members than such a file has")
        if any(entry.flag_bits & 1 for entry in archive.infolist()):
            _refuse("it is encrypted")
        if archive.getinfo(MANIFEST).file_size > MANIFEST_BYTES:
            _refuse("its manifest is too large")
        try:
            manifest = json.loads(archive.read(MANIFEST))
            version = manifest["version"]
            parcel = Parcel(**{key: manifest[key] for key in Parcel.__annotations__})
            counts = (parcel.files, parcel.chunks, parcel.vectors)
            if not all(isinstance(manifest[key], str) for key in ("name", "embedder")) or not all(
                _is_count(n) for n in counts
            ):
                raise TypeError("a name or a count is none")
            if not _is_count(parcel.dimension):
                raise TypeError("a dimension is none")
            sums = {member: str(manifest["sha256"][member]) for member in (FILES, CHUNKS, VECTORS)}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            _refuse(f"its manifest cannot be read ({type(error).__name__})", error)
        if manifest.get("format") != FORMAT or version != VERSION:
            _refuse(f"it is of version {version!r}, and this program reads {VERSION}")
        for member, sum in sums.items():
            if _sum(archive, member) != sum:
                _refuse(f"{member} is not what the manifest says")
        _check_rows(archive, parcel)
        return parcel


def _sum(archive: zipfile.ZipFile, member: str) -> str:
    digest = hashlib.sha256()
    with archive.open(member) as data:
        while piece := data.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _check_rows(archive: zipfile.ZipFile, parcel: Parcel) -> None:
    paths: set[str] = set()
    files = chunks = with_vector = 0
    try:
        for row in (row for rows in batches(archive, FILES) for row in rows):
            files += 1
            path, terms = row["path"], row["terms"]
            typed = all(isinstance(row[key], str) for key in ("path", "hash", "reason")) and isinstance(terms, dict)
            if not typed or not isinstance(row["bytes"], int) or not _is_plain(path) or path in paths:
                _refuse(f"line {files} of {FILES} is not one of a file")
            if not all(isinstance(n, int) for n in cast("dict[str, object]", terms).values()):
                _refuse(f"line {files} of {FILES} counts no words")
            if not row["reason"]:
                paths.add(path)
        for row in (row for rows in batches(archive, CHUNKS) for row in rows):
            chunks += 1
            with_vector += row["vector"] is True
            if not _is_place(row["metadata"]) or not _is_count(row["sequence"]):
                _refuse(f"line {chunks} of {CHUNKS} is not one of a passage")
            if row["path"] not in paths or content_hash(row["prose"]) != row["hash"]:
                _refuse(f"line {chunks} of {CHUNKS} is of no file, or its text was changed")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _refuse(f"a line cannot be read ({type(error).__name__})", error)
    if (chunks, with_vector) != (parcel.chunks, parcel.vectors) or files != parcel.files or not paths:
        _refuse("it holds more or less than its manifest says")
    if archive.getinfo(VECTORS).file_size != with_vector * parcel.dimension * 4:
        _refuse("its vectors are not as many or not as long as the manifest says")
    with archive.open(VECTORS) as numbers:
        for start in range(0, with_vector, ROWS):
            read_vectors(numbers, min(ROWS, with_vector - start), parcel.dimension)


def _is_place(metadata: object) -> bool:
    """Is it what indexing would have written (`memory.sources`)? Whoever cites a passage relies on that."""
    if not isinstance(metadata, dict):
        return False
    for key, value in cast("dict[str, Any]", metadata).items():
        if key in ("page", "cell"):
            good = _is_count(value)
        elif key in ("lines", "paragraphs"):
            good = isinstance(value, list) and [_is_count(n) for n in cast("list[object]", value)] == [True, True]
        elif key == "headings":
            good = isinstance(value, list) and all(isinstance(one, str) for one in cast("list[object]", value))
        else:
            good = False
        if not good:
            return False
    return True


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_plain(path: str) -> bool:
    return bool(path) and not path.startswith("/") and ".." not in path.split("/") and path.isprintable()


def read_vectors(numbers: IO[bytes], count: int, dimension: int) -> NDArray[np.float32]:
    """The next vectors, shape (count, dimension)."""
    made = np.frombuffer(numbers.read(count * dimension * 4), dtype="<f4").reshape(count, dimension)
    if not np.isfinite(made).all():
        _refuse("a vector holds something else than numbers")
    return made.astype(np.float32, copy=False)


def batches(archive: zipfile.ZipFile, member: str) -> Iterator[list[dict[str, Any]]]:
    """The objects of JSON lines, some at a time."""
    rows: list[dict[str, Any]] = []
    with archive.open(member) as lines:
        while line := lines.readline(LINE_BYTES):
            if not line.endswith(b"\n"):
                _refuse(f"a line of {member} has no end")
            rows.append(json.loads(line))
            if len(rows) == ROWS:
                yield rows
                rows = []
    if rows:
        yield rows
