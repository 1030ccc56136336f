"""Asking an agent to rewrite its notebook from its window, and judging whether what comes is a notebook.

The agent says of each line that the notebook may be made of whether it stays, and adds what should be said otherwise.

Knows the request and the ways in which a rewrite fails; does not know what happens to it (`agents.pressure`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
Rewrite your notebook now; it is what you will have in view from here on, at most {budget} tokens. Decisions, names,
numbers, dates, preferences and what is still open belong into it; what is settled, outdated or small talk does not."""
FREELY = "Answer with the new text of the notebook and nothing else: no heading, no comment, no call."
CHOOSING = """\
Below stand the lines of your notebook and what was said since, each with its number behind it. Answer with a line for
each number, "[n] stays" or "[n] goes": what stays does so word for word. Behind the last number stands what you add, in
lines that begin with "- ": what should be said otherwise or is missing; or "nothing". No heading, no comment, no call.

{lines}"""
ADDED = "To be added:"

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
_CHOICE = re.compile(r"(?i)(?:\[(\d+)\]|^\W*(\d+)(?=\W+\w+\W*$))\W+(stays|goes|nothing)\b")
"""With more around it where the number has its brackets: some models say the line again, or why."""
_NUMBER = re.compile(r"^\s*\[\d+\]\s*")


@dataclass(frozen=True)
class Draft:
    """A new notebook as the agent wrote it, or the reason why it is none."""

    text: str
    fault: str
    """"" where the text can be the notebook."""


def numbered(line: str, number: int) -> str:
    """A line of the request. The number stands behind it: a model that reads from left to right knows there what it is
    the number of, and finds that again when it says the number."""
    return f"{line} [{number}]"


def request(budget: int, lines: Sequence[str] = ()) -> str:
    """The words that ask for a notebook of at most `budget` tokens, and the `lines` that it may be made of.

    Those stand in the window already, scattered. Who has them in a row before it and may say a number for a line leaves
    fewer out, copies no name or number wrongly, and draws a few tokens for each of them.
    """
    listed = "\n".join(numbered(line, number) for number, line in enumerate((*lines, ADDED), 1))
    return f"{REQUEST.format(budget=budget)}\n{CHOOSING.format(lines=listed) if lines else FREELY}"


def answered(kept: Sequence[bool]) -> str:
    """The answer that keeps these lines, drops the others and adds nothing."""
    chosen = [f"[{number}] {'stays' if stays else 'goes'}" for number, stays in enumerate(kept, 1)]
    return "\n".join([*chosen, f"[{len(kept) + 1}] nothing"])


def made(answer: str, lines: Sequence[str]) -> str:
    """The notebook that an answer to `request` means: the `lines` that it keeps, in their order, and what it adds.

    A line of which it says nothing stays, so that nothing is lost by being forgotten. An answer that chooses nowhere is
    the notebook itself, written freely.
    """
    choices: dict[int, str] = {}
    added: list[str] = []
    for line in answer.splitlines():
        if found := _CHOICE.findall(line):
            choices |= {int(number or bare): choice.casefold() for number, bare, choice in found}
        elif text := _NUMBER.sub("", line).rstrip():
            added.append(text)
    if not choices:
        return answer
    return "\n".join([*(line for number, line in enumerate(lines, 1) if choices.get(number) != "goes"), *added])


async def rewrite(
    engine: Engine,
    context: AgentContext,
    lines: Sequence[str],
    budget: int,
    seconds: float,
    report: Callable[[Progress], None],
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
    text = made(cleaned(text).strip(), lines)
    # Saying the lines again is what is asked for; saying the request again is not.
    return Draft(text, fault(text, finished.reason == "length", chat.count(text), budget, request(budget, ["-"])))


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
