"""The service files say what launchd and systemd need; loading them is the system's."""

from __future__ import annotations

import os
import plistlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Unavailable
from server import paths
from server.service import LABEL, launchd_plist, service, systemd_unit

HOME = '/home/Ada L/50% "soul" $x'


def test_the_launchd_agent_runs_the_daemon_of_this_home_for_good() -> None:
    plist = plistlib.loads(launchd_plist(HOME))
    assert plist["Label"] == LABEL
    assert plist["ProgramArguments"] == [paths.script(), "daemon"]
    assert plist["EnvironmentVariables"] == {"SOUL_HOME": HOME, "SOUL_IDLE_MINUTES": "0"}
    assert plist["KeepAlive"] == {"SuccessfulExit": False}


def test_the_systemd_unit_quotes_what_systemd_would_replace() -> None:
    unit = systemd_unit(HOME).decode()
    assert 'Environment="SOUL_HOME=/home/Ada L/50%% \\"soul\\" $x" SOUL_IDLE_MINUTES=0' in unit
    assert f'ExecStart="{paths.script()}" daemon' in unit
    assert "Restart=on-failure" in unit


def test_each_system_has_its_place_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    assert service(HOME, "linux").path == Path("/config/systemd/user/soul.service")
    assert service(HOME, "darwin").path == Path.home() / f"Library/LaunchAgents/{LABEL}.plist"
    with pytest.raises(Unavailable, match="no service for sunos"):
        service(HOME, "sunos")


def test_without_a_service_program_it_says_what_happens_instead(
    soul: Callable[..., Any], tmp_path: Path, home: Path
) -> None:
    nowhere = {"PATH": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    run = soul("service", "install", **nowhere)
    assert run.returncode == 1
    assert "cannot be run" in run.stderr
    assert "idle_minutes = 0" in run.stderr
    assert not (tmp_path / "systemd/user/soul.service").exists()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="the program here plays systemctl")
def test_install_and_uninstall_write_load_and_remove(soul: Callable[..., Any], tmp_path: Path) -> None:
    play = tmp_path / "systemctl"
    play.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    play.chmod(0o755)
    there = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(tmp_path)}
    unit = tmp_path / "systemd/user/soul.service"
    assert str(unit) in soul("service", "install", **there).stdout
    assert unit.exists()
    assert soul("service", "uninstall", **there).returncode == 0
    assert not unit.exists()
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now soul.service",
        "--user disable --now soul.service",
        "--user daemon-reload",
    ]
    assert "no service" in soul("service", "uninstall", **there).stdout
