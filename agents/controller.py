"""The controller: watches without a model, and remembers what it finds.

Mounted corpora (whose files `memory.watching` follows), and the checks of `[controller]` in agents.toml. A model is
asked only about lines of a log that a rule cannot judge. A finding is a packet, written when something has changed;
what is wrong now is in `status`, and in a row (`agents.findings`), from which the next daemon goes on. Off without that
table.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import structlog

from agents.checks import Check, Look, look
from agents.findings import Finding, Findings
from agents.roster import LocalSpec
from engine.errors import SoulError

if TYPE_CHECKING:
    import asyncpg

    from agents.director import Director
    from agents.outside import Outside
    from memory.memory import Memory

log = structlog.get_logger()

TICK_S = 5.0
"""How often it is asked which checks are due; agents.toml is read anew each time."""


class Controller:
    """Looks at what is due."""

    def __init__(self, memory: Memory, director: Director, outside: Outside) -> None:
        self._memory = memory
        self._director = director
        self._outside = outside
        self._rows = Findings(memory.database)
        self._findings: dict[str, Finding] | None = None
        """As the rows are; None until they were read."""
        self._due: dict[str, float] = {}
        self._looking = anyio.Lock()
        self.trouble = ""
        """Why agents.toml cannot be used; empty where it can."""

    @property
    def findings(self) -> list[Finding]:
        """The latest of each check that there is."""
        return list((self._findings or {}).values())

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
        if self._findings is None:
            self._findings = await self._rows.all()
        spec = self._outside.roster().specs.get("controller")
        checks = spec.checks if isinstance(spec, LocalSpec) else ()
        names = {check.name for check in checks}
        if gone := self._findings.keys() - names:
            await self._rows.drop_others(sorted(names))
            for name in gone:
                del self._findings[name]
                self._due.pop(name, None)
        for check in checks:
            if time.monotonic() >= self._due.get(check.name, 0.0):
                self._findings[check.name] = await self._look(check, self._findings.get(check.name))
                self._due[check.name] = time.monotonic() + check.minutes * 60
        if spec is not None:
            for corpus, files in self._memory.watching.changes():
                said = f"{files} file{'s' if files != 1 else ''} of {corpus} changed"
                await self._director.record("", "note", said, f"controller:corpus {corpus}")

    async def _look(self, check: Check, before: Finding | None) -> Finding:
        """What is found, remembered where it is new. Until that is committed, the next look begins where this did."""
        mark = before.mark if before is not None and before.log == check.log else None
        try:
            found = await look(check, self._outside, mark)
        except SoulError as error:
            found = Look(True, str(error), mark=mark)
        wrong, words = bool(found.wrong), found.words
        if found.unsure:
            matters, said = await self._classified(check, found.unsure)
            if matters:
                wrong, words = True, "\n".join(part for part in (words, found.unsure, said) if part)
        same = before is not None and (before.wrong, before.words) == (wrong, words)
        since = before.since if before is not None and before.wrong == wrong else datetime.now(UTC)
        finding = Finding(check.name, wrong, words, since, check.log, found.mark)
        news = ""
        if wrong and not (same and found.mark == mark):
            news = f"The check {check.name} is wrong: {words}"
        elif not wrong and before is not None and before.wrong and not check.log:
            news = f"The check {check.name} is right again: {words}"
        if found.gap:
            news = "\n".join(part for part in (news, f"The check {check.name}: {found.gap}") if part)
        if finding != before:
            await self._keep(finding, news)
        log.info("looked", check=check.name, wrong=wrong)
        return finding

    async def _keep(self, finding: Finding, news: str) -> None:
        async def along(connection: asyncpg.Connection) -> None:
            await self._rows.keep(connection, finding)

        if news:
            await self._director.record("", "note", news, f"controller:check {finding.check}", along=along)
        else:
            await self._memory.database.run(along)

    async def _classified(self, check: Check, lines: str) -> tuple[bool, str]:
        """Whether lines matter that a rule cannot judge. With a stand-in for a model they do: a person may look."""
        try:
            judged = await self._director.matters(check.name, lines)
        except SoulError as error:
            return True, f"(not judged: {error.fact})"
        if not judged.binding:
            return True, "(not judged: the model is a stand-in)"
        return judged.choice == "matters", judged.reason
