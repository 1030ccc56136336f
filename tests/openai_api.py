"""A stand-in of an OpenAI-compatible chat server on loopback: what it answers, or how it fails, is the test's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What one request gets: `raw` stands for the whole body where it is given; `hang` never answers."""

    text: str = ""
    status: int = 200
    finish: str = "stop"
    raw: str = ""
    hang: bool = False


@dataclass
class ChatApi:
    """The running stand-in: its base URL, what it was asked, and the keys that came with it."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@contextmanager
def chat_api(reply: Callable[[str], Reply]) -> Iterator[ChatApi]:
    """Serves until the block ends; `reply` gets the last message's words."""
    leaving = threading.Event()

    class Replies(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            api.asked.append(body)
            api.keys.append(self.headers.get("authorization", "").removeprefix("Bearer "))
            one = reply(body["messages"][-1]["content"])
            if one.hang:
                leaving.wait(60)
                return
            message = {"role": "assistant", "content": one.text}
            found = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": one.finish, "message": message}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            }
            if one.status != 200:
                found = {"error": {"message": one.text, "type": "error"}}
            raw = (one.raw or json.dumps(found)).encode()
            self.send_response(one.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Replies)
    server.daemon_threads = True
    api = ChatApi(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()
