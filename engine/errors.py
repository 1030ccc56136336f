"""The error tree of the whole house. Every message is a fact and a remedy.

`tools` turns these into MCP tool errors and `server` into lines on stderr; nothing else catches them to hide them.
"""

from __future__ import annotations


class SoulError(Exception):
    """Base of every error that a person or a client is meant to read.

    `fact` says what happened, `remedy` what to do next. Both are whole sentences.
    """

    def __init__(self, fact: str, remedy: str = "") -> None:
        self.fact = fact
        self.remedy = remedy
        super().__init__(f"{fact} {remedy}".strip())


class InvalidInput(SoulError):
    """An argument cannot be used as it is."""


class NotFound(SoulError):
    """A named thing (corpus, agent, job, order, version, packet, model) does not exist."""


class Conflict(SoulError):
    """The thing changed or is held by somebody else: a stale base version, a second daemon, a closed order."""


class OverBudget(SoulError):
    """A limit in tokens, bytes or steps would be crossed."""


class Forbidden(SoulError):
    """A rule says no: a path outside the allowed roots, a tool that an agent may not call."""


class Unavailable(SoulError):
    """A part of the house cannot answer now: down, slow, or failed to start."""


class StillLoading(Unavailable):
    """A part is on its way; the same call works later."""


class StorageFull(Unavailable):
    """The disk (or the database's disk) is full."""


class MissingExtra(SoulError):
    """An optional part is not installed; the remedy holds the command that installs it."""
