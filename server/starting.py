"""Finding the daemon of a home, and starting one where none runs.

Knows the socket, the start lock and how a detached process is made; does not know what is said over the socket.
Standard library alone, and as little of it as a client with a warm daemon needs.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
import time

from server import paths

TYPE_CHECKING = False  # as type checkers understand it; importing typing would take 5 ms
if TYPE_CHECKING:
    import subprocess

PATIENCE_S = 60.0
"""How long a started daemon may take until its socket listens. It does so before it imports anything heavy."""

EXIT_CONFLICT = 75
"""What a second daemon of one home exits with (EX_TEMPFAIL): another one owns the lock."""

REAP_S = 0.2

STEP_S = 0.005
"""How often a start is looked at."""


def connect(home: str) -> _socket.socket | None:
    """A connected socket to the daemon of this home, or None where nobody listens.

    `_socket` is what `socket` wraps; the wrapper's enums would cost a third of the bridge's whole time.

    Raises:
        Forbidden: the socket belongs to somebody else.
    """
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        paths.check_socket_folder(home)
        end.connect(os.fsencode(paths.socket_path(home)))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        end.close()
        return None
    except OSError as error:
        end.close()
        if error.errno == errno.EAGAIN:  # Linux: the backlog is full for the moment
            return None
        raise _no_access(home, error) from error
    except BaseException:
        end.close()
        raise
    return end


class Start:
    """One attempt to reach the daemon, starting it if need be; `step` is called until it gives a socket."""

    def __init__(self, home: str, rest_s: float = 0.0) -> None:
        """`rest_s` is how long to wait first: a daemon that is being killed still takes connections for a moment."""
        self._home = home
        self._began = time.monotonic() + rest_s
        self._lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._output_from = 0

    def step(self) -> _socket.socket | None:
        """A connected socket, or None while the daemon is on its way.

        Raises:
            SoulError: it cannot be started; the reason and the remedy are in the message.
        """
        if time.monotonic() < self._began:
            return None
        end = connect(self._home)
        if end is not None:
            self.close()
            return end
        try:
            self._start_unless_somebody_does()
        except BaseException:
            self.close()
            raise
        return None

    def verdict(self) -> Exception | None:
        """Why the daemon that was started here has left with an error, or None where it has not."""
        if self._child is None:
            return None
        gone = time.monotonic() + REAP_S
        while self._child.poll() is None and time.monotonic() < gone:
            time.sleep(STEP_S)  # its socket closes a moment before it can be waited for
        return (
            _failed(self._home, self._child.returncode, self._output_from)
            if (self._child.returncode or 0) > 0
            else None
        )

    def close(self) -> None:
        """Lets others start a daemon; the one that was started goes on."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start_unless_somebody_does(self) -> None:
        if self._lock is None:
            self._lock = _take_start_lock(self._home)
        elif self._child is None:
            self._child, self._output_from = _spawn(self._home)
        elif self._child.poll() not in (None, 0, EXIT_CONFLICT):
            raise _failed(self._home, self._child.returncode, self._output_from)
        elif self._child.returncode is not None:
            self._child = None  # it met a daemon that was just leaving: start another one
        if time.monotonic() - self._began > PATIENCE_S:
            from engine.errors import Unavailable

            raise Unavailable(
                f"The Soul's daemon did not open its socket within {PATIENCE_S:.0f} seconds.",
                f"Look into {paths.display(os.path.join(paths.logs_folder(self._home), 'daemon.log'))}, "
                "or run `soul doctor`.",
            )


def reach(home: str) -> _socket.socket:
    """A blocking connection to the daemon, started if need be.

    Raises:
        SoulError: as `Start.step`.
    """
    start = Start(home)
    try:
        while (end := start.step()) is None:
            time.sleep(STEP_S)
    finally:
        start.close()
    return end


def _take_start_lock(home: str) -> int | None:
    import fcntl

    paths.prepare(home)
    lock = os.open(paths.starting_lock_path(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _spawn(home: str) -> tuple[subprocess.Popen[bytes], int]:
    """A daemon in a session of its own, so that a Ctrl-C or a kill meant for the client does not reach it."""
    import subprocess

    output = os.open(paths.startup_output_path(home), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if os.fstat(output).st_size > 1_000_000:
            os.ftruncate(output, 0)
        before = os.fstat(output).st_size
        # -P and the home as current folder: a `server` package that lies where the client works must not be run.
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", "from server.entry import main; raise SystemExit(main())", "daemon"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=home,
            env={**os.environ, "SOUL_HOME": home},
            start_new_session=True,
        )
    finally:
        os.close(output)
    return child, before


def _failed(home: str, code: int, output_from: int) -> Exception:
    """The error for a daemon that left before it listened, with what it said."""
    from engine.errors import Unavailable

    with open(paths.startup_output_path(home), "rb") as output:
        output.seek(output_from)
        said = output.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    lines = [line.strip() for line in said if line.strip()]
    if len(lines) >= 2 and lines[-2].startswith("error: "):
        return Unavailable(f"The Soul's daemon could not start: {lines[-2][7:]}", lines[-1])
    reason = lines[-1] if lines else f"it left with exit status {code} and said nothing."
    return Unavailable(
        f"The Soul's daemon could not start: {reason}",
        f"Run `soul doctor`; the whole output is in {paths.display(paths.startup_output_path(home))}.",
    )


def _no_access(home: str, error: OSError) -> Exception:
    from engine.errors import Forbidden

    return Forbidden(
        f"The socket {paths.display(paths.socket_path(home))} cannot be used: {error.strerror or error}.",
        "Make it yours again, or choose another home with --home or SOUL_HOME.",
    )
