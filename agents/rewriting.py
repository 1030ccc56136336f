"""Asking an agent to rewrite its notebook from its window, and judging whether what comes is a notebook.

Knows the request and the ways in which a rewrite fails; does not know what happens to it (`agents.pressure`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from agents.context import ROLE, AgentContext
from agents.turn import Progress
from engine.errors import SoulError
from engine.events import Finished, Token
from engine.sampling import Sampling
from memory.text import cleaned

if TYPE_CHECKING:
    from engine.engine import Engine

REQUEST = """\
Your window is full: all turns above will be taken out of your sight. They stay in memory, where recall finds them.
Rewrite your notebook now from the notebook and the turns above; it is what you will have in view from here on. Keep
decisions, names, numbers, dates, preferences and what is still open. Leave out what is settled and what nobody needs.
At most {budget} tokens. Answer with the new text of the notebook and nothing else: no heading, no comment, no call."""
LINES = """\
From your notebook and from what was said since, word for word:
{lines}"""

SHINGLE = 6
"""Words in a row by which a copy is known."""
COPIED = 0.5
"""Share of a draft's shingles from which it is taken for a copy of its prompt."""
DISTINCT = 0.3
"""Share of distinct shingles below which a draft goes round in circles."""
CIRCLES_FROM = 60
"""Words from which that is looked at."""
SAYS_NOTHING = 3
"""A draft of fewer words is no notebook where there was something to note."""


@dataclass(frozen=True)
class Draft:
    """A new notebook as the agent wrote it, or the reason why it is none."""

    text: str
    fault: str
    """"" where the text can be the notebook."""


def request(budget: int, lines: str = "") -> str:
    """The words that ask for a notebook of at most `budget` tokens, and the `lines` that it may be made of.

    Those stand in the window already, scattered. A model that has them in a row before it copies names and numbers
    instead of gathering them, and leaves fewer out. They stand last: who copies on learns from them where to end, too.
    """
    asked = REQUEST.format(budget=budget)
    return f"{asked}\n\n{LINES.format(lines=lines)}" if lines else asked


async def rewrite(
    engine: Engine, context: AgentContext, lines: str, budget: int, seconds: float, report: Callable[[Progress], None]
) -> Draft:
    """Asks the agent behind its own window, whose computed part is used; the stored window stays as it is.
    `lines`: what the notebook may be made of (`agents.digest.candidates`).

    What is drawn stays in the engine's context until the window is next read from the store (`AgentContext.missing`).
    """
    chat = engine.chat
    try:
        turn = chat.turn("user", request(budget, lines))
        ids = [*await context.missing(engine), *turn, *chat.reply_start()]
        finished = None
        with anyio.move_on_after(seconds):
            finished = await _drawn(engine, context.agent, ids, budget, report)
        if finished is None:
            return Draft("", f"took longer than {seconds:.0f} seconds")
    except SoulError as error:
        return Draft("", f"failed: {error.fact}")
    reply = chat.parse(finished.text, context.functions)
    text = reply.text
    if not text and reply.calls and isinstance(content := reply.calls[0].arguments.get("content"), str):
        text = content  # meant well: it called write_notebook
    text = cleaned(text).strip()
    # Saying the lines again is what is asked for; saying the request again is not.
    return Draft(text, fault(text, finished.reason == "length", chat.count(text), budget, request(budget, "-")))


async def _drawn(
    engine: Engine, agent: str, ids: list[int], budget: int, report: Callable[[Progress], None]
) -> Finished | None:
    drawn = 0
    async with aclosing(engine.generate(agent, ids, Sampling(max_tokens=budget))) as events:
        async for event in events:
            if isinstance(event, Token):
                drawn += 1
                report(Progress("letting go of the window: rewriting the notebook", drawn))
            elif isinstance(event, Finished):
                return event
    return None


def fault(text: str, broke_off: bool, tokens: int, budget: int, asked: str) -> str:
    """Why `text` cannot be the notebook, in words that follow "the Director's rewrite"; "" when it can."""
    words = text.casefold().split()
    if len(words) < SAYS_NOTHING:
        return "was empty" if not words else f"said next to nothing ({len(words)} words)"
    if broke_off:
        return f"broke off at {budget:,} tokens"
    if tokens > budget:
        return f"had {tokens:,} tokens, more than {budget:,}"
    drawn = _shingles(words)
    given = set(_shingles(f"{asked}\n{ROLE}".casefold().split()))
    if sum(one in given for one in drawn) >= COPIED * len(drawn):
        return "repeated its prompt"
    if len(words) >= CIRCLES_FROM and len(set(drawn)) < DISTINCT * len(drawn):
        return "went round in circles"
    return ""


def _shingles(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]
