"""`soul plan`: a person sees a stand-in's plan, corrects it, approves it, and decides what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agents.plans import RECALL, WRITE, document


def test_a_plan_is_shown_corrected_approved_and_reviewed(
    soul: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    real = {"SOUL_DATABASE_URL": "", "SOUL_MODEL": "seedling"}
    client = serve(**real)
    client.greet()
    said = client.tool("invoke_agent", agent="architect", task="Bring letters.txt up to date.", wait_s=120)
    id = re.findall(r"Plan ([0-9a-f-]{36}): proposed", said)[0]
    assert "proposed" in soul("plan", "show", id, **real).stdout
    assert id in soul("plan", "list", **real).stdout

    wrong = tmp_path / "wrong.json"
    wrong.write_text(document({**WRITE, "after": [2]}))
    refused = soul("plan", "edit", id, EDITOR=f"cp {wrong}", **real)
    assert refused.returncode == 1
    assert "Nothing was changed; your text is in" in refused.stderr
    right = tmp_path / "right.json"
    right.write_text(document(RECALL, {**WRITE, "after": []}))
    assert "outside: it needs files" in soul("plan", "edit", id, EDITOR=f"cp {right}", **real).stdout

    shown = soul("plan", "approve", id, **real).stdout
    assert f"soul plan review {id} 1" in shown
    assert f"plan {id} running, 0 of 2 done" in soul("status", **real).stdout
    steps = json.loads(soul("plan", "review", id, "1", "accept", "--json", **real).stdout)["steps"]
    assert [step["state"] for step in steps] == ["done", "out"]
    assert (
        "carry it out with your own tools"
        in client.ask("resources/read", {"uri": f"soul://plans/{id}"})["result"]["contents"][0]["text"]
    )
    assert "cancelled" in soul("plan", "cancel", id, **real).stdout
    assert "There is no plan" in soul("plan", "show", steps[1]["work_order"], **real).stderr
