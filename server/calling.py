"""The command line's side of the control protocol: one command to the daemon, its progress, its result.

Knows the socket and the JSON lines; does not know what the commands mean. Synchronous and standard library alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from engine import errors
from engine.errors import SoulError, Unavailable
from server import VERSION
from server.starting import connect, reach

if TYPE_CHECKING:
    import _socket

Progress = Callable[[str, float | None], None]
"""(what is done now, fraction 0..1 or None)"""


def call(
    home: str,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    start: bool = True,
    progress: Progress | None = None,
) -> Any:
    """Gives one command and returns its result.

    Args:
        home: Absolute path of the home.
        name: The command, as `server.control` registers it.
        arguments: JSON values.
        start: Whether to start a daemon where none runs.
        progress: Told how far the command is.

    Raises:
        Unavailable: no daemon runs and none was to be started, or it stopped in the middle.
        SoulError: the command's own error, of the class it had in the daemon.
    """
    end = reach(home) if start else connect(home)
    if end is None:
        raise Unavailable("No daemon runs for this home.", "It starts by itself with the first client or command.")
    try:
        hello = {"soul": 1, "version": VERSION, "control": name, "arguments": arguments or {}}
        end.sendall(json.dumps(hello).encode() + b"\n")
        for line in _lines(end):
            said = json.loads(line)
            if "error" in said:
                raise _raised(said["error"])
            if "result" in said:
                return said["result"]
            if progress is not None:
                progress(said["progress"]["detail"], said["progress"]["fraction"])
    except (ConnectionError, BrokenPipeError):
        pass
    finally:
        end.close()
    raise Unavailable("The daemon stopped before it answered.", "Try again; a new one starts by itself.")


def _lines(end: _socket.socket) -> Iterator[bytes]:
    held = b""
    while data := end.recv(1 << 16):
        *lines, held = (held + data).split(b"\n")
        yield from lines


def _raised(error: dict[str, str]) -> SoulError:
    kind = getattr(errors, error.get("kind", ""), SoulError)
    if not (isinstance(kind, type) and issubclass(kind, SoulError)):
        kind = SoulError
    return kind(error["fact"], error["remedy"])
