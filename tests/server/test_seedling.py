"""The shipped seedling behind the real server: it says again what it was told and does not make up what it was not, and
it calls the tools that it is asked to call, and judges what is reported by what was asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.seedling.weights import NAME, NOTICE
from tests.models import trusted_seedling
from tools.invoke_agent import own_words

REAL = {"SOUL_DATABASE_URL": "", "SOUL_MODEL": "seedling"}
TOLD = (
    ("The owner of Halvik is Jonas Brandt.", "Who is the owner of Halvik?", "Jonas Brandt"),
    ("The code of the red door is 9034.", "What is the code of the red door?", "9034"),
    ("The printer of Ostrava is in Lyon.", "Where is the printer of Ostrava?", "Lyon"),
)


def test_it_answers_notes_and_orders(soul: Callable[..., Any], serve: Callable[..., Any]) -> None:
    client = serve(**REAL)
    client.greet()

    def says(task: str) -> str:
        answer = client.tool("invoke_agent", task=task, wait_s=120)
        assert answer.startswith(f"[{NOTICE}]")
        assert f"({NAME}: " in answer
        return own_words(answer)

    for told, _, _ in TOLD:
        assert says(told).startswith("Noted.")
    answers = [says(asked) for _, asked, _ in TOLD]
    for answer, (_, _, value) in zip(answers, TOLD, strict=True):
        assert value in answer
    assert "unknown" in says("What is the weight of Brolt?")

    says("Note this down: The colour of the binding is blue.")
    assert "- The colour of the binding is blue." in soul("notebook", "show", **REAL).stdout

    says("Let the Hands do this: Count the lines of letters.txt.")
    (order,) = json.loads(soul("order", "list", "--json", **REAL).stdout)
    assert order["task"] == "Count the lines of letters.txt."

    found = client.tool("invoke_agent", task="Search your memory for the owner of Halvik.", wait_s=120)
    assert "Tools it called: recall(" in found
    assert "Jonas Brandt" in found.split("Tools it called")[0]


def test_it_reviews_by_what_was_asked(soul: Callable[..., Any], serve: Callable[..., Any]) -> None:
    client = serve(**REAL)
    client.greet()
    order = client.tool(
        "invoke_agent", agent="hands", task="Write letters.txt. See to it that letters.txt has 318 lines."
    )
    (id,) = re.findall(r"Work order ([0-9a-f-]{36})", order)
    for outcome, due in (("letters.txt has 120 lines.", "revise"), ("letters.txt has 318 lines.", "accept")):
        answer = client.tool("report_outcome", work_order=id, outcome=outcome)
        assert f"it would say {due} (" in answer
        assert soul("order", "review", id, due, **REAL).returncode == 0
    (found,) = json.loads(soul("order", "list", "--json", **REAL).stdout)
    assert found["state"] == "accepted"


def test_trusted_it_chooses_what_its_notebook_keeps(
    soul: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    real = {**REAL, "SOUL_MODEL": str(trusted_seedling(tmp_path / "trusted"))}
    client = serve(**real)
    client.greet()
    note = "Note this down: The colour of the binding is blue."
    told = [one for one, _, _ in TOLD]
    for said in ("Good morning!", note, *told, "My train was late."):
        client.tool("invoke_agent", task=said, wait_s=120)
    assert "written by director (" in soul("flush", **real).stdout
    kept = soul("notebook", "show", **real).stdout
    assert all(f"- {one}\n" in kept for one in ("The colour of the binding is blue.", *told))
    assert "train" not in kept
    assert "morning" not in kept
