"""`soul golden` and `soul feedback` over a real daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models import parrot


def test_a_person_accepts_what_the_director_said_and_a_dream_finds_it(
    soul: Callable[..., Any], serve: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    model = parrot(tmp_path / "parrot", {"": "The harbour opens at six."})
    real = {"SOUL_DATABASE_URL": "", "SOUL_MODEL": str(model), "SOUL_CONTEXT_TOKENS": "6000"}
    client = serve(**real)
    client.greet("claude")
    client.tool("invoke_agent", task="When does the harbour open?")
    listed = json.loads(soul("golden", "list", "--json", **real).stdout)["exchanges"]
    assert [(one["asked"], one["state"]) for one in listed] == [("When does the harbour open?", "proposed")]
    id = listed[0]["answer"]
    assert soul("feedback", id, "+", **real).stdout == "noted\n"
    assert "accepted by person" in soul("golden", "show", id, **real).stdout
    assert "accepted: 1" in soul("golden", "accept", "--all", **real).stdout
    buffer = home / "golden" / "training_buffer.jsonl"
    assert json.loads(buffer.read_text())["messages"][1]["content"] == "The harbour opens at six."
    soul("forget", id, "--yes", **real)
    assert buffer.read_text() == ""
    assert "not in the golden log" in soul("golden", "show", id, **real).stderr
