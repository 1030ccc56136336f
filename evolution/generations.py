"""Generations: immutable folders of weights with their lineage, and the pointer that says which one is in force.

Generation 0 is the anchor as it is and has no folder. A generation gets its name when it is whole, and `current` is one
small file that is replaced, so that after a kill at any moment the pointer names one whole generation. Knows files; not
how weights are merged or served.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from engine.errors import Conflict, InvalidInput, NotFound, Unavailable
from engine.fingerprint import content_hash
from engine.kv.tensors import sync_folder
from evolution.adapter import read_json
from evolution.anchor import write_json

log = structlog.get_logger()

MANIFEST = "generation.json"
CURRENT = "current"
TRAIL = 64
"""So many former generations are remembered for rolling back."""


@dataclass(frozen=True)
class Generation:
    """What a generation came from. Times are ISO 8601 in UTC, sizes bytes."""

    number: int
    parent: int
    """The generation that was in force when this one was made."""
    made: str
    anchor: str
    """Id of the anchor."""
    model: str | None
    """The setting `model` it was made under, so that it is never served in place of another model."""
    adapters: Mapping[str, str]
    """Content hash of each adapter by name, in the order of the merge."""
    recipe: Mapping[str, Any]
    identity: str
    """Hash of anchor, adapters and recipe: the same inputs make the same generation."""
    files: Mapping[str, tuple[int, str]]
    """Size and content hash of each weight file."""
    new_bytes: int
    """What it added to the disk."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    verdict: str = ""
    """`passed` or `failed` once a gate has judged it."""
    overridden: str = ""
    """When a person put it in force without a gate's word."""


class Generations:
    """The generations of one home. Reading needs no lock; whoever changes something holds `evolution.lock`."""

    def __init__(self, home: Path) -> None:
        self.root = home / "generations"

    def folder(self, number: int) -> Path:
        """Where a generation's weights lie."""
        return self.root / str(number)

    def all(self) -> tuple[Generation, ...]:
        """Every whole generation, the oldest first."""
        numbers = sorted(
            int(path.parent.name) for path in self.root.glob(f"*/{MANIFEST}") if path.parent.name.isdigit()
        )
        return tuple(self.get(number) for number in numbers)

    def get(self, number: int) -> Generation:
        """One generation. Raises NotFound, or InvalidInput for a manifest that cannot be read."""
        path = self.folder(number) / MANIFEST
        if number < 1 or not path.is_file():
            raise NotFound(f"There is no generation {number}.", "`soul generations list` shows what there is.")
        try:
            said = read_json(path)
            said["files"] = {name: (int(size), str(sum)) for name, (size, sum) in said["files"].items()}
            return Generation(**said)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidInput(f"{path} is not a generation's manifest: {error}.", "Integrate it anew.") from error

    def add(self, fresh: Path, draft: Generation) -> Generation:
        """Names a finished folder from `begin` as the next generation, durably; it is not in force yet.

        `draft` is its manifest but for number and parent. All files in the folder must be synced.
        """
        number = max((one.number for one in self.all()), default=0) + 1
        generation = replace(draft, number=number, parent=self.current())
        write_json(fresh / MANIFEST, asdict(generation))
        sync_folder(fresh)
        fresh.rename(self.folder(number))
        sync_folder(self.root)
        log.info("generation_made", number=number, new_bytes=generation.new_bytes)
        return generation

    def begin(self) -> Path:
        """An empty folder for the next generation; what a broken-off one left is removed."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for torn in self.root.glob(".making-*"):
            shutil.rmtree(torn, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self.root, prefix=".making-"))

    def trail(self) -> tuple[int, ...]:
        """The generation in force, then those before it, the latest first; `(0,)` before any promotion."""
        path = self.root / CURRENT
        if not path.exists():
            return (0,)
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            return tuple(int(number) for number in said["trail"]) or (0,)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"{path} cannot be read: {error}.", "Write it anew with `soul promote N`, or remove it for the anchor."
            ) from error

    def current(self) -> int:
        """The generation in force; 0 is the anchor."""
        return self.trail()[0]

    def promote(self, number: int, *, unjudged: bool = False) -> int:
        """Puts a generation in force; the one that was in force before.

        `unjudged`: a person takes it without the gate's word, which is recorded. What failed is refused all the same.

        Raises:
            NotFound, Conflict: it does not exist, is not whole, failed its gate, or was not judged.
        """
        if number != 0:
            one = self.get(number)
            if one.verdict == "failed":
                raise Conflict(
                    f"Generation {number} failed its gate.",
                    f"{self.folder(number) / 'gate.md'} names why; integrate anew.",
                )
            if one.verdict != "passed" and not unjudged:
                raise Conflict(
                    f"No gate has judged generation {number}.",
                    f"`soul gate {number}` does; --unjudged takes it without.",
                )
            self.verify(number)
            if one.verdict != "passed":
                self._keep(replace(one, overridden=datetime.now(UTC).isoformat(timespec="seconds")))
        try:
            trail = self.trail()
        except Unavailable:
            trail = (0,)  # promoting is the remedy for a pointer that cannot be read
        if number != trail[0]:
            self._point((number, *trail)[:TRAIL])
        return trail[0]

    def rollback(self) -> int:
        """Puts the generation before the present one in force again, past retired ones; its number.

        Raises Conflict at the beginning.
        """
        trail = self.trail()
        while len(trail) > 1 and trail[1] != 0 and self.get(trail[1]).verdict == "failed":
            trail = (trail[0], *trail[2:])  # retired since
        if len(trail) < 2:
            raise Conflict("There is nothing before the generation in force.", "`soul generations list` shows all.")
        if trail[1] != 0:
            self.verify(trail[1])
        self._point(trail[1:])
        return trail[1]

    def verify(self, number: int) -> None:
        """Reads every byte of a generation's weights. Raises Conflict when one is not what was written."""
        for name, (size, sum) in self.get(number).files.items():
            path = self.folder(number) / name
            if not path.is_file() or path.stat().st_size != size or content_hash(path) != sum:
                raise Conflict(
                    f"{path} is not what was written.", "Promote another generation, and integrate this one anew."
                )

    def judge(self, number: int, verdict: str, report: Mapping[str, bytes]) -> None:
        """Keeps a gate's verdict and its report (contents by file name) with the generation."""
        for name, content in report.items():
            (self.folder(number) / name).write_bytes(content)
        self._keep(replace(self.get(number), verdict=verdict))

    def retire(self, number: int, why: str) -> None:
        """Keeps a generation from ever being put in force again; one that is in force stays until another is."""
        self.judge(number, "failed", {"retired.md": f"# Generation {number} is retired\n\n{why}\n".encode()})

    def _keep(self, generation: Generation) -> None:
        """Replaces what the manifest says of a generation that is there: its verdict, never its weights."""
        folder = self.folder(generation.number)
        write_json(folder / MANIFEST, asdict(generation))
        sync_folder(folder)

    def served(self, model: str | None) -> Path | None:
        """The folder to load in place of the setting `model`; None for the anchor as it is.

        Looks at names and sizes only: hashing 70 GB belongs to promoting, not to every start.

        Raises Unavailable when the generation in force is not whole: another mind must not answer in its place.
        """
        number = self.current()
        if number == 0:
            return None
        try:
            generation = self.get(number)
        except (NotFound, InvalidInput) as error:
            raise Unavailable(f"The generation in force cannot be loaded: {error.fact}", "`soul rollback`.") from error
        if generation.model != model:
            log.warning("generation_not_served", number=number, made_for=generation.model, model=model)
            return None
        for name, (size, _) in generation.files.items():
            path = self.folder(number) / name
            if not path.is_file() or path.stat().st_size != size:
                raise Unavailable(f"Generation {number} is not whole: {path.name} was changed.", "`soul rollback`.")
        return self.folder(number)

    def _point(self, trail: tuple[int, ...]) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self.root / CURRENT, {"trail": list(trail)})
        sync_folder(self.root)


def identity_of(parts: Mapping[str, Any]) -> str:
    """Hash of what a generation is made of."""
    import hashlib

    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def new_bytes(folder: Path) -> int:
    """Bytes that only this folder holds: files with other names elsewhere are not counted."""
    return sum(state.st_size for path in folder.iterdir() if (state := path.stat()).st_nlink == 1)
