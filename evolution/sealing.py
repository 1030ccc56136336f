"""Sealing with age: what travels to a far side can be opened by a key that lives in one process's memory alone.

Knows pyrage, which the extra `evolution` brings.
"""

from __future__ import annotations

from typing import Any

from engine.errors import InvalidInput, MissingExtra


def _age() -> Any:
    try:
        import pyrage  # type: ignore[import-not-found]
    except ImportError:
        raise MissingExtra(
            "A remote dream needs pyrage, which is not installed.", "pip install 'soul-mcp[evolution]'"
        ) from None
    return pyrage


class Key:
    """A fresh X25519 key, never written anywhere."""

    def __init__(self) -> None:
        self._identity = _age().x25519.Identity.generate()

    @property
    def public(self) -> str:
        """What others seal for: `age1...`."""
        return str(self._identity.to_public())

    def opened(self, sealed: bytes) -> bytes:
        """Raises InvalidInput for what was sealed for another key, or changed on the way."""
        age = _age()
        try:
            return bytes(age.decrypt(sealed, [self._identity]))
        except age.DecryptError as error:
            raise InvalidInput(f"What came cannot be opened: {error}.", "Send it again.") from error


def sealed(plain: bytes, public: str) -> bytes:
    """`plain` for the holder of the key alone. Raises InvalidInput for what is no key."""
    age = _age()
    try:
        return bytes(age.encrypt(plain, [age.x25519.Recipient.from_str(public)]))
    except age.RecipientError as error:
        raise InvalidInput(f"{public!r} is no age key: {error}.", "Update soul on the far side.") from error
