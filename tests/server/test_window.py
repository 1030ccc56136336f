"""`soul window`, `soul flush` and `soul forget` over a real daemon, with a model that says what it was told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models import parrot

NOTES = "The port is 5433. Ada prefers short answers. Open: the contract."


def test_a_person_sees_the_window_lets_it_go_and_forgets(
    soul: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    model = parrot(tmp_path / "parrot", {"": "Aye.", "Rewrite": NOTES})
    real = {"SOUL_DATABASE_URL": "", "SOUL_MODEL": str(model), "SOUL_CONTEXT_TOKENS": "6000"}
    client = serve(**real)
    client.greet("claude")
    client.tool("invoke_agent", task="My sister Ottilie lives in the yellow house.")
    client.tool("write_notebook", content="The port is 5433.", reason="decided")

    seen = json.loads(soul("window", "--json", **real).stdout)
    assert [turn["role"] for turn in seen["turns"]] == ["user", "assistant"]
    assert sum(one["tokens"] for one in (*seen["sectors"], *seen["turns"])) == seen["tokens"]
    assert [one["sector"] for one in seen["deltas"]] == ["notebook"]
    assert seen["cached"] == seen["tokens"] - 1
    shown = soul("window", **real).stdout
    assert "window: user" in shown
    assert "told with the next turn: new notebook" in shown

    flushed = soul("flush", **real)
    assert "2 turns" in flushed.stdout, flushed.stderr
    assert "notebook version 2, written by director (parrot)" in flushed.stdout
    assert soul("notebook", "show", **real).stdout.endswith(f"{NOTES}\n")
    assert "window: last let go" in soul("status", **real).stdout
    assert "step=rewritten" in soul("logs", **real).stdout

    planned = soul("forget", "--query", "Ottilie yellow", **real).stdout
    assert "would be forgotten" in planned
    assert "generations trained on it: none" in planned
    assert "Ottilie" in soul("recall", "Ottilie", **real).stdout
    done = soul("forget", "--query", "Ottilie yellow", "--reason", "private", "--yes", **real)
    assert "\nforgotten: " in done.stdout, done.stderr
    assert "Ottilie" not in soul("recall", "sister", "yellow", "house", **real).stdout
    again = soul("forget", "--query", "Ottilie yellow", **real)
    assert again.returncode == 1
    assert "No memory holds all of these words" in again.stderr
