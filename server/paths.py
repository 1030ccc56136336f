"""Where a Soul's files lie: its home, its socket, its locks.

Knows names and ownership only; opens nothing. Standard library alone, and without `pathlib`: the bridge imports this
before it answers the handshake, where every millisecond counts.
"""

from __future__ import annotations

import os
import stat
import sys

LONGEST_SOCKET_PATH = 100
"""Bytes. `sun_path` holds 108 on Linux and 104 on macOS, the closing NUL included."""


def home_folder(flag: str | None = None) -> str:
    """The absolute path of SOUL_HOME with links resolved, so that two names of one home are one home.

    Args:
        flag: What `--home` said; it wins over the variable SOUL_HOME, which wins over `~/.soul`.
    """
    chosen = flag or os.environ.get("SOUL_HOME") or "~/.soul"
    return os.path.realpath(os.path.expanduser(chosen))


def run_folder(home: str) -> str:
    return os.path.join(home, "run")


def logs_folder(home: str) -> str:
    return os.path.join(home, "logs")


def lock_path(home: str) -> str:
    """Held by the one daemon of this home as long as it lives."""
    return os.path.join(home, "run", "daemon.lock")


def starting_lock_path(home: str) -> str:
    """Held by the one client that is starting a daemon, so that eight windows do not start eight."""
    return os.path.join(home, "run", "starting.lock")


def startup_output_path(home: str) -> str:
    """What a detached daemon writes to stdout and stderr; normally empty."""
    return os.path.join(home, "logs", "daemon.err")


def socket_path(home: str) -> str:
    """The Unix socket of this home: inside it, or in a private folder where the path would be too long.

    The folder is under /tmp whatever TMPDIR says, since a client and the daemon may have been started with different
    environments and must still meet.
    """
    inside = os.path.join(home, "run", "soul.sock")
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    from hashlib import sha256

    name = f"soul-{os.geteuid()}-{sha256(os.fsencode(home)).hexdigest()[:16]}"
    return os.path.join("/tmp", name, "soul.sock")


def prepare(home: str) -> None:
    """Makes the folders that a start needs, private to this person.

    Raises:
        Forbidden: a folder cannot be made or written, or the socket's folder belongs to somebody else.
        StorageFull: the disk is full.
    """
    for folder in (home, run_folder(home), logs_folder(home), os.path.dirname(socket_path(home))):
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _unusable(folder, PermissionError(13, "permission denied"))
    check_socket_folder(home)


def check_socket_folder(home: str) -> None:
    """Refuses a socket folder outside the home that others could have placed there.

    Raises:
        Forbidden: it is a link, belongs to another user, or is open to others.
    """
    folder = os.path.dirname(socket_path(home))
    if folder == run_folder(home):
        return
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        from engine.errors import Forbidden

        raise Forbidden(
            f"The folder for the socket, {folder}, is not a private folder of yours.",
            "Remove it, or choose a SOUL_HOME with a path under 80 bytes.",
        )


def display(path: str) -> str:
    """A path for people: bytes that are no text become escapes, so that printing it never fails."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _unusable(folder: str, error: OSError) -> Exception:
    import errno

    from engine.errors import Forbidden, StorageFull

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"The disk of {display(folder)} is full.", "Free some space and try again.")
    reason = (error.strerror or str(error)).lower()
    return Forbidden(
        f"The folder {display(folder)} cannot be used: {reason}.",
        "Make it writable for you, or choose another home with --home or SOUL_HOME.",
    )


def script() -> str:
    """The absolute path of the `soul` script that configurations call."""
    import shutil

    beside = os.path.join(os.path.dirname(sys.executable), "soul")
    return beside if os.path.exists(beside) else os.path.abspath(shutil.which("soul") or "soul")
