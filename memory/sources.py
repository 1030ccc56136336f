"""The files of a corpus as chunks: which must be read again, and what is in them.

Knows what proves a file unchanged (its stamp, else its hash), and that documents are read in processes of their own.
Does not know rows (`memory.indexing`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import anyio
import anyio.to_thread
import xxhash
from anyio import CapacityLimiter

from memory import documents
from memory.files import File, Listing
from memory.languages import ENGLISH, detected
from memory.reading import NotText, Part, load, parts_of, too_large
from memory.splitting import Chunk, split
from memory.stopwords import STOP_WORDS
from memory.text import cleaned

READER = 3
"""Counted up when reading or splitting changes, so that every file is taken up again."""
FILES_PER_STEP = 64
"""Files read and split by a worker thread at a time; progress is told after each step."""
BYTES_PER_STEP = 32_000_000
DOCUMENTS_AT_ONCE = max(1, min(4, (os.cpu_count() or 2) // 2))
DOCUMENT_WAIT_S = 120.0
TERMS_PER_FILE = 40

_TERM = re.compile(r"[^\W\d_]{3,40}")


@dataclass(frozen=True)
class Known:
    """What is recorded of a file since it was last read."""

    hash: str
    stamp: str
    reason: str
    """Why it was passed over; empty: it is indexed."""
    doubt: str = ""
    """Why it may have been misread."""


@dataclass(frozen=True)
class Source:
    """One file of a corpus: its passages when it changed, else only that it is still what it was."""

    path: str
    bytes: int
    hash: str = ""
    stamp: str = ""
    reason: str = ""
    """Why it is passed over."""
    doubt: str = ""
    """Why it may have been misread."""
    lasting: bool = True
    """Whether the same bytes would be passed over again; else nothing is recorded."""
    passages: tuple[tuple[Chunk, Mapping[str, Any]], ...] | None = None
    """Each with its metadata. None: unchanged, or passed over."""
    terms: Mapping[str, int] | None = None


def stamped(file: File) -> str:
    """The stamp of a file as it is recorded: what an older reader made of it counts as unread."""
    return f"{READER}:{file.stamp}"


def is_unchanged(file: File, known: Known | None) -> bool:
    """Without reading it: is the file what is known?"""
    return known is not None and known.stamp == stamped(file)


async def read_sources(
    found: Listing, files: Sequence[File], known: Mapping[str, Known], file_mb: float
) -> AsyncIterator[list[Source]]:
    """Reads and splits `files`, some at a time, in their order."""

    def step(batch: Sequence[File]) -> list[Source]:
        return [_read(found.root, file, known.get(file.path), file_mb)[0] for file in batch]

    for batch in _batches(files):
        if not is_document(batch[0].path):
            yield await anyio.to_thread.run_sync(step, batch)
            continue
        results: dict[str, Source] = {}
        readers = anyio.CapacityLimiter(DOCUMENTS_AT_ONCE)

        async def one(file: File, results: dict[str, Source] = results, readers: CapacityLimiter = readers) -> None:
            async with readers:
                source, data = await anyio.to_thread.run_sync(_read, found.root, file, known.get(file.path), file_mb)
                results[file.path] = source if data is None else await _document(source, data)

        async with anyio.create_task_group() as tasks:
            for file in batch:
                tasks.start_soon(one, file)
        yield [results[file.path] for file in batch]


def is_document(path: str) -> bool:
    """Must it be unpacked before it can be read?"""
    return PurePosixPath(path).suffix.lower() in documents.SUFFIXES


def _batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Runs of text files and runs of documents, none too large to be held in memory."""
    batch: list[File] = []
    size = 0
    for file in files:
        full = len(batch) == FILES_PER_STEP or size + file.size > BYTES_PER_STEP
        if batch and (full or is_document(file.path) != is_document(batch[0].path)):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _read(root: Path, file: File, known: Known | None, file_mb: float) -> tuple[Source, bytes | None]:
    """A source; or its beginning and the bytes, where it is a document that must be read."""
    source = Source(file.path, file.size)
    # Asked here and not only of the open file, so that a large file costs no open.
    if reason := too_large(file.path, file.size, file_mb):
        return replace(source, reason=reason, lasting=False), None
    try:
        raw = load(root / file.path, file_mb)
    except NotText as error:
        return replace(source, reason=error.reason, lasting=error.lasting), None
    hash = xxhash.xxh3_128_hexdigest(raw.data, seed=READER)
    stamp = f"{READER}:{raw.stamp}" if raw.stamp else ""
    source = Source(
        file.path, len(raw.data), hash, stamp, reason=known.reason if known else "", doubt=known.doubt if known else ""
    )
    if known is not None and hash == known.hash:
        return source, None
    source = replace(source, reason="", doubt="")
    if is_document(file.path):
        return source, raw.data
    try:
        read = parts_of(file.path, raw.data)
        return _split(replace(source, doubt=read.doubt), read.parts), None
    except NotText as error:
        return replace(source, reason=error.reason, lasting=error.lasting), None


async def _document(source: Source, data: bytes) -> Source:
    """Reads a document in a process of its own: it comes from anywhere, and may be made to hang or to crash."""
    suffix = PurePosixPath(source.path).suffix.lower()
    # -P: no module of the folder in which the daemon happens to stand.
    command = [sys.executable, "-P", "-m", documents.__name__, suffix]
    try:
        with anyio.fail_after(DOCUMENT_WAIT_S):
            done = await anyio.run_process(command, input=data, stderr=subprocess.DEVNULL, check=False)
        answer = json.loads(done.stdout)
    except TimeoutError:
        return replace(source, reason=f"cannot be read within {DOCUMENT_WAIT_S:.0f} s")
    except ValueError:
        return replace(source, reason="the program that reads such files failed on it")
    if "reason" in answer:
        return replace(source, reason=cleaned(answer["reason"])[:200])
    parts = tuple(Part(*part) for part in answer["parts"])
    return await anyio.to_thread.run_sync(_split, source, parts)


def _split(source: Source, parts: Sequence[Part]) -> Source:
    passages: list[tuple[Chunk, Mapping[str, Any]]] = []
    terms: Counter[str] = Counter()
    for part in parts:
        text = cleaned(part.text)
        # Only the suffix tells how a part is split.
        for chunk in split(text, PurePosixPath(f"part{part.suffix}")):
            metadata: dict[str, Any] = {**part.place, part.unit: [chunk.first_line, chunk.last_line]}
            if chunk.headings:
                metadata["headings"] = list(chunk.headings)
            passages.append((chunk, metadata))
        stop = STOP_WORDS[ENGLISH] | STOP_WORDS.get(detected(text), frozenset())
        terms.update(word for word in _TERM.findall(text.lower()) if word not in stop)
    return replace(source, passages=tuple(passages), terms=dict(terms.most_common(TERMS_PER_FILE)))
