"""What an agent sees, sector by sector, what each costs and what of it is computed already: for a person to look at.

Knows how the sectors of a context follow each other; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.context import NOTEBOOK, OUTFIT, ROLE, AgentContext
from agents.pressure import Pressure

if TYPE_CHECKING:
    from engine.engine import Engine
    from memory.window import Opening

SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Sector:
    """One part of the opening. `cached` of its `tokens` are computed already."""

    name: str
    tokens: int
    cached: int
    text: str


@dataclass(frozen=True)
class Seen:
    """One turn of the window, by its first words."""

    role: str
    name: str
    tokens: int
    cached: int
    words: str


@dataclass(frozen=True)
class Pending:
    """A change that the agent has not been told of yet; it comes with the next turn."""

    sector: str
    tokens: int


@dataclass(frozen=True)
class View:
    """The whole context. All sizes in the agent's own tokens."""

    agent: str
    model: str
    context_tokens: int
    pressure: float
    reserved: int
    """Kept free for the rewrite of the notebook."""
    limit: int
    """From here on the window is let go."""
    tokens: int
    cached: int
    sectors: tuple[Sector, ...]
    turns: tuple[Seen, ...]
    deltas: tuple[Pending, ...]
    flushes: int


async def view(engine: Engine, context: AgentContext, pressure: Pressure) -> View:
    """The context as it is stored, and what the engine holds of it."""
    window, deltas = await context.pending(engine)
    ids = window.ids
    computed = _computed(engine, context.agent, ids)
    sectors: list[Sector] = []
    at = 0
    for name, tokens, text in _taken_apart(engine, window.opening):
        sectors.append(Sector(name, tokens, _overlap(at, tokens, computed), text))
        at += tokens
    turns: list[Seen] = []
    for turn in window.turns:
        words = " ".join(turn.content.split())
        shown = words if len(words) <= SHOWN_CHARACTERS else words[: SHOWN_CHARACTERS - 1] + "…"
        turns.append(Seen(turn.role, turn.name, len(turn.ids), _overlap(at, len(turn.ids), computed), shown))
        at += len(turn.ids)
    return View(
        agent=context.agent,
        model=engine.info.name,
        context_tokens=engine.info.context_tokens,
        pressure=pressure.share,
        reserved=pressure.reserved(engine),
        limit=pressure.limit(engine),
        tokens=len(ids),
        cached=computed,
        sectors=tuple(sectors),
        turns=tuple(turns),
        deltas=tuple(Pending(name, engine.chat.count(text)) for name, text in deltas),
        flushes=window.flushes,
    )


def _taken_apart(engine: Engine, opening: Opening) -> list[tuple[str, int, str]]:
    """(name, tokens, text) in order. The tools stand where the model's template wants them, mostly at the end; they are
    what the texts leave of the opening's tokens, together with the marks of the template."""
    itself, role, rest = opening.text.partition(f"\n\n{ROLE}\n\n")
    if not role:  # opened by another version of this program
        return [("opening", len(opening.ids), opening.text)]
    notebook, _, outfit = rest.rpartition(f"\n\n{OUTFIT}\n")
    texts = (
        ("self", itself),
        ("role", ROLE),
        ("notebook", notebook.removeprefix(NOTEBOOK).strip()),
        ("outfit", outfit),
    )
    parts = [(name, engine.chat.count(text), text) for name, text in texts]
    return [*parts, ("tools and marks", len(opening.ids) - sum(tokens for _, tokens, _ in parts), "")]


def _computed(engine: Engine, agent: str, ids: list[int]) -> int:
    """How many leading ids of the window the engine's cache holds."""
    held = next((one for one in engine.status().contexts if one.name == agent), None)
    if held is None:
        return 0
    pairs = zip(engine.ids(agent), ids, strict=False)
    shared = next((place for place, (one, other) in enumerate(pairs) if one != other), min(held.tokens, len(ids)))
    return min(held.cached_tokens, shared)


def _overlap(start: int, length: int, computed: int) -> int:
    return max(0, min(length, computed - start))
