"""What the controller looks at: a command, a file's age, what is new in a log. Each look is a rule; no model is asked.

Knows the checks of agents.toml and how each is carried out; does not know when, nor who is told (`agents.controller`).
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from agents.fence import shortened
from agents.following import Mark, Reading
from agents.hands.claude import INHERITED
from agents.hands.outcome import HandsFailed
from agents.hands.process import run

if TYPE_CHECKING:
    from agents.outside import Outside

SHOWN = 2_000
"""Characters of a finding."""
MOST_LINES = 500
"""Lines of a log that are kept of one look; the others are counted."""


class Check(BaseModel):
    """One entry of `[[controller.checks]]`: either a `command`, or a `file` with its age, or a `log` with a pattern."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    minutes: Annotated[float, Field(gt=0, le=100_000)] = 10.0
    """How long between two looks."""
    command: Annotated[tuple[str, ...], Strict(False)] = ()
    folder: str = ""
    seconds: Annotated[float, Field(gt=0, le=3_600)] = 60.0
    """The longest the command may take."""
    file: str = ""
    older: Annotated[float, Field(ge=0)] = 0.0
    """Minutes; a file that was not written for so long is a finding, and so is one that is not there."""
    log: str = ""
    pattern: str = ""
    unsure: str = ""
    """Lines of the log that a rule cannot judge: the controller's model says whether they matter."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.command, self.file, self.log))) != 1:
            raise ValueError("give one of `command`, `file` and `log`")
        if self.command and not self.folder:
            raise ValueError("a command needs a `folder`")
        if self.file and not self.older:
            raise ValueError("a file needs `older`, in minutes")
        if self.log and not (self.pattern or self.unsure):
            raise ValueError("a log needs a `pattern`, or `unsure`")
        for pattern in (self.pattern, self.unsure):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no pattern: {error}") from None
        return self


@dataclass(frozen=True)
class Look:
    """What one look found. `wrong` is None where a rule cannot say: `unsure` are the lines in question."""

    wrong: bool | None
    words: str
    unsure: str = ""
    mark: Mark | None = None
    """Of a log: how far it was read."""
    gap: str = ""
    """Of a log: what could not be read."""


async def look(check: Check, outside: Outside, mark: Mark | None) -> Look:
    """Carries one check out. `mark`: how far its log was read before; None begins at its end.

    Raises:
        Forbidden: its folder or file lies outside what is allowed.
    """
    if check.command:
        return await _command(check, outside.allowed(check.folder, f"folder of the check {check.name}"))
    path = outside.allowed(check.file or check.log, f"file of the check {check.name}")
    if check.file:
        return await anyio.to_thread.run_sync(_age, path, check.older)
    return await anyio.to_thread.run_sync(_new_lines, check, path, mark)


async def _command(check: Check, folder: Path) -> Look:
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}

    async def started(pid: int, when: float) -> None:
        pass

    try:
        ended = await run(check.command, "", folder, environment, check.seconds, started)
    except HandsFailed as error:
        return Look(True, str(error))
    said = f"{ended.stdout.decode('utf-8', 'replace')}\n{ended.stderr}".strip()
    if ended.timed_out:
        return Look(True, f"stopped after {check.seconds:g} seconds\n{shortened(said, SHOWN)}")
    return Look(ended.status != 0, f"status {ended.status}\n{shortened(said, SHOWN)}")


def _age(path: Path, older: float) -> Look:
    try:
        minutes = (time.time() - path.stat().st_mtime) / 60
    except OSError as error:
        return Look(True, f"{path}: {error.strerror}")
    said = f"{path} was not written for more than {older:g} minutes"
    return Look(minutes > older, said if minutes > older else f"{path} is as young as it should be")


def _new_lines(check: Check, path: Path, mark: Mark | None) -> Look:
    reading = Reading(path, mark)
    wrong, unsure = list[str](), list[str]()
    more = 0
    try:
        for line in reading.lines():
            found = wrong if _fits(check.pattern, line) else unsure if _fits(check.unsure, line) else None
            if found is not None and len(found) < MOST_LINES:
                found.append(line[:SHOWN])
            elif found is not None:
                more += 1
    except OSError as error:
        return Look(True, f"{path}: {error.strerror}", mark=mark or Mark())
    began = mark is None and "read from here on"
    words, asked = shortened("\n".join(wrong), SHOWN), shortened("\n".join(unsure), SHOWN)
    if more:
        words += f"\n[and {more:,} lines more]"
    return Look(True if wrong else None if unsure else False, began or words, asked, reading.mark, reading.gap)


def _fits(pattern: str, line: str) -> bool:
    return bool(pattern and re.search(pattern, line))
