"""UUIDv7 (RFC 9562): ids made by the client that sort by time, so that a repeated write is the same row."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A new UUIDv7. Strictly increasing within this process, also when the clock stands still or jumps back.

    Layout after RFC 9562 section 5.7: 48 bits of Unix milliseconds, version, 12 bits of sub-millisecond fraction
    (method 3 of section 6.2), variant, 62 random bits.
    """
    global _last
    with _lock:
        ticks = time.time_ns() * 4096 // 1_000_000
        _last = ticks = max(ticks, _last + 1)
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=(ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | random)
