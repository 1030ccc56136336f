"""`soul serve` as a client sees it: a session that outlives daemons, and never leaves a request without an answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.claim import holder

BIG = 5_000_000


def test_it_answers_the_handshake_by_starting_a_daemon(serve: Callable[..., Any], home: Path) -> None:
    client = serve()
    assert client.greet()["serverInfo"]["name"] == "soul"
    assert len(client.ask("tools/list")["result"]["tools"]) >= 7
    assert holder(str(home)) not in (None, client.process.pid)


def test_it_answers_a_client_of_the_2026_protocol(serve: Callable[..., Any]) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    client = serve()
    assert "2026-07-28" in client.ask("server/discover", {"_meta": meta})["result"]["supportedVersions"]
    assert client.ask("tools/list", {"_meta": meta})["result"]["tools"]


def test_many_clients_that_start_at_once_share_one_daemon(serve: Callable[..., Any], home: Path) -> None:
    clients = [serve() for _ in range(8)]
    for client in clients:
        client.greet()
    pid = holder(str(home))
    log = (home / "logs" / "daemon.log").read_text().splitlines()
    assert [json.loads(line)["pid"] for line in log if '"daemon starts"' in line] == [pid]


def test_it_imports_nothing_but_the_standard_library_and_little_of_that() -> None:
    program = (
        "import sys; before = set(sys.modules); import server.entry, server.bridge; print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names} == {
        "server",
        "server.entry",
        "server.bridge",
        "server.paths",
        "server.framing",
        "server.starting",
    }
    assert not {"json", "re", "typing", "socket", "subprocess", "argparse", "pathlib", "asyncio"} & set(loaded)


def test_a_server_package_in_the_current_folder_is_not_run(serve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise SystemExit('the wrong server')")
    assert serve(cwd=tmp_path).greet()["serverInfo"]["name"] == "soul"


def test_messages_of_many_megabytes_pass_both_ways(serve: Callable[..., Any], probing: Callable[[], Any]) -> None:
    probing()
    client = serve()
    client.greet()
    assert client.tool("echo", text="x" * BIG) == "x" * BIG
    assert len(client.tool("big", size=BIG)) == BIG


def test_a_message_over_the_limit_is_refused_in_words_and_the_session_goes_on(
    serve: Callable[..., Any], probing: Callable[[], Any]
) -> None:
    probing()
    client = serve()
    client.greet()
    said = client.ask("tools/call", {"name": "echo", "arguments": {"text": "x" * (17 << 20)}})
    assert "limit" in said["error"]["message"]
    assert client.tool("echo", text="still here") == "still here"


def test_malformed_lines_are_answered_and_do_no_harm(serve: Callable[..., Any], probing: Callable[[], Any]) -> None:
    probing()
    client = serve()
    client.greet()
    for line in (b"{", b"[1,2]", b'"text"', b"\xff\xfe", b"\x00\x01", b"{}", b'{"jsonrpc":"2.0","id":9}'):
        client.send(line)
        assert client.hear()["error"]["code"] in (-32700, -32600)
    assert client.tool("echo", text="still here") == "still here"


def test_a_daemon_killed_in_mid_call_gives_one_clear_error_and_the_next_call_a_new_daemon(
    serve: Callable[..., Any], probing: Callable[[], Any], home: Path, until: Callable[..., None]
) -> None:
    daemon = probing()
    client = serve()
    client.greet()
    calls = {client.say("tools/call", {"name": "wait", "arguments": {}}) for _ in range(2)}
    until(lambda: (home / "journal").exists() and len((home / "journal").read_text().splitlines()) == 2)
    daemon.kill()
    daemon.wait()
    answers = [client.hear(), client.hear()]
    assert {one["id"] for one in answers} == calls
    assert all("stopped while it worked" in one["error"]["message"] for one in answers)
    assert "Soul" in client.tool("status")  # the session goes on: the handshake was replayed, its answer swallowed
    assert holder(str(home)) != daemon.pid


def test_an_idle_session_survives_the_death_of_its_daemon_without_a_word(
    serve: Callable[..., Any], soul: Callable[..., Any], home: Path
) -> None:
    client = serve()
    client.greet()
    first = holder(str(home))
    assert soul("stop").returncode == 0
    client.say("notifications/roots/list_changed", request=False)
    assert "Soul" in client.tool("status")
    assert holder(str(home)) != first


def test_closing_stdin_ends_it_at_once_and_the_daemon_stays(serve: Callable[..., Any], home: Path) -> None:
    client = serve()
    client.greet()
    assert client.leave() == 0
    again = serve()
    again.greet()
    assert "process" not in again.process.args
    log = (home / "logs" / "daemon.log").read_text()
    assert log.count('"daemon starts"') == 1


def test_signals_end_it(serve: Callable[..., Any]) -> None:
    # A shell's background job ignores the interrupt, and so would everything that these tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGINT, signal.SIGTERM):
        client = serve()
        client.greet()
        os.kill(client.process.pid, number)
        assert client.process.wait(30) in (0, -number)


def test_a_client_that_vanishes_in_mid_call_cancels_its_call(
    serve: Callable[..., Any], probing: Callable[[], Any], home: Path, until: Callable[..., None]
) -> None:
    probing()
    client = serve()
    client.greet()
    client.say("tools/call", {"name": "wait", "arguments": {}})
    until(lambda: (home / "journal").exists())
    client.process.kill()
    until(lambda: (home / "journal").read_text() == "began\nended\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says that something was left unread")
def test_a_request_that_a_dying_daemon_never_read_is_answered_by_the_next_one(
    serve: Callable[..., Any], probing: Callable[[], Any], until: Callable[..., None]
) -> None:
    daemon = probing()
    client = serve()
    client.greet()
    assert client.tool("echo", text="alive") == "alive"
    daemon.send_signal(signal.SIGSTOP)
    until(lambda: Path(f"/proc/{daemon.pid}/stat").read_text().split()[2] == "T")
    asked = client.say("tools/call", {"name": "status", "arguments": {}})
    daemon.kill()
    daemon.wait()
    said = client.hear()
    assert said["id"] == asked
    assert "Soul" in said["result"]["content"][0]["text"]


def test_a_daemon_that_is_stopped_in_mid_call_gives_the_same_clear_error(
    serve: Callable[..., Any], probing: Callable[[], Any], home: Path, soul: Callable[..., Any], until: Any
) -> None:
    probing()
    client = serve()
    client.greet()
    client.say("tools/call", {"name": "wait", "arguments": {}})
    until(lambda: (home / "journal").exists())
    assert soul("stop").returncode == 0
    assert "stopped while it worked" in client.hear()["error"]["message"]
    assert "Soul" in client.tool("status")


def test_a_cancelled_call_is_not_answered_when_the_daemon_dies(
    serve: Callable[..., Any], probing: Callable[[], Any], home: Path, until: Callable[..., None]
) -> None:
    daemon = probing()
    client = serve()
    client.greet()
    call = client.say("tools/call", {"name": "wait", "arguments": {}})
    until(lambda: (home / "journal").exists())
    client.say("notifications/cancelled", {"requestId": call}, request=False)
    until(lambda: (home / "journal").read_text() == "began\nended\n")
    daemon.kill()
    daemon.wait()
    assert "Soul" in client.tool("status")


def test_limits_of_one_client_do_not_touch_another(serve: Callable[..., Any], probing: Callable[[], Any]) -> None:
    probing()
    limited, free = serve("--read-only", "--toolsets", "memory,self"), serve()
    limited.greet()
    free.greet()
    assert limited.tool("limits") == "read_only=True toolsets=memory,self"
    assert free.tool("limits") == "read_only=False toolsets="


def test_limits_can_come_from_the_environment_of_the_client(
    serve: Callable[..., Any], probing: Callable[[], Any]
) -> None:
    probing()
    client = serve(SOUL_READ_ONLY="1", SOUL_TOOLSETS="memory")
    client.greet()
    assert client.tool("limits") == "read_only=True toolsets=memory"


def test_a_home_that_cannot_be_made_is_said_in_the_answer(serve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = serve(at=tmp_path / "file" / "home")
    said = client.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}})
    assert "cannot be used: not a directory" in said["error"]["message"]
    assert "--home" in said["error"]["message"]


def test_a_daemon_that_cannot_start_says_why_in_the_answer(serve: Callable[..., Any], home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("idle_minuts = 3\n")
    client = serve()
    said = client.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}})
    assert "unknown key `idle_minuts`" in said["error"]["message"]
    assert "Did you mean `idle_minutes`?" in said["error"]["message"]
    (home / "config.toml").unlink()
    assert client.greet()["serverInfo"]["name"] == "soul"


def test_a_toolset_that_does_not_exist_is_said_in_the_answer(serve: Callable[..., Any]) -> None:
    client = serve("--toolsets", "nonsense")
    said = client.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}})
    assert "nonsense" in said["error"]["message"]


def test_long_and_unicode_homes_work(serve: Callable[..., Any], home: Path) -> None:
    for name in ("ein Zuhause für “Seelen” 灵魂", "x" * 120):
        at = home / name
        client = serve(at=at)
        assert client.greet()["serverInfo"]["name"] == "soul"
        assert holder(str(at)) is not None
        assert stopped(at).returncode == 0


def stopped(at: Path) -> subprocess.CompletedProcess[bytes]:
    soul = Path(sys.executable).parent / "soul"
    return subprocess.run([soul, "stop", "--home", at], capture_output=True, timeout=60)


def test_a_thousand_calls_of_eight_clients_are_each_answered_with_their_own(
    serve: Callable[..., Any], probing: Callable[[], Any]
) -> None:
    probing()
    clients = [serve() for _ in range(8)]
    for client in clients:
        client.greet()
    waiting: list[dict[int, str]] = [{} for _ in clients]
    for turn in range(125):
        for number, client in enumerate(clients):
            text = f"client {number} call {turn}"
            waiting[number][client.say("tools/call", {"name": "echo", "arguments": {"text": text}})] = text
    for number, client in enumerate(clients):
        while waiting[number]:
            said = client.hear()
            assert said["result"]["content"][0]["text"] == waiting[number].pop(said["id"])
