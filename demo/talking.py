"""The part of the demo in which somebody talks with the Director, and its words count: told, asked, noted, ordered,
searched for, reviewed.

The Director is the seedling, which repeats what it is told and shown; each check is on the very words of its answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tools.invoke_agent import own_words

if TYPE_CHECKING:
    from mcp import Client

    from demo.demo import Demo

QUESTION = "What is the port of Veltran?"
TOLD = {
    "The port of Veltran is 4711.": (QUESTION, "4711"),
    "The owner of Halvik is Jonas Brandt.": ("Who is the owner of Halvik?", "Jonas Brandt"),
    "The deadline of Ostrava is 2027-03-01.": ("When is the deadline of Ostrava?", "2027-03-01"),
}
"""What is said, the question for it, and what the answer must hold."""
UNKNOWN = "What is the budget of Brolt?"
NOTE = "The colour of the binding is blue."
TASK = "Count the lines of letters.txt."
WORK = "Write letters.txt. See to it that letters.txt has 318 lines."
REPORTED = {"letters.txt has 120 lines.": "revise", "letters.txt has 318 lines.": "accept"}
"""What is reported of it, attempt by attempt, and the verdict that is due."""


async def said(client: Client, call: Callable[..., Any], task: str) -> tuple[str, float]:
    """(its words, the seconds until they were there)."""
    answer, seconds = await call(client, "invoke_agent", task=task, wait_s=120)
    return own_words(answer), seconds


async def talk(demo: Demo, client: Client, call: Callable[..., Any]) -> str:
    """Three facts, each asked for; a question that nothing answers, a note, an order, a search, the review of two
    attempts. Gives the first answer of all."""
    first = ""
    for told in TOLD:
        whole, seconds = await call(client, "invoke_agent", task=told, wait_s=120)
        first = first or whole
        demo.note("tell the Director", f"{told!r}: {own_words(whole)!r}", seconds)
    await remembers(demo, client, call, "ask the Director")

    answer, seconds = await said(client, call, UNKNOWN)
    demo.note("ask what nobody told it", f"{UNKNOWN!r}: {answer!r}", seconds)
    demo.check("unknown" in answer, "it says that it does not know")

    answer, seconds = await said(client, call, f"Note this down: {NOTE}")
    demo.note("have it note something down", f"{answer!r}", seconds)
    demo.check(NOTE in demo.soul("notebook", "show"), "the note is in the notebook")

    answer, seconds = await said(client, call, f"Let the Hands do this: {TASK}")
    demo.note("have it give the Hands an order", f"{answer!r}", seconds)
    orders = json.loads(demo.soul("order", "list", "--json"))
    demo.check(any(one["task"] == TASK for one in orders), "the order is out, word for word")

    found, seconds = await call(client, "invoke_agent", task="Search your memory for the owner of Halvik.", wait_s=120)
    demo.note("have it search its memory", f"{own_words(found)!r}", seconds)
    demo.check("recall(" in found and "Jonas Brandt" in own_words(found), "it calls recall, and says what it found")
    await reviews(demo, client, call)
    return first


async def reviews(demo: Demo, client: Client, call: Callable[..., Any]) -> None:
    """One attempt misses what was asked, the next one meets it. A stand-in's verdict is shown; a person gives it."""
    order, _ = await call(client, "invoke_agent", agent="hands", task=WORK)
    id = re.findall(r"Work order ([0-9a-f-]{36})", order)[0]
    for outcome, due in REPORTED.items():
        answer, seconds = await call(client, "report_outcome", work_order=id, outcome=outcome)
        said = re.findall(r"it would say (\w+)", answer)
        demo.note("it reviews an attempt", f"{outcome!r}: {', '.join(said)}", seconds)
        demo.check(said == [due], f"of {outcome!r} it says {due}")
        demo.soul("order", "review", id, due)


async def remembers(demo: Demo, client: Client, call: Callable[..., Any], step: str) -> None:
    """A question for everything that was told."""
    for asked, value in TOLD.values():
        answer, seconds = await said(client, call, asked)
        demo.note(step, f"{asked!r}: {answer!r}", seconds)
        demo.check(value in answer, f"asked {asked!r} it says {value!r}")
