"""The daemon: one per home, on a private socket, leaving when it should, unmoved by what others do to its socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Conflict, Forbidden, NotFound, Unavailable
from server import paths
from server.calling import call
from server.claim import Claim, held, holder


def connected(home: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(30)
    end.connect(paths.socket_path(str(home)))
    return end


def heard(end: socket.socket) -> bytes:
    said = b""
    while not said.endswith(b"\n"):
        data = end.recv(1 << 16)
        if not data:
            break
        said += data
    return said


def test_the_socket_and_its_folder_are_the_persons_alone(probing: Callable[[], Any], home: Path) -> None:
    probing()
    assert stat.S_IMODE(Path(paths.socket_path(str(home))).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_second_daemon_says_that_there_is_one_and_leaves(
    probing: Callable[[], Any], home: Path, soul: Callable[..., Any]
) -> None:
    first = probing()
    second = soul("daemon")
    assert second.returncode == 75
    assert f"already runs (process {first.pid})" in second.stderr
    assert "soul stop" in second.stderr
    for how in ("--http", "--in-process"):
        refused = soul("serve", how)
        assert refused.returncode == 1
        assert "already runs" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_socket_that_a_dead_daemon_left_behind_is_replaced(
    probing: Callable[[], Any], home: Path, serve: Callable[..., Any]
) -> None:
    first = probing()
    first.kill()
    first.wait()
    assert Path(paths.socket_path(str(home))).is_socket()
    assert not held(str(home))
    assert serve().greet()["serverInfo"]["name"] == "soul"


def test_a_claim_waits_for_one_that_is_leaving(home: Path) -> None:
    first = Claim.take(str(home))
    try:
        with pytest.raises(Conflict, match="already runs"):
            Claim.take(str(home))
    finally:
        first.release()
    second = Claim.take(str(home))
    assert held(str(home))
    assert holder(str(home)) == os.getpid()
    second.release()
    assert not held(str(home))
    assert not Path(paths.socket_path(str(home))).exists()


def test_a_socket_folder_that_others_can_write_is_refused(home: Path) -> None:
    long = home / ("x" * 120)
    folder = Path(paths.socket_path(str(long))).parent
    folder.mkdir(mode=0o700)
    try:
        folder.chmod(0o777)
        with pytest.raises(Forbidden, match="not a private folder"):
            Claim.take(str(long))
    finally:
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_refused(home: Path) -> None:
    home.mkdir()
    home.chmod(0o500)
    with pytest.raises(Forbidden, match="cannot be used"):
        Claim.take(str(home))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n\n\n",
        b"half a line",
        b"\xff\xfe\n",
        b"{}\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"soul":1}\n',
        b"x" * 100_000,
    ],
)
def test_garbage_on_the_socket_harms_nobody(probing: Callable[[], Any], home: Path, garbage: bytes, serve: Any) -> None:
    probing()
    client = serve()
    client.greet()
    with connected(home) as end:
        end.sendall(garbage)
    assert client.tool("echo", text="still here") == "still here"


def test_more_connections_than_it_can_open_do_not_end_it(
    probing: Callable[..., Any], home: Path, serve: Any, until: Callable[..., None]
) -> None:
    probing(files=64)
    client = serve()
    client.greet()
    crowd = [connected(home) for _ in range(100)]
    until(lambda: "could not be accepted" in (home / "logs" / "daemon.log").read_text())
    assert client.tool("echo", text="still here") == "still here"
    for one in crowd:
        one.close()
    late = serve()
    assert late.greet()["serverInfo"]["name"] == "probing"


def test_a_client_without_a_hello_is_served_all_the_same(probing: Callable[[], Any], home: Path) -> None:
    probing()
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "plain", "version": "1"}}
    with connected(home) as end:
        end.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode() + b"\n")
        assert json.loads(heard(end))["result"]["serverInfo"]["name"] == "probing"


def test_a_client_of_another_version_is_told_what_to_do(probing: Callable[[], Any], home: Path) -> None:
    probing()
    with connected(home) as end:
        end.sendall(b'{"soul":1,"version":"0.0.1"}\n{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n')
        said = json.loads(heard(end))["error"]["message"]
    assert "this client is version 0.0.1" in said
    assert "soul stop" in said


def test_status_names_the_clients_and_the_parts(probing: Callable[[], Any], home: Path, serve: Any) -> None:
    daemon = probing()
    client = serve()
    client.greet("some editor")
    found = call(str(home), "status", start=False)
    assert found["pid"] == daemon.pid
    assert [one["name"] for one in found["clients"]] == ["some editor 1"]
    assert found["clients"][0]["pid"] == client.process.pid
    assert set(found["parts"]) == {"memory", "model", "Director"}


def test_an_unknown_command_is_refused_with_those_there_are(probing: Callable[[], Any], home: Path) -> None:
    probing()
    with pytest.raises(NotFound, match=r"no command `dance`.*corpus\.add.*stop"):
        call(str(home), "dance", start=False)


def test_an_order_without_a_daemon_says_so(home: Path) -> None:
    with pytest.raises(Unavailable, match="No daemon runs"):
        call(str(home), "status", start=False)


def test_stop_and_signals_end_it_cleanly(probing: Callable[[], Any], home: Path, soul: Callable[..., Any]) -> None:
    for end in (
        lambda process: soul("stop"),
        lambda process: process.send_signal(signal.SIGTERM),
        lambda process: process.send_signal(signal.SIGINT),
    ):
        process = probing()
        call(str(home), "status", start=False)  # it listens before it takes signals
        end(process)
        assert process.wait(60) == 0
        assert not held(str(home))
        assert not Path(paths.socket_path(str(home))).exists()


def test_it_leaves_when_nobody_needs_it(serve: Any, home: Path, until: Callable[..., None]) -> None:
    client = serve(SOUL_IDLE_MINUTES="0.01")
    client.greet()
    first = holder(str(home))
    assert "Soul" in client.tool("status")
    client.leave()
    until(lambda: not held(str(home)))
    assert serve().greet()["serverInfo"]["name"] == "soul"
    assert holder(str(home)) != first


def test_the_handshake_does_not_wait_for_the_parts(serve: Any, home: Path) -> None:
    client = serve()
    client.greet()
    log = [json.loads(line) for line in (home / "logs" / "daemon.log").read_text().splitlines()]
    assert not [line for line in log if line["event"] in ("part is ready", "part failed")]


def test_in_process_serves_its_client_and_others_and_leaves_with_it(home: Path, serve: Any) -> None:
    client = serve("--in-process")
    assert client.greet()["serverInfo"]["name"] == "soul"
    assert holder(str(home)) == client.process.pid
    other = serve()
    other.greet()
    assert "Soul" in other.tool("status")
    assert "Soul" in client.tool("status")
    assert client.leave() == 0
    assert not held(str(home))
    assert "Soul" in other.tool("status")


def test_what_the_daemon_prints_never_reaches_the_wire(serve: Any, home: Path) -> None:
    client = serve()
    client.greet()
    assert client.tool("status").startswith("Soul")
    assert (home / "logs" / "daemon.err").read_bytes() == b""


def test_two_daemons_that_start_at_once_end_as_one(home: Path, until: Callable[..., None]) -> None:
    home.mkdir()
    environment = {**os.environ, "SOUL_HOME": str(home), "SOUL_MODEL": "/nowhere"}
    command = [Path(sys.executable).parent / "soul", "daemon"]
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)]
    until(lambda: any(one.poll() is not None for one in both))
    (loser,) = [one for one in both if one.poll() is not None]
    (winner,) = [one for one in both if one is not loser]
    assert loser.returncode == 75
    assert holder(str(home)) == winner.pid
    call(str(home), "stop", start=False)
    assert winner.wait(60) == 0
