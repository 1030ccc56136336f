"""`soul agents new|show|edit`: a person's hand on agents.toml."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_agents_are_added_from_templates_and_shown(soul: Callable[..., Any], home: Path) -> None:
    home.mkdir(exist_ok=True)
    assert "names nobody" in soul("agents", "show").stdout
    assert "[critic]" in soul("agents", "new", "critic").stdout
    assert "needs a folder" in soul("agents", "new", "coder", "--runs-on", "claude").stderr
    soul("agents", "new", "coder", "--runs-on", "claude", "--folder", str(home / "work"))
    soul("agents", "new", "writer", "--runs-on", "api", "--model", "tiny", "--base-url", "http://127.0.0.1:1/v1")
    soul("agents", "new", "architect", "--model", "org/small", "--context", "4096", "--kv-format", "q8")
    shown = json.loads(soul("agents", "show", "--json").stdout)
    assert [shown[3][key] for key in ("model", "context", "kv_format")] == ["org/small", 4096, "q8"]
    assert [(one["name"], one["role"], one["runs_on"]) for one in shown] == [
        ("critic", "critic", "mlx"),
        ("coder", "builder", "claude"),
        ("writer", "builder", "api"),
        ("architect", "architect", "mlx"),
    ]
    assert (
        "for agents at home" in soul("agents", "new", "x", "--runs-on", "api", "--model", "m", "--context", "9").stderr
    )
    assert "usd = 2.0" in soul("agents", "show", "coder").stdout
    assert "has an agent coder already" in soul("agents", "new", "coder").stderr
    assert "There is no agent 'nobody'" in soul("agents", "show", "nobody").stderr


def test_an_edit_is_kept_only_if_it_is_valid(soul: Callable[..., Any], home: Path) -> None:
    home.mkdir(exist_ok=True)
    soul("agents", "new", "critic")
    before = (home / "agents.toml").read_text()
    wrong = soul("agents", "edit", EDITOR="sed -i s/steps/stps/")
    assert wrong.returncode == 1
    assert "`stps` is not a key" in wrong.stderr
    assert "your text is in" in wrong.stderr
    assert (home / "agents.toml").read_text() == before
    assert "unchanged" in soul("agents", "edit", EDITOR="true").stdout
    assert "could not be started" in soul("agents", "edit", EDITOR="/no/such/editor").stderr
    soul("agents", "edit", EDITOR="sed -i s/steps.*/steps=9/")
    assert json.loads(soul("agents", "show", "critic", "--json").stdout)[0]["steps"] == 9
