"""Who may work outside the house, and where: agents.toml, the folders it allows, and the Hands made from it.

Knows the rules of a folder; does not know what is done in it. The rules are looked at again before each run, since a
folder may have become a link meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agents.hands.claude import ClaudeHands, ClaudeLimits
from agents.hands.outcome import Hands
from agents.orders import Order
from agents.roster import ApiSpec, ClaudeSpec, LocalSpec, Roster
from engine.errors import Forbidden, InvalidInput, NotFound

FOLDER = "folder:"
"""A constraint that begins so names the part of its folder in which the Hands are to work."""


@dataclass(frozen=True)
class Outside:
    """The way out of the house. `roots` are the folders that a person allows at all; `home` is closed to everybody."""

    roster: Callable[[], Roster]
    home: Path
    roots: tuple[Path, ...]

    def spec(self, name: str) -> ClaudeSpec | ApiSpec:
        """The agent of that name; NotFound or InvalidInput where it is not one that works outside."""
        found = self.roster().get(name)
        if isinstance(found, LocalSpec):
            raise InvalidInput(f"{name} runs at home, not as Hands.", "Send it a task, or change `runs_on`.")
        return found

    def folder(self, spec: ClaudeSpec | ApiSpec, order: Order) -> Path | None:
        """The folder of this order with links resolved; None for Hands that have none.

        Raises:
            NotFound: it is not there.
            Forbidden: it lies outside what is allowed, or in or around the Soul's own home.
        """
        if isinstance(spec, ApiSpec):
            return None
        base = self.allowed(spec.folder, f"folder of {spec.name}")
        if not base.is_dir():
            raise NotFound(f"The folder of {spec.name}, {base}, is not there.", "Make it, or correct `folder`.")
        wanted = [rule[len(FOLDER) :].strip() for rule in order.constraints if rule.lower().startswith(FOLDER)]
        chosen = _resolved(base / Path(wanted[-1]).expanduser()) if wanted else base
        if not chosen.is_relative_to(base):
            raise Forbidden(f"{chosen} lies outside {base}, the folder of {spec.name}.", "Name a folder inside it.")
        if not chosen.is_dir():
            raise NotFound(f"The folder {chosen} is not there.", "Make it first, or leave that constraint out.")
        return chosen

    def allowed(self, path: str, what: str) -> Path:
        """The path with links resolved; Forbidden outside the allowed roots, and in or around the Soul's own home."""
        base = _resolved(self.home / Path(path).expanduser())
        if not any(base.is_relative_to(_resolved(root)) for root in self.roots):
            raise Forbidden(
                f"The {what}, {base}, lies outside the allowed roots.",
                "Add its root to `allowed_roots` in config.toml.",
            )
        home = _resolved(self.home)
        if base.is_relative_to(home) or home.is_relative_to(base):
            raise Forbidden(
                f"The {what}, {base}, holds the Soul's own home or lies in it.",
                "Name a folder of its own for the work.",
            )
        return base

    def hands(self, spec: ClaudeSpec | ApiSpec) -> Hands:
        """The Hands that a spec describes; MissingExtra where an SDK is not installed."""
        if isinstance(spec, ApiSpec):
            from agents.hands.api import ApiHands

            return ApiHands(spec)
        limits = ClaudeLimits(
            spec.command, spec.tools, spec.environment, spec.model, spec.minutes * 60, spec.turns, spec.usd
        )
        return ClaudeHands(limits)


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))
