"""Which files belong to a folder, and what text is in them.

Knows git's and .gitignore's rules, what is not text, and how a file is read. Does not know how text is split or stored.
Runs in worker threads: everything here may block.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pathspec

from engine.errors import Forbidden, InvalidInput, NotFound

MAX_FILE_BYTES = 8_000_000
MAX_FILES = 100_000
SNIFF_BYTES = 8192
GIT_WAIT_S = 60.0

# Never worth recalling, and large: made by tools, from other files. Hidden folders are left out without this list.
GENERATED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})
GENERATED_FILES = ("package-lock.json", "yarn.lock", "pnpm-lock.yaml", "uv.lock", "poetry.lock", "Cargo.lock")
GENERATED_SUFFIXES = (".min.js", ".min.css", ".map", ".svg")
PACKED_SUFFIXES = frozenset({".css", ".csv", ".html", ".js", ".json", ".jsonl", ".mjs", ".tsv", ".xml"})
PACKED_LINE = 20_000
"""A line this long, in a file of those suffixes, was written by a program for a program; no passage of it helps."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder, as paths below it, sorted; and what was left out, with the reason."""

    root: Path
    paths: tuple[PurePosixPath, ...]
    skipped: tuple[tuple[str, str], ...]


class NotText(Exception):
    """A file is passed over; `reason` says why, for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_UNSAID = "hidden or gone"
"""The one reason that is not reported: it holds for half of everything on a disk."""


def resolved(path: Path, allowed_roots: Sequence[Path]) -> Path:
    """The real path, after links, if it exists and lies under an allowed root.

    Raises:
        NotFound: it does not exist, or a link in it leads nowhere.
        InvalidInput: it cannot be a path, or links go round in a circle.
        Forbidden: it lies under no allowed root.
    """
    try:
        real = path.expanduser().resolve(strict=True)
    except FileNotFoundError as error:
        raise NotFound(f"There is nothing at {path}.", "Give the path of a folder or of one file.") from error
    except PermissionError as error:
        raise Forbidden(f"{path} may not be read.", "Change its permissions, or give another path.") from error
    except (OSError, RuntimeError, ValueError) as error:
        reason = "its links go round in a circle" if "loop" in str(error).lower() or "links" in str(error) else error
        raise InvalidInput(f"{str(path)[:300]!r} is no usable path: {reason}.", "Give another path.") from error
    roots = [root.expanduser().resolve() for root in allowed_roots]
    if not any(real.is_relative_to(root) for root in roots):
        names = ", ".join(map(str, roots)) or "none"
        raise Forbidden(
            f"{real} lies outside the allowed folders ({names}).", "Add it to `allowed_roots` in config.toml."
        )
    return real


def listing(root: Path) -> Listing:
    """The files that belong to `root`, a real path: a file, a folder, or a folder in a git checkout.

    In a checkout these are the files that git tracks or would track; elsewhere `.gitignore` files are obeyed alike.
    Hidden folders and files, generated files and links are left out: a link's target is found where it really lies,
    or is outside.

    Raises:
        InvalidInput: it is neither a file nor a folder, or has too many files.
    """
    if root.is_file():
        return Listing(root.parent, (PurePosixPath(root.name),), ())
    if not root.is_dir():
        raise InvalidInput(f"{root} is neither a file nor a folder.", "Give the path of a folder or of one file.")
    skipped: list[tuple[str, str]] = []
    paths: list[PurePosixPath] = []
    for path in _tracked(root) or _walked(root, skipped):
        if reason := _unwanted(root, path):
            if reason != _UNSAID:
                skipped.append((str(path), reason))
            continue
        paths.append(path)
        if len(paths) > MAX_FILES:
            raise InvalidInput(f"{root} has more than {MAX_FILES} files.", "Give a folder further down.")
    return Listing(root, tuple(sorted(paths)), tuple(skipped))


def read(path: Path) -> tuple[str, bytes]:
    """The text of a file and the bytes it was made of. Line ends become `\\n`.

    Raises:
        NotText: it is too large, binary, packed data, in another encoding than UTF-8 or UTF-16, empty, or cannot be
            read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise NotText(f"larger than {MAX_FILE_BYTES // 1_000_000} MB ({size / 1e6:.1f} MB)")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise NotText("gone while it was being read") from error
    except PermissionError as error:
        raise NotText("may not be read") from error
    except OSError as error:
        raise NotText(f"cannot be read: {error.strerror}") from error
    text = _decoded(raw)
    if not text.strip():
        raise NotText("empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if path.suffix.lower() in PACKED_SUFFIXES and (longest := max(map(len, text.split("\n")))) > PACKED_LINE:
        raise NotText(f"packed data: a line of {longest:,} characters")
    return text, raw


def _decoded(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise NotText("broken UTF-16") from error
    if b"\x00" in raw[:SNIFF_BYTES]:
        raise NotText("binary")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotText(f"not UTF-8 (byte 0x{raw[error.start]:02x} at {error.start})") from error


def _unwanted(root: Path, path: PurePosixPath) -> str:
    """Why a file is left out; empty when it is not."""
    if any(part.startswith(".") for part in path.parts):
        return _UNSAID
    if GENERATED_FOLDERS.intersection(path.parts[:-1]):
        return "generated"
    if path.name in GENERATED_FILES or path.name.endswith(GENERATED_SUFFIXES):
        return "generated"
    full = root / path
    if full.is_symlink():
        return "a link"
    # A file in a folder that is a link would lead outside without being a link itself.
    if not full.is_file():
        return "not a file" if full.exists() else _UNSAID
    return ""


def _tracked(root: Path) -> list[PurePosixPath]:
    """What git tracks or would track below `root`; empty where it is no checkout, or git is not there."""
    # A checkout's own configuration may name programs to be run, and hooks set GIT_* for another repository.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_WAIT_S, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    names = {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}
    # A name that is not UTF-8 could not be stored; the walk reports it.
    return [] if any(not _is_unicode(name) for name in names) else [PurePosixPath(name) for name in sorted(names)]


def _walked(root: Path, skipped: list[tuple[str, str]]) -> Iterator[PurePosixPath]:
    """Every file below `root` that no `.gitignore` on its way excludes. Folders that are links are not entered."""
    rules: dict[PurePosixPath, list[tuple[PurePosixPath, pathspec.GitIgnoreSpec]]] = {}

    def refused(error: OSError) -> None:
        skipped.append((os.path.relpath(error.filename, root), "may not be read"))

    for folder, folders, names in os.walk(root, onerror=refused):
        here = PurePosixPath(Path(folder).relative_to(root).as_posix())
        inherited = rules.get(here.parent, []) if here.parts else []
        rules[here] = inherited + _rules_of(Path(folder), here, names)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in GENERATED_FOLDERS
            and not (Path(folder) / name).is_symlink()
            and not _ignored(here / name, rules[here], folder=True)
        )
        for name in sorted(names):
            if not _is_unicode(name):
                skipped.append((ascii(name), "its name is not UTF-8"))
            elif not _ignored(here / name, rules[here], folder=False):
                yield here / name


def _rules_of(
    folder: Path, here: PurePosixPath, names: Sequence[str]
) -> list[tuple[PurePosixPath, pathspec.GitIgnoreSpec]]:
    if ".gitignore" not in names:
        return []
    try:
        lines = (folder / ".gitignore").read_text("utf-8", errors="replace").splitlines()
        return [(here, pathspec.GitIgnoreSpec.from_lines(lines))]
    except (OSError, ValueError):
        return []


def _ignored(
    path: PurePosixPath, rules: Sequence[tuple[PurePosixPath, pathspec.GitIgnoreSpec]], *, folder: bool
) -> bool:
    verdict = False
    for base, spec in rules:
        result = spec.check_file(f"{path.relative_to(base)}{'/' if folder else ''}")
        if result.include is not None:
            verdict = result.include
    return verdict


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
