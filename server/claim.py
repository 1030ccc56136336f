"""The daemon's hold on a home: the lock that makes it the only one, and the socket it listens on.

Knows nothing of what is served. Standard library alone: both exist before anything heavy is imported, so that clients
find the socket within milliseconds and wait there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass

from engine.errors import Conflict
from server import VERSION, paths
from server.starting import connect

LEAVING_S = 30.0
"""How long a daemon that is just leaving may hold the lock before a new one gives up."""

BACKLOG = 128


@dataclass
class Claim:
    """The held lock and the listening socket of one home."""

    home: str
    lock: int
    socket: socket.socket
    inode: int

    @classmethod
    def take(cls, home: str) -> Claim:
        """Locks the home and listens.

        Raises:
            Conflict: another daemon has it.
            Forbidden: the home or the socket's folder cannot be used.
            StorageFull: the disk is full.
        """
        paths.prepare(home)
        lock = _locked(home)
        try:
            listener, inode = _listening(paths.socket_path(home))
        except BaseException:
            os.close(lock)
            raise
        return cls(home, lock, listener, inode)

    def hang_up(self) -> None:
        """Takes the socket's name away; who comes now starts a new daemon, which waits for the lock."""
        path = paths.socket_path(self.home)
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(path).st_ino == self.inode:
                os.unlink(path)

    def release(self) -> None:
        """Gives the home free."""
        self.hang_up()
        self.socket.close()
        os.close(self.lock)


def holder(home: str) -> int | None:
    """The process id that the lock file names; it may be gone. None where nothing is written."""
    try:
        with open(paths.lock_path(home), "rb") as file:
            said = json.loads(file.read(4096))
        return int(said["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def held(home: str) -> bool:
    """Whether some process holds the lock now."""
    try:
        lock = os.open(paths.lock_path(home), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _locked(home: str) -> int:
    lock = os.open(paths.lock_path(home), os.O_RDWR | os.O_CREAT, 0o600)
    patience = time.monotonic() + LEAVING_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            other = connect(home)
            if other is not None:
                other.close()
            if other is not None or time.monotonic() > patience:
                os.close(lock)
                raise _taken(home, listening=other is not None) from None
            time.sleep(0.02)  # it no longer listens, so it is leaving
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": os.getpid(), "version": VERSION}).encode(), 0)
    return lock


def _taken(home: str, *, listening: bool) -> Conflict:
    pid = holder(home)
    who = f"process {pid}" if pid is not None else "another process"
    if listening:
        return Conflict(
            f"A daemon of the home {paths.display(home)} already runs ({who}).",
            "Use that one, or stop it first with `soul stop`.",
        )
    return Conflict(
        f"The home {paths.display(home)} is held by {who}, which does not listen.",
        "Wait for it to leave, or end that process, and try again.",
    )


def _listening(path: str) -> tuple[socket.socket, int]:
    """A listening Unix socket of mode 0600 at `path`, and its inode; only called under the lock."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # whoever made it is dead: we have the lock
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(os.fsencode(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener, os.lstat(path).st_ino
