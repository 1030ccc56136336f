"""What the Hands are given, what comes back from them, and the ways in which they fail, told apart.

Knows words and limits; does not know who the Hands are (`agents.hands.claude`, `agents.hands.api`) nor what becomes of
the order (`agents.dispatch`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import UUID

from engine.errors import SoulError

Cause = Literal[
    "not started",
    "not logged in",
    "refused key",
    "turn limit",
    "money limit",
    "time limit",
    "token limit",
    "killed",
    "garbage",
    "too much output",
    "unreachable",
    "service",
    "lost session",
    "cancelled",
]

OUTCOME_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "outcome": {"type": "string", "description": "What was done and what was seen, with evidence"},
        "artifacts": {"type": "array", "items": {"type": "string"}, "description": "Paths made or changed"},
    },
    "required": ["outcome", "artifacts"],
    "additionalProperties": False,
}


class HandsFailed(SoulError):
    """The Hands brought no outcome back; `cause` says in one word or two why."""

    def __init__(self, cause: Cause, fact: str, remedy: str) -> None:
        self.cause: Cause = cause
        super().__init__(fact, remedy)


@dataclass(frozen=True)
class Assignment:
    """One run: the words for the Hands, the folder they work in, and the session that goes on ("" for a new one)."""

    run: UUID
    words: str
    folder: Path | None
    session: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the Hands report. `denied` names the tool calls that were refused to them, in words."""

    text: str
    artifacts: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    session: str = ""
    usd: float = 0.0
    tokens: int = 0

    @property
    def words(self) -> str:
        """The report with what was refused, which a reviewer must know."""
        if not self.denied:
            return self.text
        lines = "\n".join(f"- {call}" for call in self.denied)
        return (
            f"{self.text}\n\nRefused to the Hands (add what is meant to be allowed to `tools` in agents.toml):\n{lines}"
        )


Started = Callable[[int, float], Awaitable[None]]
"""Told the pid and the start time (Unix seconds) of a process, before anything else is done with it."""


class Hands(Protocol):
    """Somebody who carries a work order out."""

    async def carry_out(self, assignment: Assignment, started: Started) -> Outcome:
        """Works until done or a limit is reached.

        Raises:
            HandsFailed: no outcome, and why.
        """
        ...
