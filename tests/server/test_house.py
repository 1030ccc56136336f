"""The whole house behind the daemon, as a person and a client use it: memory for real, no model needed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.claim import holder

REAL = {"SOUL_DATABASE_URL": "", "SOUL_MODEL": "/nowhere"}
"""The embedded database, and a model that fails to load: memory must work all the same."""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder under no allowed root, with one text."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nOolong is steeped at ninety degrees for three minutes.\n")
    return folder


def test_a_person_indexes_any_folder_and_a_client_only_allowed_ones(
    soul: Callable[..., Any], serve: Callable[..., Any], library: Path, home: Path
) -> None:
    real = {**REAL, "SOUL_ALLOWED_ROOTS": str(home)}
    added = soul("corpus", "add", "tea", str(library), "--json", **real)
    assert json.loads(added.stdout)["files"] == 1, added.stderr
    client = serve(**real)
    client.greet()
    refused = client.ask("tools/call", {"name": "mount_corpus", "arguments": {"name": "tea2", "path": str(library)}})
    assert refused["result"]["isError"]
    assert "outside the allowed folders" in refused["result"]["content"][0]["text"]
    assert "Mounted tea" in client.tool("mount_corpus", name="tea")
    assert "tea.md" in client.tool("recall", query="how long to steep oolong")
    (library / "coffee.md").write_text("Espresso takes half a minute.\n")
    while "coffee.md" not in client.tool("recall", query="how long does espresso take"):
        pass  # the daemon follows the files of what is mounted; the test's own time limit bounds this
    (hit,) = json.loads(soul("recall", "oolong", "-k", "1", "--json", **real).stdout)
    assert hit["corpus"] == "tea"
    assert json.loads(soul("corpus", "refresh", "tea", "--json", **real).stdout)["chunks"] == 2
    assert "mounted: tea" in soul("corpus", "mount", "tea", **real).stdout
    assert "2 passages" in soul("corpus", "export", "tea", str(library.parent / "tea.soul"), **real).stdout
    assert (
        "green: 2 files" in soul("corpus", "import", str(library.parent / "tea.soul"), "--name", "green", **real).stdout
    )
    assert "It has mounted: tea" in soul("corpus", "unmount", "green", **real).stderr
    listed = soul("corpus", "list", **real)
    assert "tea" in listed.stdout and "yes" in listed.stdout
    assert soul("corpus", "remove", "tea", **real).returncode == 0
    assert soul("corpus", "remove", "tea", **real).returncode == 1


def test_what_was_answered_survives_a_killed_daemon(
    serve: Callable[..., Any], soul: Callable[..., Any], home: Path
) -> None:
    client = serve(**REAL)
    client.greet()
    assert "version 1" in client.tool("write_notebook", append="The spare key is with Ada.", reason="asked to")
    first = holder(str(home))
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert "version 2" in client.tool("write_notebook", append="Ada moved to Bern.", reason="asked to")
    assert holder(str(home)) != first
    shown = soul("notebook", "show", **REAL).stdout
    assert "spare key" in shown and "Bern" in shown
    assert "asked to" in soul("notebook", "history", **REAL).stdout
    assert soul("notebook", "show", "7", **REAL).returncode == 1


def test_the_person_has_the_last_word_on_the_self(serve: Callable[..., Any], soul: Callable[..., Any]) -> None:
    client = serve(**REAL)
    client.greet()
    for text in ("I am a Soul that likes tea.", "I am a Soul that likes coffee."):
        assert "Pending" in client.tool("rewrite_self", proposal=text, reason="taste")
    tea, coffee = json.loads(soul("self", "show", "--json", **REAL).stdout)["pending"]
    assert "likes coffee" in coffee["diff"]
    assert soul("self", "reject", coffee["id"], "--why", "no", **REAL).stdout == "refused\n"
    assert soul("self", "approve", tea["id"], **REAL).stdout == "ratified: the self is now version 2\n"
    assert "likes tea" in soul("self", "show", **REAL).stdout
    again = soul("self", "reject", tea["id"], **REAL)
    assert again.returncode == 1
    assert "already ratified" in again.stderr
    assert "not the id of a proposal" in soul("self", "approve", "tea", **REAL).stderr
    assert "version 3" in soul("self", "rollback", "1", **REAL).stdout
    assert "rollback to version 1" in soul("self", "history", **REAL).stdout
