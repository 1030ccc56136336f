"""`soul serve`: pumps lines between a client's stdio and the daemon's socket.

Knows JSON-RPC just enough to say what became of each request when the daemon dies, and to open the same session again
with the next one. Does not know MCP's tools. Standard library alone; `json` is imported while the daemon already works
on the first message.
"""

from __future__ import annotations

import os
import select

from server import VERSION, paths
from server.framing import LONGEST_MESSAGE, Lines, TooLong, error_line, salvaged_id, too_long_text
from server.starting import STEP_S, Start

TYPE_CHECKING = False  # as type checkers understand it; importing typing would take 5 ms
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

STDIN, STDOUT = 0, 1
CHUNK = 1 << 18
FULL = 1 << 20
"""Bytes waiting in one direction above which its source is no longer read: back-pressure."""

DAEMON_GONE = -32001
"""JSON-RPC code of an answer that the bridge gives because the daemon cannot."""

MOST_REPEATS = 7
"""With a rest that doubles each time this is a good second: longer than a killed process takes to be gone."""

_REPEATABLE = ("initialize", "server/discover")
"""Requests that change nothing, so that the bridge may send them again when a daemon was just leaving."""


def run(home: str | None, read_only: bool, toolsets: str) -> int:
    """Serves one client until it closes stdin or the process is told to leave; the exit status."""
    if os.isatty(STDIN) and os.isatty(STDOUT):
        os.write(2, b"soul serve speaks MCP with a client; `soul mcp-json` says how to connect one. Ctrl-D leaves.\n")
    depth = os.environ.get("SOUL_DEPTH", "")
    names = ",".join(f'"{name}"' for name in toolsets.split(",") if name)
    hello = (
        f'{{"soul":1,"version":"{VERSION}","pid":{os.getpid()},'
        f'"read_only":{"true" if read_only else "false"},"toolsets":[{names}],'
        f'"depth":{depth if depth.isascii() and depth.isdigit() else 0}}}\n'
    )
    try:  # noqa: SIM105 - contextlib would be one more import
        Bridge(paths.home_folder(home), hello.encode()).pump()
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the client is gone, or wants us gone
    return 0


class Bridge:
    """One client's session, over as many daemons as it outlives."""

    def __init__(self, home: str, hello: bytes) -> None:
        self._home = home
        self._hello = hello
        self._from_client = Lines()
        self._from_daemon = Lines(limit=1 << 40)
        self._to_client = bytearray()
        self._to_daemon = bytearray(hello)
        self._daemon: _socket.socket | None = None
        self._start: Start | None = Start(home)
        self._started: Start | None = None
        """How the present daemon was found, kept for what it says when it leaves with an error."""
        self._pending: dict[int | str, bytes] = {}
        """Requests of the client that wait for their answer: id to the line where it may be sent again, else empty."""
        self._asked: set[int | str] = set()
        """Ids of requests that the daemon put to the client."""
        self._stale: set[int | str] = set()
        """Ids of such requests whose daemon died; the client's late answers go nowhere."""
        self._initialize: bytes | None = None
        self._initialized: bytes | None = None
        self._swallow: int | str | None = None
        """Id of a replayed `initialize` whose answer the client already has."""
        self._repeats = 0
        """How often in a row what was pending was sent again."""
        self._last: bytes | None = None
        """The last line for the daemon, when it was a request."""

    def pump(self) -> None:
        """Moves bytes until the client closes stdin."""
        while True:
            self._step_start()
            readable, writable = self._ready()
            if STDOUT in writable:
                del self._to_client[: os.write(STDOUT, self._to_client[: select.PIPE_BUF])]
            if self._daemon is not None and self._daemon.fileno() in writable:
                self._write_daemon()
            if self._daemon is not None and self._daemon.fileno() in readable:
                self._read_daemon()
            if STDIN in readable:
                data = os.read(STDIN, CHUNK)
                if not data:
                    return
                for line in self._from_client.feed(data):
                    self._client_said(line)

    def _ready(self) -> tuple[list[int], list[int]]:
        reads = [STDIN] if len(self._to_daemon) < FULL else []
        writes = [STDOUT] if self._to_client else []
        if self._daemon is not None:
            if len(self._to_client) < FULL:
                reads.append(self._daemon.fileno())
            if self._to_daemon:
                writes.append(self._daemon.fileno())
        readable, writable, _ = select.select(reads, writes, [], STEP_S if self._start is not None else None)
        return readable, writable

    # The daemon: found, lost, found again.

    def _step_start(self) -> None:
        if self._start is None:
            return
        try:
            self._daemon = self._start.step()
        except Exception as error:
            self._start = None
            self._answer_pending(*_words(error))
            return
        if self._daemon is not None:
            self._started, self._start = self._start, None
            self._daemon.setblocking(False)
            self._write_daemon()

    def _write_daemon(self) -> None:
        assert self._daemon is not None
        try:
            while self._to_daemon:
                del self._to_daemon[: self._daemon.send(self._to_daemon[:CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            return  # it is gone; reading finds out, after what it still said

    def _read_daemon(self) -> None:
        assert self._daemon is not None
        unread = False
        try:
            data = self._daemon.recv(CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            # How Linux says that the daemon died with something of ours unread.
            data, unread = b"", True
        except OSError:
            data = b""
        if not data:
            self._lost(unread)
        for line in self._from_daemon.feed(data):
            assert isinstance(line, bytes)
            self._daemon_said(line)

    def _lost(self, unread: bool) -> None:
        """The daemon closed the connection: answer for it, or go on with another one.

        Args:
            unread: Whether it left the end of what it was sent unread.
        """
        assert self._daemon is not None
        if (unread or self._to_daemon) and len(self._pending) == 1 and self._last is not None:
            # One request waits and nothing came after it: what was not read, or not even sent, is (part of) it.
            self._pending = dict.fromkeys(self._pending, self._last)
        self._daemon.close()
        self._daemon = None
        self._from_daemon = Lines(limit=1 << 40)
        self._to_daemon.clear()
        self._swallow = None
        self._stale |= self._asked
        self._asked.clear()
        failure = self._started.verdict() if self._started is not None else None
        if failure is not None:
            self._answer_pending(*_words(failure))
            return
        lines = list(self._pending.values())
        if lines and all(lines) and self._repeats < MOST_REPEATS:
            # It was leaving in the moment we came: nothing was begun, and sending it again repeats nothing.
            self._open_again([line for line in lines if line != self._initialize], 0.01 * 2**self._repeats)
            self._repeats += 1
            return
        self._answer_pending(
            "The Soul's daemon stopped while it worked on this request.",
            "Everything answered before is kept. Call again; a new daemon starts by itself.",
        )

    def _open_again(self, lines: list[bytes], rest_s: float = 0.0) -> None:
        """Starts over with a new daemon after `rest_s`: hello, the recorded handshake, then `lines`."""
        self._to_daemon += self._hello
        if self._initialize is not None:
            self._to_daemon += self._initialize + b"\n"
            request_id: Any = (_parsed(self._initialize) or {}).get("id")
            if request_id not in self._pending:
                self._swallow = request_id
            if self._initialized is not None:
                self._to_daemon += self._initialized + b"\n"
        for line in lines:
            self._to_daemon += line + b"\n"
        self._start = Start(self._home, rest_s)

    def _answer_pending(self, fact: str, remedy: str) -> None:
        self._to_daemon.clear()
        for request_id in self._pending:
            self._to_client += error_line(request_id, DAEMON_GONE, fact, remedy)
        self._pending.clear()

    # What each side says.

    def _client_said(self, line: bytes | TooLong) -> None:
        if isinstance(line, TooLong):
            fact = too_long_text(line, LONGEST_MESSAGE)
            self._to_client += error_line(salvaged_id(line), -32600, fact)
            return
        if self._daemon is not None and not self._stale:
            # Sent before it is looked at: the import of json happens while the daemon works.
            self._to_daemon += line + b"\n"
            self._write_daemon()
            self._note(_parsed(line), line)
            return
        message = _parsed(line)
        if message is not None and "method" not in message and message.get("id") in self._stale:
            self._stale.discard(message["id"])
            return
        asks = message is not None and "method" in message and "id" in message
        self._note(message, line)
        if self._daemon is not None or self._start is not None:
            self._to_daemon += line + b"\n"
        elif asks:  # a notification alone starts no daemon: nobody is there who could use it
            self._open_again([line] if line != self._initialize else [])

    def _note(self, message: dict[str, Any] | None, line: bytes) -> None:
        """Remembers what is needed should the daemon die."""
        self._last = None
        if message is None:
            return
        method, request_id = message.get("method"), message.get("id")
        if method == "initialize":
            self._initialize = line
        elif method == "notifications/initialized":
            self._initialized = line
        elif method == "notifications/cancelled":
            params = message.get("params")
            if isinstance(params, dict) and isinstance(params.get("requestId"), int | str):
                self._pending.pop(params["requestId"], None)  # a cancelled request is never answered
        if method is None:
            if isinstance(request_id, int | str):
                self._asked.discard(request_id)
        elif isinstance(request_id, int | str):
            self._last = line
            self._pending[request_id] = line if method in _REPEATABLE else b""

    def _daemon_said(self, line: bytes) -> None:
        message = _parsed(line)
        if message is not None and isinstance(message.get("id"), int | str):
            if "method" in message:
                self._asked.add(message["id"])
            elif message["id"] == self._swallow:
                self._swallow = None
                return
            else:
                self._pending.pop(message["id"], None)
                self._repeats = 0
        self._to_client += line + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The message as a dict, or None when it is no JSON object; such lines are the daemon's to judge."""
    import json

    decode: Callable[[bytes], Any] = json.loads
    try:
        message = decode(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _words(error: Exception) -> tuple[str, str]:
    """Fact and remedy of whatever kept the daemon from starting."""
    from engine.errors import SoulError

    if isinstance(error, SoulError):
        return error.fact, error.remedy
    return f"The Soul's daemon could not be started: {error}.", "Run `soul doctor`."
