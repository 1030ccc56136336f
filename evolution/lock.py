"""One evolution at a time in a home: a lock that the kernel drops when its holder ends, however it ends.

Knows who holds it and for what; does not know what is done under it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Conflict

NAME = "evolution.lock"


@contextmanager
def evolving(home: Path, purpose: str) -> Generator[None]:
    """Holds the lock for the block. Raises Conflict, naming the holder, when another process has it."""
    (home / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(home / "run" / NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Another evolution is under way in this home ({_holder(lock)}).",
                "Wait for it to end, or end that process; nothing of it is lost.",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "purpose": purpose}).encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(lock: int) -> str:
    try:
        said = json.loads(os.pread(lock, 4096, 0))
        return f"{said['purpose']}, process {said['pid']}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"
