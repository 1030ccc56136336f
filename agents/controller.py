"""The controller: watches without a model, and remembers what it finds.

Mounted corpora (whose files `memory.watching` follows), and the checks of `[controller]` in agents.toml. A model is
asked only about lines of a log that a rule cannot judge. A finding is a packet, written when something has changed;
what is wrong now is in `status`. Off without that table.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import structlog

from agents.checks import Check, Look, look
from agents.roster import LocalSpec
from engine.errors import SoulError

if TYPE_CHECKING:
    from agents.director import Director
    from agents.outside import Outside
    from memory.watching import Watching

log = structlog.get_logger()

TICK_S = 5.0
"""How often it is asked which checks are due; agents.toml is read anew each time."""


@dataclass(frozen=True)
class Finding:
    """What the latest look at one check found."""

    check: str
    wrong: bool
    words: str
    since: datetime
    """When it became so."""


class Controller:
    """Looks at what is due."""

    def __init__(self, director: Director, outside: Outside, watching: Watching) -> None:
        self._director = director
        self._outside = outside
        self._watching = watching
        self._findings: dict[str, Finding] = {}
        self._due: dict[str, float] = {}
        self._positions: dict[str, int] = {}
        self._looking = anyio.Lock()
        self.trouble = ""
        """Why agents.toml cannot be used; empty where it can."""

    @property
    def findings(self) -> list[Finding]:
        """The latest of each check that there is."""
        return list(self._findings.values())

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                await self.look_once()
                self.trouble = ""
            except SoulError as error:
                if self.trouble != str(error):
                    log.warning("the controller cannot look", error=str(error))
                self.trouble = str(error)
            await anyio.sleep(TICK_S)

    async def look_once(self) -> None:
        """Carries out every check that is due now.

        Raises:
            InvalidInput: agents.toml cannot be used.
            Unavailable: the database is away.
        """
        async with self._looking:
            await self._look_once()

    async def _look_once(self) -> None:
        spec = self._outside.roster().specs.get("controller")
        checks = spec.checks if isinstance(spec, LocalSpec) else ()
        names = {check.name for check in checks}
        for known in (self._findings, self._due, self._positions):
            for gone in known.keys() - names:
                del known[gone]
        for check in checks:
            if time.monotonic() >= self._due.get(check.name, 0.0):
                await self._look(check)
                self._due[check.name] = time.monotonic() + check.minutes * 60
        if spec is not None:
            for corpus, files in self._watching.changes():
                await self._remember(f"corpus {corpus}", f"{files} file{'s' if files != 1 else ''} of {corpus} changed")

    async def _look(self, check: Check) -> None:
        try:
            found = await look(check, self._outside, self._positions.get(check.name))
        except SoulError as error:
            found = Look(True, str(error))
        if found.position is not None:
            self._positions[check.name] = found.position
        wrong, words = bool(found.wrong), found.words
        if found.unsure:
            matters, said = await self._classified(check, found.unsure)
            if matters:
                wrong, words = True, "\n".join(part for part in (words, found.unsure, said) if part)
        before = self._findings.get(check.name)
        same = before is not None and (before.wrong, before.words) == (wrong, words)
        if before is not None and same and not (check.log and wrong):
            return
        since = before.since if before is not None and before.wrong == wrong else datetime.now(UTC)
        self._findings[check.name] = Finding(check.name, wrong, words, since)
        if wrong or (before is not None and before.wrong and not check.log):
            state = "is wrong" if wrong else "is right again"
            await self._remember(f"check {check.name}", f"The check {check.name} {state}: {words}")
        log.info("looked", check=check.name, wrong=wrong)

    async def _classified(self, check: Check, lines: str) -> tuple[bool, str]:
        """Whether lines matter that a rule cannot judge. Without a trained model they do: a person may look."""
        try:
            judged = await self._director.matters(check.name, lines)
        except SoulError as error:
            return True, f"(not judged: {error.fact})"
        if not judged.binding:
            return True, "(not judged: the model is an untrained stand-in)"
        return judged.choice == "matters", judged.reason

    async def _remember(self, what: str, words: str) -> None:
        await self._director.record("", "note", words, f"controller:{what}")
