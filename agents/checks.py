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
from agents.hands.claude import INHERITED
from agents.hands.outcome import HandsFailed
from agents.hands.process import run

if TYPE_CHECKING:
    from agents.outside import Outside

SHOWN = 2_000
"""Characters of a finding."""
MOST_NEW = 1_000_000
"""Bytes of a log that are read at one look; what is older is passed over."""


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
    position: int | None = None
    """Of a log: how far it was read."""


async def look(check: Check, outside: Outside, position: int | None) -> Look:
    """Carries one check out. `position`: how far its log was read before; None begins at its end.

    Raises:
        Forbidden: its folder or file lies outside what is allowed.
    """
    if check.command:
        return await _command(check, outside.allowed(check.folder, f"folder of the check {check.name}"))
    path = outside.allowed(check.file or check.log, f"file of the check {check.name}")
    if check.file:
        return await anyio.to_thread.run_sync(_age, path, check.older)
    return await anyio.to_thread.run_sync(_new_lines, check, path, position)


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


def _new_lines(check: Check, path: Path, position: int | None) -> Look:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            if position is None:
                return Look(False, "read from here on", position=end)
            # A log that is shorter than it was has been begun anew.
            start = max(position if position <= end else 0, end - MOST_NEW)
            file.seek(start)
            read = file.read(end - start)
    except OSError as error:
        return Look(True, f"{path}: {error.strerror}", position=0)
    whole = read[: read.rfind(b"\n") + 1]
    lines = whole.decode("utf-8", "replace").splitlines()
    wrong = [line for line in lines if check.pattern and re.search(check.pattern, line)]
    unsure = [line for line in lines if check.unsure and line not in wrong and re.search(check.unsure, line)]
    words, asked = shortened("\n".join(wrong), SHOWN), shortened("\n".join(unsure), SHOWN)
    return Look(True if wrong else None if unsure else False, words, asked, start + len(whole))
