"""The real `claude` command as a client of Soul, over a scripted stand-in of the Messages API.

It discovers the tools, mounts a corpus, recalls, gets a work order, carries it out with its own file tools, reports, is
told to revise, revises, and is accepted. What Claude says is scripted; the verdicts are the seedling's own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import trusted_seedling
from tests.node.messages_api import Asked, Block, messages_api, say, use

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SOUL = Path(sys.executable).parent / "soul"
TASK = "Write the time into proof.txt. See to it that the time is 24 hours."
CLAUDE = Path(__file__).parent / "node_modules" / ".bin" / "claude"


def order_id(results: list[str]) -> str:
    return re.findall(r"Work order ([0-9a-f-]{36})", "\n".join(results))[0]


def script(scratch: Path) -> list[object]:
    """What the model does, one entry a request; entries may look at what came back."""
    return [
        lambda _: use("mcp__soul__mount_corpus", name="bread", path=str(scratch / "bread")),
        lambda _: use("mcp__soul__recall", query="how long does sourdough proof"),
        lambda _: use("mcp__soul__invoke_agent", agent="hands", task=TASK),
        lambda _: use("Write", file_path=str(scratch / "proof.txt"), content="draft: some hours\n"),
        lambda asked: use(
            "mcp__soul__report_outcome",
            work_order=order_id(asked.results),
            outcome="The time is 12 hours.",
            artifacts=[str(scratch / "proof.txt")],
        ),
        lambda _: use("Write", file_path=str(scratch / "proof.txt"), content="final: 24 hours, cold\n"),
        lambda asked: use(
            "mcp__soul__report_outcome",
            work_order=order_id(asked.results),
            outcome="The time is 24 hours.",
            artifacts=[str(scratch / "proof.txt")],
        ),
        lambda asked: say(f"The Soul says: {asked.results[-1]}"),
    ]


@pytest.fixture
def soul_home(home: Path) -> Iterator[dict[str, str]]:
    """Variables of a home whose Director is the seedling, and whose verdicts count."""
    model = trusted_seedling(home / "models" / "reviewer")
    variables = {"SOUL_HOME": str(home), "SOUL_MODEL": str(model), "SOUL_ALLOWED_ROOTS": str(home)}
    yield variables
    subprocess.run([SOUL, "stop"], env={**os.environ, **variables}, capture_output=True, timeout=60, check=False)


def test_claude_code_mounts_recalls_carries_an_order_out_and_is_reviewed(home: Path, soul_home: dict[str, str]) -> None:
    if not CLAUDE.exists():
        pytest.skip("run `make protocol`, which installs the claude command into tests/node")
    scratch = home / "scratch"
    (scratch / "bread").mkdir(parents=True)
    (scratch / "bread" / "notes.md").write_text("# Proofing\n\nSourdough proofs 24 hours, cold.\n")
    shutil.copy(ROOT / "mcp.json", scratch / "mcp.json")
    (scratch / ".venv" / "bin").mkdir(parents=True)
    (scratch / ".venv" / "bin" / "soul").symlink_to(SOUL)
    steps = script(scratch)
    seen: list[Asked] = []

    def reply(asked: Asked) -> list[Block]:
        seen.append(asked)
        step = steps[min(len(asked.results), len(steps) - 1)]
        return [step(asked)]  # type: ignore[operator]

    with messages_api(reply) as api:
        done = subprocess.run(
            [
                CLAUDE,
                "-p",
                "--output-format",
                "json",
                "--mcp-config",
                "mcp.json",
                "--strict-mcp-config",
                "--allowedTools",
                "mcp__soul,Write",
            ],
            input="Ask the Soul for work and do it.",
            cwd=scratch,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                **soul_home,
                "ANTHROPIC_BASE_URL": api.url,
                "ANTHROPIC_API_KEY": "not-a-key",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "DISABLE_AUTOUPDATER": "1",
            },
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    results = seen[-1].results
    assert "mcp__soul__recall" in seen[0].tool_names, "recall is offered at once, not behind the tool search"
    assert "Mounted bread" in results[0]
    assert "bread: notes.md" in results[1]
    assert "24 hours, cold" in results[1]
    assert "revise" in results[4]
    assert "accept" in results[6]
    assert "The order is closed." in report["result"]
    assert report["permission_denials"] == []
    assert (scratch / "proof.txt").read_text() == "final: 24 hours, cold\n"
