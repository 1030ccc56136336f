"""The daemon over HTTP: both transports and the status page, for those who may."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client.client import Client
from mcp.client.sse import sse_client

from engine.errors import Conflict, Forbidden, InvalidInput
from server.calling import call
from server.exposure import check_exposure, is_loopback, listen
from server.settings import Settings

TOKEN = "a-token-of-the-test"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
HEADERS = {"accept": "application/json, text/event-stream"}


@pytest.fixture
def http(home: Path, until: Callable[..., None]) -> Iterator[Callable[..., str]]:
    """Starts `soul serve --http` on a free port; the address of its root."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **environment: str) -> str:
        soul = Path(sys.executable).parent / "soul"
        parts = {"SOUL_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "SOUL_MODEL": "/nowhere"}
        process = subprocess.Popen(
            [soul, "serve", "--http", "--port", "0", *arguments],
            env={**os.environ, **parts, "SOUL_HOME": str(home), **environment},
            stderr=subprocess.DEVNULL,
        )
        running.append(process)
        until(lambda: url() is not None)
        return str(url()).removesuffix("/mcp")

    def url() -> Any:
        try:
            return call(str(home), "status", start=False)["http"]
        except Exception:
            return None

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.anyio
async def test_both_transports_serve_the_same_house_as_the_socket(http: Callable[..., str], serve: Any) -> None:
    root = http()
    async with Client(f"{root}/mcp") as streaming, Client(sse_client(f"{root}/sse"), mode="legacy") as events:
        bridge = serve()
        bridge.greet()
        names = {tool.name for tool in (await streaming.list_tools()).tools}
        assert names == {tool.name for tool in (await events.list_tools()).tools}
        assert names == {tool["name"] for tool in bridge.ask("tools/list")["result"]["tools"]}
        assert "Soul" in bridge.tool("status")


def test_the_page_shows_the_house_and_loads_nothing_from_elsewhere(http: Callable[..., str]) -> None:
    page = httpx.get(http() + "/")
    assert page.status_code == 200
    assert "memory:" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text


def test_with_a_token_only_its_bearer_is_served(http: Callable[..., str]) -> None:
    root = http(SOUL_HTTP_TOKEN=TOKEN)
    with httpx.Client() as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": ""},
        ):
            for path in ("/mcp", "/sse", "/messages/", "/", "/nowhere"):
                refused = client.get(root + path, headers=headers)
                assert refused.status_code == 401, path
                assert "www-authenticate" in refused.headers
        allowed = {**HEADERS, "authorization": f"Bearer {TOKEN}"}
        assert client.post(root + "/mcp", json=INITIALIZE, headers=allowed).status_code == 200
        assert client.get(root + "/", auth=("anybody", TOKEN)).status_code == 200


@pytest.mark.parametrize(("header", "status"), [("host", 421), ("origin", 403)])
def test_a_page_on_the_web_cannot_reach_it(http: Callable[..., str], header: str, status: int) -> None:
    root = http()
    foreign = {header: "http://evil.example:80" if header == "origin" else "evil.example:80"}
    assert httpx.post(root + "/mcp", json=INITIALIZE, headers={**HEADERS, **foreign}).status_code == status
    assert httpx.get(root + "/", headers=foreign).status_code == status
    assert httpx.post(root + "/mcp", json=INITIALIZE, headers=HEADERS).status_code == 200


def test_a_body_over_the_limit_is_refused(http: Callable[..., str]) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"x" * (17 << 20) + b'"}}'
    root = http()
    refused = httpx.post(root + "/mcp", content=body, headers={**HEADERS, "content-type": "application/json"})
    assert refused.status_code == 413


def test_beyond_loopback_it_wants_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(Forbidden, match="SOUL_HTTP_TOKEN"):
            check_exposure(Settings(Path("/home"), http_host=host))
        check_exposure(Settings(Path("/home"), http_host=host, http_token=TOKEN))
    for host in ("127.0.0.1", "127.0.0.7", "::1", "localhost"):
        check_exposure(Settings(Path("/home"), http_host=host))


def test_without_the_token_it_does_not_even_start(soul: Callable[..., Any], home: Path) -> None:
    run = soul("serve", "--http", "--host", "0.0.0.0")
    assert run.returncode == 1
    assert "beyond loopback" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_taken_port_and_an_unknown_address_are_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port} of 127.0.0.1 cannot be used"):
            listen(Settings(Path("/home"), http_port=port))
    with pytest.raises(InvalidInput, match="is unknown"):
        listen(Settings(Path("/home"), http_host="nowhere.invalid", http_token=TOKEN))
