"""`soul memory export` and `import` over a real daemon: out of one home, into it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_person_takes_memories_out_and_in(
    soul: Callable[..., Any], serve: Callable[..., Any], tmp_path: Path
) -> None:
    real = {"SOUL_DATABASE_URL": ""}
    client = serve(**real)
    client.greet("claude")
    client.tool("write_notebook", content="The port is 5433.", reason="decided")
    file = tmp_path / "mine.jsonl"
    out = soul("memory", "export", str(file), "--since", "2020-01-01", **real)
    assert f" in {file}" in out.stdout, out.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[-1] == {"end": len(lines) - 2}
    assert "exists already" in soul("memory", "export", str(file), **real).stderr
    came = json.loads(soul("memory", "import", str(file), "--json", **real).stdout)
    assert (came["written"], came["known"], came["conflicts"]) == (0, len(lines) - 2, 0)
    file.write_text(file.read_text()[:-20])
    broken = soul("memory", "import", str(file), **real)
    assert broken.returncode == 1
    assert "breaks off" in broken.stderr
