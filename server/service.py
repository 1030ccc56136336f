"""`soul service`: lets the system start the daemon at login and keep it, as a launchd agent or a systemd user unit.

Knows the two file formats and the commands that load them; what runs is `soul daemon` with no idle exit.
"""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Conflict, Unavailable
from server import paths
from server.claim import held, holder

LABEL = "org.soul-mcp.daemon"
COMMAND_PATIENCE_S = 60


@dataclass(frozen=True)
class Service:
    """One home's service file, and the commands of the system's service program."""

    path: Path
    content: bytes
    load: tuple[tuple[str, ...], ...]
    unload: tuple[tuple[str, ...], ...]


def service(home: str, platform: str = sys.platform) -> Service:
    """The service of a home on this kind of system.

    Raises:
        Unavailable: there is neither launchd nor systemd here.
    """
    if platform == "darwin":
        path = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        domain = f"gui/{os.getuid()}"
        return Service(
            path,
            launchd_plist(home),
            load=(("launchctl", "bootstrap", domain, str(path)),),
            unload=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
        )
    if platform == "linux":
        folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        name = "soul.service"
        systemctl = ("systemctl", "--user")
        return Service(
            folder / "systemd" / "user" / name,
            systemd_unit(home),
            load=((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", name)),
            unload=((*systemctl, "disable", "--now", name), (*systemctl, "daemon-reload")),
        )
    raise Unavailable(f"There is no service for {platform} yet.", "The daemon starts by itself with the first client.")


def launchd_plist(home: str) -> bytes:
    """The launchd agent: kept alive unless it left by itself, with the environment that the daemon reads."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": [paths.script(), "daemon"],
            "EnvironmentVariables": {"SOUL_HOME": home, "SOUL_IDLE_MINUTES": "0"},
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "WorkingDirectory": home,
            "StandardOutPath": paths.startup_output_path(home),
            "StandardErrorPath": paths.startup_output_path(home),
            "ProcessType": "Interactive",
        }
    )


def systemd_unit(home: str) -> bytes:
    """The systemd user unit: restarted unless it left by itself."""
    return f"""[Unit]
Description=Soul, one local mind behind MCP

[Service]
ExecStart={_quoted(paths.script())} daemon
Environment={_quoted(f"SOUL_HOME={home}")} SOUL_IDLE_MINUTES=0
Restart=on-failure
RestartSec=2
TimeoutStopSec=40
# Postgres is stopped by the daemon itself, in order.
KillMode=mixed

[Install]
WantedBy=default.target
""".encode()


def _quoted(text: str) -> str:
    """One word of a systemd unit; `%` would be replaced otherwise (`$` is not, in these places)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def install(home: str) -> Path:
    """Writes the service file and starts the service; the file's path.

    Raises:
        Conflict: a daemon runs that the service could not replace.
        Unavailable: the system's service program says no.
    """
    ours = service(home)
    if held(home):
        raise Conflict(f"A daemon of this home already runs (process {holder(home)}).", "Run `soul stop` first.")
    paths.prepare(home)
    ours.path.parent.mkdir(parents=True, exist_ok=True)
    ours.path.write_bytes(ours.content)
    try:
        for command in ours.load:
            _run(command)
    except Unavailable:
        ours.path.unlink()
        raise
    return ours.path


def uninstall(home: str) -> Path | None:
    """Stops the service and removes its file; the file's path, or None where there was none."""
    ours = service(home)
    if not ours.path.exists():
        return None
    for command in ours.unload[:1]:
        _run(command)
    ours.path.unlink()
    for command in ours.unload[1:]:
        _run(command)
    return ours.path


def _run(command: tuple[str, ...]) -> None:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(
            f"`{' '.join(command)}` cannot be run: {error}.",
            "Without it the daemon starts by itself with the first client; `idle_minutes = 0` keeps it.",
        ) from error
    if run.returncode != 0:
        raise Unavailable(f"`{' '.join(command)}` failed: {run.stderr.strip() or run.returncode}.", "See its manual.")
