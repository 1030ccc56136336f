"""A stand-in of the Messages API on loopback, which the tests script: what the model says, given what it was sent.

Speaks the streaming form that Claude Code uses. Knows nothing of Soul.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Block = dict[str, Any]
Script = Callable[["Asked"], list[Block]]


@dataclass(frozen=True)
class Asked:
    """One request of the client: its messages and the tools it offers the model."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    system: str

    @property
    def tool_names(self) -> list[str]:
        return [tool["name"] for tool in self.tools if "name" in tool]

    @property
    def results(self) -> list[str]:
        """Texts of all tool results so far, in order."""
        found: list[str] = []
        for message in self.messages:
            if isinstance(message["content"], list):
                found += [_text(block.get("content")) for block in message["content"] if block["type"] == "tool_result"]
        return found


def say(text: str) -> Block:
    return {"type": "text", "text": text}


def use(name: str, /, **arguments: Any) -> Block:
    return {"type": "tool_use", "name": name, "input": arguments}


@dataclass
class MessagesApi:
    """The running stand-in: its address and what it was asked."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def messages_api(script: Script) -> Iterator[MessagesApi]:
    """Serves until the block ends; `script` is called for every request that offers tools."""

    class Replies(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if self.path.split("?")[0].endswith("/count_tokens"):
                self._json({"input_tokens": len(json.dumps(body)) // 4})
                return
            asked = Asked(body.get("messages", []), body.get("tools") or [], _text(body.get("system")))
            # Requests without tools are the client's own housekeeping (titles, topics), not the conversation.
            blocks = script(asked) if asked.tools else [say("Soul")]
            if asked.tools:
                api.asked.append(asked)
            if body.get("stream"):
                self._stream(blocks, body.get("model", "stand-in"))
            else:
                self._json(_message(blocks, body.get("model", "stand-in")))

        def do_GET(self) -> None:
            self._json({"data": []})

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def _json(self, data: Any) -> None:
            raw = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, blocks: list[Block], model: str) -> None:
            raw = b"".join(_events(blocks, model))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Replies)
    server.daemon_threads = True
    api = MessagesApi(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content or [] if block.get("type") == "text")


def _message(blocks: list[Block], model: str) -> dict[str, Any]:
    called = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [
            {**block, "id": f"toolu_{n}"} if block["type"] == "tool_use" else block for n, block in enumerate(blocks)
        ],
        "stop_reason": "tool_use" if called else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }


_calls = iter(range(1, 1_000_000))


def _events(blocks: list[Block], model: str) -> Iterator[bytes]:
    whole = _message([], model)
    yield _event("message_start", {"message": {**whole, "stop_reason": None}})
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            start = {"type": "tool_use", "id": f"toolu_{next(_calls):06d}", "name": block["name"], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield _event("content_block_start", {"index": index, "content_block": start})
        yield _event("content_block_delta", {"index": index, "delta": delta})
        yield _event("content_block_stop", {"index": index})
    reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    yield _event(
        "message_delta", {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 10}}
    )
    yield _event("message_stop", {})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
