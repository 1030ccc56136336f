"""A headless Claude Code as the Hands: its command line, its environment, and what its report means.

Facts of `claude` 2.1, found by running it: "not logged in" and a dead service come as subtype `success` with
`is_error`; a limit comes as `error_max_turns` or `error_max_budget_usd` with status 1; a session that is not there
comes as words on stderr and nothing on stdout; a bare `Write` in the allow-list lets it write anywhere, so that each
file tool is allowed for the folder alone; settings of the user and the project are left out, since they may allow more;
a `Glob` that begins at the root shows names anywhere, whatever the rules say, so that a hook looks at it first.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.hands.outcome import OUTCOME_SCHEMA, Assignment, HandsFailed, Outcome, Started
from agents.hands.process import RUN_VARIABLE, Ended, run

DEPTH_VARIABLE = "SOUL_DEPTH"
"""How many Souls deep a process is: 0 at a person's keyboard, one more in the Hands of each."""

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TERM", "TZ")
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
READING = frozenset({"Read", "Glob", "Grep"})
WRITING = frozenset({"Edit", "Write", "NotebookEdit"})
SHOWN = 300
GUARD = Path(__file__).with_name("glob_guard.py")


@dataclass(frozen=True)
class ClaudeLimits:
    """Where a run ends whatever it wants, and what it may use. `tools` are Claude Code's permission rules."""

    command: str
    tools: tuple[str, ...]
    environment: tuple[str, ...]
    model: str
    seconds: float
    turns: int
    usd: float


class ClaudeHands:
    """Runs `claude -p` once per assignment."""

    def __init__(self, limits: ClaudeLimits) -> None:
        self._limits = limits

    async def carry_out(self, assignment: Assignment, started: Started) -> Outcome:
        """One run of Claude Code in the assignment's folder.

        Raises:
            HandsFailed: it could not start or log in, met a limit, was killed, or said nothing that can be read.
        """
        assert assignment.folder is not None
        ended = await run(
            command_line(self._limits, assignment.folder, assignment.session),
            assignment.words,
            assignment.folder,
            environment(self._limits, os.environ, str(assignment.run)),
            self._limits.seconds,
            started,
        )
        return understood(ended, self._limits)


def command_line(limits: ClaudeLimits, folder: Path, session: str) -> list[str]:
    """The arguments; the prompt is none of them, since it comes on stdin and may begin with anything."""
    names = sorted({tool.split("(")[0] for tool in limits.tools})
    line = [limits.command, "-p", "--output-format", "json", "--json-schema", json.dumps(OUTCOME_SCHEMA)]
    line += ["--strict-mcp-config", "--setting-sources", "", "--permission-mode", "dontAsk"]
    line += ["--tools", ",".join(names), "--max-turns", str(limits.turns), "--max-budget-usd", f"{limits.usd:g}"]
    if limits.tools:
        line += ["--allowedTools", *dict.fromkeys(_within(tool, folder) for tool in limits.tools)]
    if "Glob" in names:
        line += ["--settings", _guarded()]
    if limits.model:
        line += ["--model", limits.model]
    return [*line, "--resume", session] if session else line


def _guarded() -> str:
    """Settings with the hook before each Glob. A hook that fails otherwise than by 2 would let it pass."""
    command = f"{shlex.join([sys.executable, '-I', str(GUARD)])} || exit 2"
    hook = {"matcher": "Glob", "hooks": [{"type": "command", "command": command}]}
    return json.dumps({"hooks": {"PreToolUse": [hook]}})


def _within(tool: str, folder: Path) -> str:
    """The rule for one tool; file tools get the folder, which Claude Code writes with two slashes."""
    if tool in READING:
        return f"Read(/{folder}/**)"
    return f"Edit(/{folder}/**)" if tool in WRITING else tool


def environment(limits: ClaudeLimits, mine: Mapping[str, str], run: str) -> dict[str, str]:
    """What the child sees: an allow-list, the variables named in the configuration, and how deep it is."""
    names = (*INHERITED, *limits.environment)
    depth = int(mine.get(DEPTH_VARIABLE) or 0) + 1
    return {
        **{name: mine[name] for name in names if name in mine},
        **QUIET,
        RUN_VARIABLE: run,
        DEPTH_VARIABLE: str(depth),
    }


def understood(ended: Ended, limits: ClaudeLimits) -> Outcome:
    """The outcome that a run of Claude Code reports.

    Raises:
        HandsFailed: there is none; cause, fact and remedy say why.
    """
    if ended.timed_out:
        raise HandsFailed(
            "time limit",
            f"Claude Code was stopped after {limits.seconds / 60:g} minutes.",
            "Give it a smaller task, or raise `minutes` in agents.toml.",
        )
    if ended.overflowed:
        raise HandsFailed(
            "too much output",
            f"Claude Code printed more than {len(ended.stdout) // 1_000_000} MB and was stopped.",
            "Check `command` in agents.toml: it must be the claude command itself.",
        )
    if ended.status < 0:
        name = signal.Signals(-ended.status).name
        raise HandsFailed("killed", f"Claude Code was killed by {name}.", "Send the task again when you know why.")
    report = _report(ended)
    session = str(report.get("session_id") or "")
    said = str(report.get("result") or "") or "; ".join(str(one) for one in _list(report, "errors"))
    if report.get("subtype") == "error_max_turns":
        raise HandsFailed(
            "turn limit",
            f"Claude Code used its {limits.turns} turns without an outcome.",
            "Give it a smaller task, or raise `turns` in agents.toml.",
        )
    if report.get("subtype") == "error_max_budget_usd":
        raise HandsFailed(
            "money limit",
            f"Claude Code spent its {limits.usd:g} US dollars without an outcome.",
            "Give it a smaller task, or raise `usd` in agents.toml.",
        )
    if report.get("is_error") or ended.status != 0:
        raise _said_error(said, ended.status)
    outcome, artifacts = said, ()
    found = report.get("structured_output")
    if isinstance(found, dict) and isinstance(found.get("outcome"), str):
        outcome, artifacts = found["outcome"], tuple(str(one) for one in _list(found, "artifacts"))
    if not outcome.strip():
        outcome = "(The Hands ended without a word.)"
    usage: Any = report.get("usage")
    tokens = sum(_number(usage, name) for name in ("input_tokens", "output_tokens")) if isinstance(usage, dict) else 0
    return Outcome(outcome, artifacts, _denied(report), session, float(_number(report, "total_cost_usd")), int(tokens))


def _report(ended: Ended) -> dict[str, Any]:
    try:
        found = json.loads(ended.stdout)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and found.get("type") == "result":
        return found
    stderr = ended.stderr.strip()
    if "No conversation found" in stderr:
        raise HandsFailed(
            "lost session",
            "Claude Code does not know the session that was to be revised any more.",
            "Send the task again as a new one.",
        )
    if ended.status != 0:
        words = stderr[-SHOWN:] or "it said nothing"
        raise HandsFailed(
            "service",
            f"Claude Code ended with status {ended.status}: {words}.",
            "Run the same `claude` by hand to see.",
        )
    raise HandsFailed(
        "garbage",
        f"Claude Code's answer cannot be read: {ended.stdout[:80]!r}.",
        "Check `command` in agents.toml, and that `claude --version` is 2.1 or later.",
    )


def _said_error(said: str, status: int) -> HandsFailed:
    shown = said[:SHOWN] or f"status {status} without words"
    if "/login" in said or "Not logged in" in said:
        return HandsFailed(
            "not logged in",
            "Claude Code is not logged in.",
            "Run `claude` once as the user of the daemon and log in, or add ANTHROPIC_API_KEY to `environment` in "
            "agents.toml and set it where the daemon starts.",
        )
    if "API key" in said or "authentication" in said.lower():
        return HandsFailed("refused key", f"The key was refused: {shown}.", "Check the key, then send the task again.")
    if "Unable to connect" in said or "Connection" in said:
        return HandsFailed(
            "unreachable", f"Claude Code reached no service: {shown}.", "Check the network, then send the task again."
        )
    return HandsFailed("service", f"Claude Code met an error: {shown}.", "Send the task again later.")


def _denied(report: Mapping[str, Any]) -> tuple[str, ...]:
    calls = [one for one in _list(report, "permission_denials") if isinstance(one, dict)]
    return tuple(
        f"{one.get('tool_name')} {json.dumps(one.get('tool_input'), ensure_ascii=False)[:200]}" for one in calls
    )


def _list(report: Mapping[str, Any], name: str) -> list[Any]:
    found = report.get(name)
    return found if isinstance(found, list) else []


def _number(report: Mapping[str, Any], name: str) -> float:
    found = report.get(name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else 0
