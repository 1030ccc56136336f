"""The rules by which a step of a plan stays at home or goes out to the Hands: a person's, in agents.toml as `[rules]`.

Knows the rules, and the sentence that is shown for each. No model decides: it says what a step needs, and the rules say
where that is done. What is private stays at home, whatever else is true.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

Need = Literal["thought", "memory", "files", "commands", "web"]
Place = Literal["home", "hands"]

WORD = re.compile(r"[^\s\"'`,;()<>\[\]]+")


class Rules(BaseModel):
    """The table `[rules]`; every key has a default."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    private: Annotated[tuple[str, ...], Strict(False)] = ()
    """Words, and paths (with / * ? or ~). A step that names one, or builds on one that does, never leaves the house."""
    outside: Annotated[tuple[Need, ...], Strict(False)] = ("files", "commands", "web")
    """What only the Hands can do."""
    characters: Annotated[int, Field(ge=100, le=1_000_000)] = 12_000
    """A step with more to read goes out."""
    usd: Annotated[float, Field(ge=0, le=10_000)] = 5.0
    """The most that the Hands may cost for one plan; what would go beyond it stays at home."""
    hands: str = "hands"
    """Who gets what goes out: the client that asked, or an agent of agents.toml that works outside."""
    ask: bool = False
    """Whether each plan waits for a person's word, also one of a trained model."""

    def names(self, text: str) -> str:
        """Which of the private words or paths stands in `text`; "" when none does."""
        return next((one for one in self.private if _stands(one, text)), "")

    def costs(self, usd: float) -> str:
        """Why the Hands cannot be had, or ""; `usd`: what they would have cost then."""
        if usd > self.usd:
            return f"cost: {usd:.2f} US dollars are more than the {self.usd:.2f} of a plan"
        return ""


@dataclass(frozen=True)
class Decision:
    """Where a step is done, and the rule that says so."""

    place: Place
    rule: str
    private: bool


def decide(
    rules: Rules, words: str, needs: Sequence[Need], building_on: Sequence[int], private: Sequence[int], usd: float
) -> Decision:
    """The first rule that applies: privacy, what it needs, size, cost; home where none does.

    Args:
        words: everything that whoever does the step would read.
        building_on: numbers of the steps whose outcomes it gets.
        private: those of the plan's steps that are.
        usd: what the Hands would have cost if it went out, with the steps before it.
    """
    if named := rules.names(words):
        return Decision("home", f"private: it names {named!r}", True)
    if inherited := [number for number in building_on if number in private]:
        return Decision("home", f"private: it builds on step {inherited[0]}, which is", True)
    out = ""
    if needed := [need for need in needs if need in rules.outside]:
        out = f"outside: it needs {' and '.join(dict.fromkeys(needed))}"
    elif len(words) > rules.characters:
        out = f"size: {len(words):,} characters are more than {rules.characters:,}"
    if not out:
        return Decision("home", "home: nothing in it needs the Hands", False)
    if refusal := rules.costs(usd):
        return Decision("home", refusal, False)
    return Decision("hands", out, False)


def _stands(private: str, text: str) -> bool:
    if not any(mark in private for mark in "/*?~"):
        return re.search(rf"(?<!\w){re.escape(private)}(?!\w)", text, re.IGNORECASE) is not None
    # Path.expanduser raises for the home of somebody who is not there, and takes "a//b" for "a/b".
    wanted = os.path.expanduser(private).rstrip("/").casefold()  # noqa: PTH111
    for word in WORD.findall(text):
        path = os.path.expanduser(word.rstrip(".:!?")).casefold()  # noqa: PTH111
        parts = path.split("/")
        heads = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        # A folder stands for what is in it, and a relative pattern for the end of a path.
        if any(fnmatchcase(head, wanted) or fnmatchcase(head, f"*/{wanted}") for head in heads):
            return True
    return False
