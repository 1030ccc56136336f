"""A hub on the loopback: the few answers of the public one that a download needs, with accidents on request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "5eed" * 10
LARGE = 1_000_000
"""From this size on a file is told with a sha256, as the hub does for what lies in its large file storage."""


@dataclass
class LoopbackHub:
    """What the hub holds, what befalls it, and what it was asked."""

    repositories: dict[str, Path] = field(default_factory=lambda: dict[str, Path]())
    gated: set[str] = field(default_factory=lambda: set[str]())
    breaks: list[int] = field(default_factory=lambda: list[int]())
    """The next downloads of large files end after so many bytes of theirs."""
    damages: int = 0
    """So many downloads of large files come with a wrong byte."""
    down: bool = False
    endpoint: str = ""
    ranges: list[tuple[str, int]] = field(default_factory=lambda: list[tuple[str, int]]())
    """(file, first byte) of each download."""


@contextmanager
def serve(hub: LoopbackHub) -> Generator[LoopbackHub, None, None]:
    """Runs the hub for as long as the block lasts."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if hub.down:
                self._error(503, "", "down for maintenance")
            elif listed := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
                self._list(listed[1])
            elif wanted := re.fullmatch(rf"/([^/]+/[^/]+)/resolve/{COMMIT}/(.+)", path):
                self._send(hub.repositories[wanted[1]] / wanted[2])
            else:
                self._error(404, "", f"no {path} here")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: a test's output is for failures."""

        def _list(self, name: str) -> None:
            if name in hub.gated:
                self._error(403, "GatedRepo", f"Access to model {name} is restricted.")
            elif name not in hub.repositories:
                self._error(401, "RepoNotFound", "Repository not found")
            else:
                files = [_entry(path) for path in sorted(hub.repositories[name].iterdir())]
                answer = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "private": False, "tags": []}
                self._bytes(json.dumps(answer).encode(), "application/json")

        def _send(self, path: Path) -> None:
            data = path.read_bytes()
            first = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])  # type: ignore[index]
            hub.ranges.append((path.name, first))
            body = data[first:]
            large = len(data) >= LARGE
            if large and hub.damages:
                hub.damages -= 1
                body = bytes([body[0] ^ 1]) + body[1:]
            sent = body[: hub.breaks.pop(0)] if large and hub.breaks else body
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body)))
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(sent)
            if len(sent) < len(body):
                self.close_connection = True

        def _error(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _bytes(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"rfilename": path.name, "size": len(data), "blobId": blob}
    if len(data) >= LARGE:
        entry["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
    return entry
