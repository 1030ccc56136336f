"""Checks that several tools need: words, ids, times. Each error names the argument and the remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from engine.errors import InvalidInput
from memory.text import cleaned


def words(value: str, name: str) -> str:
    """`value` without control characters; InvalidInput when nothing is left."""
    text = cleaned(value).strip()
    if not text:
        raise InvalidInput(f"`{name}` is empty.", f"Give {name} in words.")
    return text


def identifier(value: str, name: str, where: str) -> UUID:
    """`value` as a UUID; `where` says where such ids are found."""
    try:
        return UUID(value.strip())
    except ValueError:
        raise InvalidInput(f"`{name}` is not an id: {value[:80]!r}.", f"Ids look like {UUID(int=0)}; {where}") from None


def moment(value: str, name: str) -> datetime | None:
    """An ISO 8601 date or time, in UTC where no zone is given; None when empty."""
    if not value.strip():
        return None
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        raise InvalidInput(
            f"`{name}` is not a date or time: {value[:80]!r}.", "Use ISO 8601, like 2026-11-21 or 2026-11-21T10:30:00Z."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
