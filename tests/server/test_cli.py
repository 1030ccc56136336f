"""The `soul` command: answers for people and programs, errors as fact and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_it_prints_its_version_and_its_help(soul: Callable[..., Any]) -> None:
    assert soul("version").stdout.startswith("soul ")
    assert "corpus" in soul("--help").stdout
    nothing = soul()
    assert nothing.returncode == 2
    assert "usage" in nothing.stdout
    assert soul("dance").returncode == 2


def test_status_and_stop_without_a_daemon(soul: Callable[..., Any]) -> None:
    status = soul("status")
    assert status.returncode == 1
    assert "No daemon runs" in status.stderr
    assert json.loads(soul("status", "--json").stdout)["running"] is False
    assert soul("stop").returncode == 0


def test_config_shows_values_and_where_they_come_from(soul: Callable[..., Any], home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("idle_minutes = 5\n")
    shown = json.loads(soul("config", "--json", SOUL_LOG_LEVEL="debug").stdout)
    assert shown["idle_minutes"] == {"value": "5.0", "origin": str(home / "config.toml")}
    assert shown["log_level"] == {"value": "debug", "origin": "variable SOUL_LOG_LEVEL"}
    assert "idle_minutes" in soul("config").stdout


def test_a_wrong_setting_is_an_error_and_no_traceback(soul: Callable[..., Any], home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("idle_minuts = 5\n")
    for command in (("config",), ("corpus", "list"), ("daemon",), ("serve", "--http")):
        run = soul(*command)
        assert run.returncode == 1, command
        assert "Did you mean `idle_minutes`?" in run.stderr, command
        assert "Traceback" not in run.stderr, command


def test_mcp_json_is_what_a_client_takes(soul: Callable[..., Any], home: Path) -> None:
    run = soul("mcp-json")
    entry = json.loads(run.stdout)["mcpServers"]["soul"]
    assert Path(entry["command"]).is_absolute()
    assert entry["args"] == ["serve"]
    assert entry["env"] == {"SOUL_HOME": str(home.resolve())}
    assert "claude mcp add soul" in run.stderr


def test_flags_of_the_daemon_are_refused_by_the_bridge(soul: Callable[..., Any]) -> None:
    run = soul("serve", "--model", "somewhere")
    assert run.returncode == 1
    assert "--model belongs to the daemon" in run.stderr
    assert "config.toml" in run.stderr


def test_logs_shows_the_last_lines(soul: Callable[..., Any], home: Path) -> None:
    nothing = soul("logs")
    assert nothing.returncode == 1
    assert "no log yet" in nothing.stderr
    (home / "logs").mkdir(parents=True)
    line = {"event": "it [happened]", "level": "info", "logger": "here", "timestamp": "2026-01-01T00:00:00Z", "n": 1}
    (home / "logs" / "daemon.log").write_text(json.dumps(line) + "\nno json\n")
    assert soul("logs").stdout == "2026-01-01T00:00:00 info    here: it [happened] n=1\nno json\n"
    assert soul("logs", "-n", "1", "--json").stdout == "no json\n"


def test_a_part_that_is_down_is_an_error_with_its_remedy(soul: Callable[..., Any]) -> None:
    run = soul("corpus", "list")
    assert run.returncode == 1
    assert "The memory is not available" in run.stderr
    assert "Traceback" not in run.stderr
