"""`soul doctor` tries each part for real and says what to do where one fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.calling import call

PARTS = ["python", "packages", "settings", "home", "blas", "daemon"]
IN_DAEMON = ["database", "embedder", "recall", "model", "agents"]


def findings(run: Any) -> dict[str, dict[str, str]]:
    return {one["name"]: one for one in json.loads(run.stdout)}


def test_it_passes_where_everything_is_there_and_leaves_nothing_behind(soul: Callable[..., Any], home: Path) -> None:
    run = soul("doctor", "--json", SOUL_DATABASE_URL="", SOUL_MODEL="", SOUL_DOWNLOAD="0")
    found = findings(run)
    assert [name for name, one in found.items() if one["verdict"] == "fail"] == []
    assert run.returncode == 0
    assert list(found) == [*PARTS, *IN_DAEMON, "http", "claude"]
    assert "pgvector" in found["database"]["seen"]
    assert call(str(home), "corpus.list")["corpora"] == []
    assert call(str(home), "survey")["memory"]["packets"] == 0


def test_a_part_that_is_down_fails_with_its_remedy_and_the_others_are_still_tried(soul: Callable[..., Any]) -> None:
    run = soul("doctor")
    assert run.returncode == 1
    assert "FAIL database" in run.stdout
    assert "FAIL model" in run.stdout
    assert "/nowhere does not exist" in run.stdout
    assert "→" in run.stdout
    assert "ok   blas" in run.stdout or "warn blas" in run.stdout


def test_without_a_daemon_its_parts_are_not_tried(soul: Callable[..., Any], home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("log_level = 'loud'")
    found = findings(soul("doctor", "--json"))
    assert "log_level" in found["settings"]["seen"]
    assert found["daemon"]["verdict"] == "fail"
    assert all("not tried" in found[name]["seen"] for name in IN_DAEMON)
