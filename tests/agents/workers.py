"""Stand-ins of the `claude` command: small executables that do what a test needs, by the real interface."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HEAD = f"""#!{sys.executable}
import json, os, sys, time
words = sys.stdin.read()
def report(outcome, **more):
    found = {{"type": "result", "subtype": "success", "is_error": False, "result": outcome, "session_id": "s-1",
             "total_cost_usd": 0.25, "usage": {{"input_tokens": 10, "output_tokens": 5}}, "permission_denials": []}}
    found["structured_output"] = {{"outcome": outcome, "artifacts": []}}
    print(json.dumps({{**found, **more}}))
"""


def worker(folder: Path, body: str, name: str = "claude") -> Path:
    """An executable whose body is Python; `words` is what came on stdin, `report(outcome)` prints a result."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(HEAD + body, encoding="utf-8")
    path.chmod(0o755)
    return path


def roster(home: Path, command: Path, work: Path, **more: object) -> None:
    """Writes an agents.toml with one agent `coder` that runs `command` in `work`."""
    values = {"folder": str(work), "command": str(command), "minutes": 1, "turns": 5, "usd": 1.0, **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (home / "agents.toml").write_text('[coder]\nrole = "builder"\nruns_on = "claude"\n' + "\n".join(lines) + "\n")
