"""Lines on a byte stream: one JSON message each, bounded.

Knows where a line ends and what to keep of one that is too long; does not know MCP. Standard library alone, and
`json` and `re` only when needed, since the bridge imports this before it answers the handshake.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers understand it; importing typing would take 5 ms
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message. More than any tool of ours takes or gives, and little enough to hold for many clients."""

_KEPT = 4096


class TooLong:
    """A line over the limit: its first and last bytes, where its id is to be found, and its length."""

    def __init__(self) -> None:
        self.head = b""
        self.tail = b""
        self.length = 0

    def swallow(self, piece: bytes) -> None:
        self.head = (self.head + piece[:_KEPT])[:_KEPT]
        self.tail = (self.tail + piece[-_KEPT:])[-_KEPT:]
        self.length += len(piece)


class Lines:
    """Cuts a byte stream into lines. Memory stays under the limit whatever is fed."""

    def __init__(self, limit: int = LONGEST_MESSAGE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._over: TooLong | None = None

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        """Yields the lines that `data` completes, without their newline; empty lines are dropped."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._take(data[start:end])
            line = self._close()
            if isinstance(line, TooLong) or line.strip():
                yield line
            start = end + 1
        self._take(data[start:])

    def _take(self, piece: bytes) -> None:
        if self._over is None and self._size + len(piece) <= self._limit:
            if piece:
                self._parts.append(piece)
                self._size += len(piece)
            return
        if self._over is None:
            self._over = TooLong()
            self._over.swallow(b"".join(self._parts))
            self._parts, self._size = [], 0
        self._over.swallow(piece)

    def _close(self) -> bytes | TooLong:
        line: bytes | TooLong = b"".join(self._parts) if self._over is None else self._over
        self._parts, self._size, self._over = [], 0, None
        return line


def salvaged_id(line: bytes | TooLong) -> int | str | None:
    """The JSON-RPC id of a message that could not be read, or None; so that its sender still gets an answer.

    Looks where the SDKs write it: in the first bytes (Python) or at the very end (TypeScript). A wrong guess answers
    a request that does not exist, which clients ignore.
    """
    import json
    import re

    head, tail = (line.head, line.tail) if isinstance(line, TooLong) else (line[:_KEPT], line[-_KEPT:])
    if b'"method"' not in head and b'"method"' not in tail:
        return None
    value = rb'"id"\s*:\s*(-?\d{1,18}|"(?:[^"\\]|\\.){0,200}")'
    at_end = re.search(value + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$', tail)
    before_params = re.search(value, head.split(b'"params"')[0])
    found = at_end or before_params
    if found is None:
        return None
    try:
        decoded = json.loads(found.group(1))
    except ValueError:
        return None
    return decoded if isinstance(decoded, int | str) else None


def too_long_text(line: TooLong, limit: int = LONGEST_MESSAGE) -> str:
    """What the sender of an oversized message reads."""
    return (
        f"The message has {line.length:,} bytes; the limit is {limit:,}. "
        "Send less at once: index large texts as a corpus with `soul corpus add`."
    )


def error_line(request_id: int | str | None, code: int, fact: str, remedy: str = "") -> bytes:
    """One JSON-RPC error as a line, newline included."""
    import json

    error = {"code": code, "message": f"{fact} {remedy}".strip()}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode() + b"\n"
