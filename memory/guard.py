"""The process that stands between the daemon and the embedded Postgres. A script of its own, standard library alone.

Knows two things: how to run a program as another user while keeping the right to traverse folders, and when nobody
uses the server any more. Does not know SQL, the data folder's state, or why it was started (`memory.postgres` does).

    guard.py run   UID GID ARGV...             become that user, then exec
    guard.py serve UID GID RUN LOG ARGV...     run the server as that user, detached, until its last user is gone

UID -1 means: stay who you are. RUN is a folder of lock files. Every user of the server holds a shared `flock` on
RUN/postgres.users. The kernel drops it when that process ends, however it ends, so the exclusive lock that the guard
waits for is granted at the very moment when nobody is left: no polling, no pid to mistrust, the same on Linux and
macOS. The guard keeps that lock until the server is down, so a newcomer that asks for its shared lock waits just as
long. RUN/postgres.guard is held for as long as a guard lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
from pathlib import Path

LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What some interpreters need to start; the server must find its own libraries, not theirs."""
USERS_LOCK = "postgres.users"
GUARD_LOCK = "postgres.guard"
LOG_LIMIT = 4_000_000
"""Bytes of one log file; one older file is kept beside it."""
TAIL_LIMIT = 8_192
"""Bytes of the server's last words, handed to whoever started the guard."""
FAST_SHUTDOWN_S = 15.0
"""After this long a fast shutdown is followed by an immediate one, and the next start replays the WAL. A fast one takes
milliseconds, except when it meets a server that is just beginning to recover from a crash: Postgres may lose it then
(its startup process is told before it listens) and would wait for ever."""
DRAIN_S = 2.0

# linux/prctl.h and linux/capability.h
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522


def become(uid: int, gid: int) -> None:
    """Drops root for good, but on Linux keeps the right to pass folders that are closed to others.

    Postgres refuses to run as root, while root's SOUL_HOME and the installed binaries often lie under /root (mode
    700). Ambient capabilities (capabilities(7)) let the server through without opening those folders to anybody else.
    Where the kernel or the container does not grant them, the server runs without and may fail with EACCES.
    """
    if uid < 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    linux = sys.platform == "linux"
    if linux:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if linux:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            _keep(libc, capability)


def _keep(libc: ctypes.CDLL, capability: int) -> None:
    """Makes one capability effective, inheritable and ambient, beside those kept before; without it goes on."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # two words each of effective, permitted, inheritable, word by word
    libc.capget(header, sets)
    bit = 1 << capability
    if not sets[1] & bit:
        return
    kept = (sets[2] | bit) & sets[1]
    libc.capset(header, (ctypes.c_uint32 * 6)(kept, sets[1], kept, 0, 0, 0))
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


class Log:
    """Copies the server's stderr into a file of bounded size and remembers its last words.

    A log that cannot be written (a full disk) is not a reason to stop the server or to stop reading its pipe.
    """

    def __init__(self, path: Path) -> None:
        self.tail = b""
        self._path = path

    def copy(self, source: int) -> None:
        """Reads `source` until every server process has closed it."""
        while chunk := os.read(source, 65_536):
            self.tail = (self.tail + chunk)[-TAIL_LIMIT:]
            with contextlib.suppress(OSError):
                self._append(chunk)

    def _append(self, chunk: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + len(chunk) > LOG_LIMIT:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, chunk)
        finally:
            os.close(descriptor)


def start_server(uid: int, gid: int, argv: list[str], output: int) -> int:
    """Forks and execs the server with stdout and stderr on `output`; the pid is the postmaster's."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored_by_python, signal.SIG_DFL)
        become(uid, gid)
        if sys.platform == "linux":
            # A guard that is killed takes the server with it; a change of user would clear this, so it comes last.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
            if os.getppid() != guard:
                os._exit(1)
        os.execv(argv[0], argv)
    except BaseException as error:
        os.write(2, f"cannot run {argv[0]} as uid {uid}: {error}\n".encode(errors="replace"))
    os._exit(126)


def take(path: Path) -> None:
    """Waits for an exclusive lock and keeps it until this process ends."""
    fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)


def serve(uid: int, gid: int, run: Path, log_path: Path, argv: list[str]) -> None:
    """Runs the server until it ends by itself or its last user is gone; then says its last words on stdout."""
    take(run / GUARD_LOCK)
    source, output = os.pipe()
    pid = start_server(uid, gid, argv, output)
    os.close(output)
    over = threading.Event()

    def stop_server() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
            if not over.wait(FAST_SHUTDOWN_S):
                os.kill(pid, signal.SIGQUIT)

    def wait_for_last_user() -> None:
        take(run / USERS_LOCK)
        if not over.is_set():
            stop_server()

    def stop_when_told(_signal: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)

    log = Log(log_path)
    copying = threading.Thread(target=log.copy, args=(source,), daemon=True)
    copying.start()
    threading.Thread(target=wait_for_last_user, daemon=True).start()
    # An init system that ends a whole group of processes sends SIGTERM; to Postgres alone that would mean "wait for
    # your clients".
    signal.signal(signal.SIGTERM, stop_when_told)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.waitpid(pid, 0)
    over.set()
    copying.join(DRAIN_S)
    with contextlib.suppress(OSError):
        os.write(1, log.tail)


def main(arguments: list[str]) -> None:
    mode, uid, gid = arguments[0], int(arguments[1]), int(arguments[2])
    for name in LIBRARY_PATHS:
        os.environ.pop(name, None)
    if mode == "run":
        become(uid, gid)
        os.execv(arguments[3], arguments[3:])
    if os.fork():
        os._exit(0)  # whoever called has no child to look after; the guard outlives it where others use the server
    os.chdir("/")
    serve(uid, gid, Path(arguments[3]), Path(arguments[4]), arguments[5:])
    os._exit(0)  # threads that sit in flock or read are not waited for


if __name__ == "__main__":
    main(sys.argv[1:])
