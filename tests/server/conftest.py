"""A home of its own for each test, `soul serve` as a client sees it, and daemons that are gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import paths
from server.calling import call
from server.claim import held, holder
from server.starting import connect

SOUL = str(Path(sys.executable).parent / "soul")
PROBING = str(Path(__file__).parent / "probing.py")
PATIENCE_S = 60.0

NO_PARTS = {"SOUL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "SOUL_MODEL": "/nowhere", "SOUL_DOWNLOAD": "0"}
"""Neither database nor model: what the bridge and the daemon promise holds without them."""


class Serve:
    """One `soul serve`, spoken to line by line."""

    def __init__(self, home: Path, *arguments: str, environment: dict[str, str], cwd: Path | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUL_")}
        self.process = subprocess.Popen(
            [SOUL, "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean, "SOUL_HOME": str(home), **environment},
            cwd=cwd,
        )
        self._held = b""
        self._ids = 0

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def say(self, method: str, params: dict[str, Any] | None = None, *, request: bool = True) -> int:
        """Sends a request, or a notification; the request's id."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        if request:
            self._ids += 1
            message["id"] = self._ids
        self.send(json.dumps(message).encode())
        return self._ids

    def hear(self) -> dict[str, Any]:
        """The next message."""
        assert self.process.stdout is not None
        output = self.process.stdout.fileno()
        while b"\n" not in self._held:
            if not select.select([output], [], [], PATIENCE_S)[0]:
                raise TimeoutError("soul serve says nothing")
            data = os.read(output, 1 << 20)
            if not data:
                raise EOFError(f"soul serve left: {self.process.wait()}")
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return json.loads(line)

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request and its answer; notifications in between are passed over."""
        asked = self.say(method, params)
        while (said := self.hear()).get("id") != asked:
            assert "id" not in said, f"an answer to something else: {said}"
        return said

    def greet(self, name: str = "test") -> dict[str, Any]:
        """The handshake of 2025; the answer's result."""
        client = {"name": name, "version": "1"}
        said = self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self.say("notifications/initialized", request=False)
        return said["result"]

    def tool(self, name: str, /, **arguments: Any) -> str:
        """A tool call; its text."""
        said = self.ask("tools/call", {"name": name, "arguments": arguments})
        return said["result"]["content"][0]["text"]

    def leave(self) -> int:
        """Closes stdin, as a client that goes; the exit status."""
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return status


@pytest.fixture
def home() -> Iterator[Path]:
    """A SOUL_HOME that does not exist yet; its daemon is stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="soul-"))
    yield folder / "home"
    end_daemon(folder / "home")
    shutil.rmtree(folder)


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Serve]]:
    """Starts `soul serve` for the test's home, any number of times."""
    running: list[Serve] = []

    def start(*arguments: str, at: Path = home, cwd: Path | None = None, **environment: str) -> Serve:
        running.append(Serve(at, *arguments, environment={**NO_PARTS, **environment}, cwd=cwd))
        return running[-1]

    yield start
    for one in running:
        one.leave()


@pytest.fixture
def probing(home: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a daemon with the tools of probing.py on the test's home, and waits until it listens."""
    running: list[subprocess.Popen[bytes]] = []

    def start(files: int | None = None) -> subprocess.Popen[bytes]:
        limit = [] if files is None else [f"{files}"]
        process = subprocess.Popen([sys.executable, PROBING, str(home), *limit], env={**os.environ, **NO_PARTS})
        running.append(process)
        wait_for(lambda: listening(home))
        return process

    yield start
    for one in running:
        end_daemon(home)
        if one.poll() is None:
            one.wait(PATIENCE_S)


@pytest.fixture
def soul(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one `soul` command on the test's home."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUL_")}
        return subprocess.run(
            [SOUL, *arguments],
            env={**clean, "SOUL_HOME": str(home), **NO_PARTS, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 2,
            stdin=subprocess.DEVNULL,
        )

    return run


def listening(home: Path) -> bool:
    end = connect(str(home)) if home.exists() else None
    if end is not None:
        end.close()
    return end is not None


def wait_for(true: Callable[[], bool]) -> None:
    """Waits for something outside this process, of which no event tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    return wait_for


def end_daemon(home: Path) -> None:
    """Stops the daemon of a home, by force where it does not go by itself."""
    real = paths.home_folder(str(home))
    if not held(real):
        return
    with contextlib.suppress(Exception):
        call(real, "stop", start=False)
    deadline = time.monotonic() + 20
    while held(real):
        pid = holder(real)
        if time.monotonic() > deadline and pid is not None:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
