"""Unlearning: which adapters learned from what is no longer wanted, and which generations ate them.

A weight cannot be made to forget one sample; it is built anew without it. Knows the manifests, which name the memories
that each adapter learned from; an adapter that came from elsewhere names none and is never accused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from evolution import adapter as adapters
from evolution.generations import Generations


@dataclass(frozen=True)
class Eaten:
    """Adapters that learned from unwanted memories, the generations merged of them, and how many memories it is."""

    adapters: tuple[str, ...]
    generations: tuple[int, ...]
    memories: int


def wanted(buffer: Path) -> set[str]:
    """Ids of the memories that the golden log holds now; a log that is not there wants none."""
    if not buffer.is_file():
        return set()
    lines = buffer.read_text(encoding="utf-8").splitlines()
    return {str(packet) for line in lines if line.strip() for packet in json.loads(line).get("packets", ())}


def learned(home: Path) -> dict[str, set[str]]:
    """By kept adapter, the memories that it learned from."""
    found: dict[str, set[str]] = {}
    for name in adapters.names(home):
        manifest = adapters.manifest_of(home, name)
        found[name] = {str(packet) for packet in manifest.get("packets", ())}
    # What was joined of others holds all that they hold.
    for name in found:
        manifest = adapters.manifest_of(home, name)
        for part in manifest.get("of", {}):
            found[name] |= found.get(part, set())
    return found


def eaten(home: Path, unwanted: Collection[str] | None = None, *, wanted: Collection[str] = ()) -> Eaten:
    """Who ate `unwanted` memories, or, where none are named, any that are not `wanted`."""
    known = learned(home)
    hit = {
        name: bad
        for name, packets in known.items()
        if (bad := packets & set(unwanted) if unwanted is not None else packets - set(wanted))
    }
    made = Generations(home).all()
    while True:
        ate = {one.number for one in made if hit.keys() & one.adapters.keys()}
        # What was dreamt on a generation that ate them was shaped by them, too.
        later = {name for name in known.keys() - hit.keys() if _began_on(home, name) in ate}
        if not later:
            return Eaten(tuple(hit), tuple(sorted(ate)), len(set[str]().union(*hit.values())))
        hit |= {name: set[str]() for name in sorted(later)}


def _began_on(home: Path, name: str) -> int:
    return int(adapters.manifest_of(home, name).get("on", 0))


def remove(home: Path, found: Eaten) -> None:
    """Removes the adapters for good and retires the generations, which are never put in force again."""
    generations = Generations(home)
    for number in found.generations:
        generations.retire(number, "It learned from memories that were struck or forgotten since.")
    for name in found.adapters:
        shutil.rmtree(adapters.folder_of(home, name))
