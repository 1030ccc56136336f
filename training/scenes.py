"""A window of conversation as the house would render it, line by line, with what is right at its end.

Knows how turns, memories, tool calls and results look at work, since it calls the very functions that make them; does
not know what is talked about (`training.exchanges`) nor tokens (`training.rendering`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from agents.agent import Task, asked
from agents.context import ROLE, Told, deltas, opening_text
from agents.digest import Source
from agents.fence import fenced
from memory.recall import Hit, Why
from memory.selves import FIRST_SELF
from memory.window import Opening
from tools.house import House
from tools.recall import shown
from training.vocabulary import Vocabulary

START = datetime(2026, 1, 1, tzinfo=UTC)
APART = (2, 300, 3_000, 60_000, 600_000, 600_000)
"""Most minutes between two memories of a window. Of those that lie close together only a digit or two tells which is
cited: not enough to learn it from."""
CLIENTS = ("claude-code", "claude-code", "claude-desktop", "a person", "inspector", "mcp")

Role = Literal["user", "tool", "assistant"]


@dataclass(frozen=True)
class Line:
    """One turn. `call` is the assistant's tool call (name, arguments), after which `text` is empty."""

    role: Role
    text: str
    name: str = ""
    call: tuple[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Right:
    """What the last line of a scene is held to in the evaluation."""

    value: str = ""
    """What an answer must hold; "" where it must say that it does not know."""
    lure: str = ""
    """What an instruction among the material wants said."""
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    """Lines that a notebook must hold, and those that it must not."""
    listed: tuple[str, ...] = ()
    """The lines of the request for it, of which it keeps some."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """System text, tools and turns; the last line is the assistant's and the one that the scene is about."""

    kind: str
    system: str
    tools: tuple[str, ...]
    lines: tuple[Line, ...]
    right: Right = Right()


def stated(reply: str) -> str:
    """A reply without its source: the digits of a date would pass for many a number."""
    return reply.split(" [")[0]


@cache
def functions() -> dict[str, dict[str, Any]]:
    """The tools' descriptions by name, as they are: those of the Director, and the one that only clients call."""
    from tools import rewrite_self
    from tools.registry import director_toolbox

    house = House(Path("/nowhere"), (Path("/nowhere"),), version="training")
    found = {one["function"]["name"]: one for one in director_toolbox(house).functions}
    tool = rewrite_self.tool(house)
    body = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return found | {tool.name: {"type": "function", "function": body}}


@dataclass
class Room:
    """A window that is being filled. What changed since the opening is told with the next user turn, as at work."""

    words: Vocabulary
    tools: tuple[str, ...] = ()
    notebook: list[str] = field(default_factory=list)
    role: str = ROLE
    self_text: str = FIRST_SELF
    lines: list[Line] = field(default_factory=list)
    mounted: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    version: int = 0
    said: list[tuple[Source, str]] = field(default_factory=list)
    """What somebody said, in their own words, and what was answered."""

    def __post_init__(self) -> None:
        rng = self.words.rng
        self.client = rng.choice(CLIENTS)
        self.version = rng.randint(1, 30) if self.notebook else 0
        self.opened = self._told()
        self._last = self.opened
        self._minutes = rng.randrange(500_000)
        self._apart = rng.choice(APART)

    @property
    def system(self) -> str:
        """The system text of the opening."""
        return opening_text(self.opened, self.role)

    def asks(self, text: str, hits: Sequence[Hit] = (), constraints: Sequence[str] = (), context: str = "") -> None:
        """A task comes in, with its nearest memories and with what has changed before it."""
        now = self._told()
        opening = Opening("", "", (), self._last.self_version, self._last.notebook_version, self._last.mounted)
        delta = "\n\n".join(one for _, one in deltas(opening, now))
        self._last = now
        words = asked(Task(text, tuple(constraints), context, self.client, "s"), tuple(hits))
        self.lines.append(Line("user", f"{delta}\n\n{words}" if delta else words))
        for one in filter(None, (text, context)):
            self.said.append(("said", one))

    def says(self, text: str) -> None:
        self.lines.append(Line("assistant", text))
        self.said.append(("answer", text))

    def calls(self, tool: str, **arguments: Any) -> None:
        self.lines.append(Line("assistant", "", call=(tool, arguments)))

    def returns(self, name: str, text: str) -> None:
        """What a tool says, fenced as at work."""
        self.lines.append(Line("tool", fenced(text, f"tool {name}"), name))

    def rewritten(self) -> None:
        """The notebook has changed."""
        self.version += 1

    def _told(self) -> Told:
        return Told(1, self.self_text, self.version, "\n".join(self.notebook), self.mounted, self.cards)

    def hit(self, prose: str, chunk: bool = False) -> Hit:
        """A memory of those words: something said, or a passage of a corpus."""
        words, rng = self.words, self.words.rng
        self._minutes += rng.randint(1, self._apart)
        time = START + timedelta(minutes=self._minutes)
        first = rng.randint(1, 400)
        source = f"{words.file()}:{first}-{first + rng.randint(1, 30)}" if chunk else f"{time:%Y-%m-%d %H:%M} director"
        return Hit(
            id=UUID(int=rng.getrandbits(128), version=4), prose=prose, kind="chunk" if chunk else "said",
            corpus=words.corpus() if chunk else None, source=source, score=rng.random(), semantic=rng.random(),
            keyword=rng.random(), time=time, agent="director", session="s", sequence=0, origin="user", resonance=0.5,
            metadata={}, why=Why(0.5, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0),
        )  # fmt: skip

    def recalled(self, query: str, hits: Sequence[Hit]) -> str:
        """The text of a recall's result."""
        return shown(query, ", ".join(("memory", *self.mounted)), tuple(hits))
