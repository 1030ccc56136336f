"""What a context's folder says about its cache: which block files, in which order, and which tails.

One line of JSON and one line with its checksum. Written last, so that it only names files that are durable. Knows no
arrays and no folders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import xxhash

from engine.kv.tensors import Damaged

VERSION = 1


@dataclass(frozen=True)
class BlockRef:
    """`count` sealed blocks of a pool file, from its row `row` on; they are the context's blocks from `start` on.

    `links` are the chain's links at the end of each of them: what they hold, by name.
    """

    file: str
    row: int
    start: int
    count: int
    links: tuple[str, ...]
    block_bytes: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def nbytes(self) -> int:
        return self.count * self.block_bytes

    def part(self, start: int, end: int) -> BlockRef:
        """The blocks from `start` to `end` of the context."""
        low, high = max(start, self.start), min(end, self.end)
        links = self.links[low - self.start : high - self.start]
        return replace(self, row=self.row + low - self.start, start=low, count=high - low, links=links)


@dataclass(frozen=True)
class TailRef:
    """A tail file: what is behind the sealed blocks when the context had `tokens` computed tokens."""

    file: str
    tokens: int
    blocks: int
    """Sealed blocks before it."""
    link: str
    """Of all `tokens`."""
    nbytes: int
    log_bytes: int = 0
    """Length of the ids log at that time: one that is shorter has lost its end, even where a record ends."""


@dataclass(frozen=True)
class Manifest:
    """One context on disk. Times in seconds since 1970; `written` counts all bytes ever written for it."""

    name: str
    fingerprint: str
    form: str
    tokens: int
    created: float
    used: float
    written: int
    blocks: tuple[BlockRef, ...] = ()
    tails: tuple[TailRef, ...] = ()
    """Oldest first; the last one is the latest state."""

    @property
    def nbytes(self) -> int:
        """Bytes of all that it names."""
        return sum(ref.nbytes for ref in self.blocks) + sum(tail.nbytes for tail in self.tails)

    def encode(self) -> bytes:
        line = json.dumps({"soul_kv": VERSION, **asdict(self)}, separators=(",", ":"), ensure_ascii=True).encode()
        return line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> Manifest:
        """Raises Damaged."""
        line, _, rest = content.partition(b"\n")
        if rest != xxhash.xxh3_128_hexdigest(line).encode() + b"\n":
            raise Damaged("the manifest does not match its checksum")
        said = cast(dict[str, Any], json.loads(line))
        if said.pop("soul_kv") != VERSION:
            raise Damaged("the manifest has another version")
        kept: list[dict[str, Any]] = [{**one, "links": tuple(one["links"])} for one in said.pop("blocks")]
        blocks = tuple(BlockRef(**one) for one in kept)
        tails = tuple(TailRef(**one) for one in said.pop("tails"))
        return cls(**said, blocks=blocks, tails=tails)


def leading(refs: Sequence[BlockRef], links: Sequence[str]) -> list[BlockRef]:
    """The references that are true for `links` (the first is before any token), without a hole, cut where needed."""
    found: list[BlockRef] = []
    at = 0
    for ref in refs:
        if ref.start != at:
            break
        same = 0
        for place, link in enumerate(ref.links):
            if ref.start + place + 1 >= len(links) or links[ref.start + place + 1] != link:
                break
            same += 1
        if same:
            found.append(ref.part(ref.start, ref.start + same))
            at += same
        if same < ref.count:
            break
    return found
