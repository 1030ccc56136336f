"""Names for what a cache holds: a chained sha256 over fingerprint and token ids, one link per block.

Two contexts with the same model and the same first n blocks of ids have the same first n links, whoever computed them.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Sequence

from engine.kv.form import BLOCK


def id_bytes(ids: Sequence[int]) -> bytes:
    """Ids as little-endian int32."""
    packed = array("i", ids)
    if packed.itemsize != 4:
        raise OverflowError("this platform's C int has not 4 bytes")
    return packed.tobytes()


def first_link(fingerprint: str, form: str) -> str:
    """The link before any token."""
    return hashlib.sha256(f"soul-kv {fingerprint} {form}".encode()).hexdigest()


def next_link(link: str, ids: Sequence[int]) -> str:
    """The link behind `ids`, which are a whole block, or the rest of a context."""
    return hashlib.sha256(bytes.fromhex(link) + id_bytes(ids)).hexdigest()


class Chain:
    """The links of a growing sequence of ids, computed once per block."""

    def __init__(self, fingerprint: str, form: str) -> None:
        self._links = [first_link(fingerprint, form)]
        # Asked for by the event loop and by the compute thread.
        self._lock = threading.Lock()

    def cut(self, length: int) -> None:
        """Forgets the links that depend on ids from `length` on."""
        with self._lock:
            del self._links[1 + length // BLOCK :]

    def links(self, ids: Sequence[int], blocks: int) -> list[str]:
        """The links at the ends of the first `blocks` blocks; the first one is before any token."""
        with self._lock:
            while len(self._links) <= blocks:
                start = (len(self._links) - 1) * BLOCK
                self._links.append(next_link(self._links[-1], ids[start : start + BLOCK]))
            return self._links[: blocks + 1]
