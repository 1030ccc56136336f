"""Removing what is kept of contexts for other weights or forms, and what lies in quarantine: all of it can be computed
again from token ids, which live in the database, and none of it may outlive what was forgotten."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path


def remove_shelves(kv: Path, but: Collection[Path] = ()) -> int:
    """Removes every folder below `kv` except `but`, those in use; how many there were.

    Raises:
        OSError: one of them cannot be removed.
    """
    if not kv.is_dir():
        return 0
    found = [path for path in kv.iterdir() if path.is_dir() and path not in but]
    for path in found:
        shutil.rmtree(path)
    return len(found)
