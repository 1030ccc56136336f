"""Lines over an anyio byte stream, both ways, and the hello that opens every connection to the daemon.

Knows framing and the hello's fields; does not know MCP.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import ByteStream

from server.framing import Lines, TooLong

CHUNK = 1 << 18


class Wire:
    """One connection as lines. `send` may be called from several tasks."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._lines = Lines()
        self._waiting: deque[bytes | TooLong] = deque()
        self._sending = anyio.Lock()

    async def receive(self) -> bytes | TooLong | None:
        """The next line without its newline; None when the other side is gone."""
        while not self._waiting:
            try:
                data = await self._stream.receive(CHUNK)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return None
            self._waiting.extend(self._lines.feed(data))
        return self._waiting.popleft()

    def put_back(self, line: bytes | TooLong) -> None:
        """Makes `line` the next one to be received."""
        self._waiting.appendleft(line)

    async def send(self, line: bytes) -> None:
        """Sends one line, newline included.

        Raises:
            anyio.BrokenResourceError: the other side is gone.
        """
        async with self._sending:
            await self._stream.send(line)

    async def send_json(self, message: dict[str, Any]) -> None:
        await self.send(json.dumps(message, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")


@dataclass(frozen=True)
class Hello:
    """What a connection says before its first message. `control` names a command to the daemon instead of MCP."""

    version: str = ""
    pid: int | None = None
    read_only: bool = False
    toolsets: frozenset[str] = frozenset()
    depth: int = 0
    """0 for a person's own client, 1 for a client that a Soul's Hands started, and so on."""
    control: str = ""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


def hello(line: bytes) -> Hello | None:
    """The hello that a line holds, or None when it is something else: a client that speaks MCP at once."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("soul") != 1:
        return None
    pid, arguments, toolsets = said.get("pid"), said.get("arguments"), said.get("toolsets")
    depth = said.get("depth")
    return Hello(
        version=str(said.get("version", "")),
        pid=pid if isinstance(pid, int) else None,
        read_only=said.get("read_only") is True,
        toolsets=frozenset(str(one) for one in toolsets) if isinstance(toolsets, list) else frozenset(),
        depth=depth if isinstance(depth, int) else 0,
        control=str(said.get("control", "")),
        arguments=arguments if isinstance(arguments, dict) else {},
    )
