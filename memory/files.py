"""Which files belong to a folder, and what tells that one of them is unchanged.

Knows git's and .gitignore's rules, what is generated, and the stamp of a file. Does not know what is in them
(`memory.reading`). Runs in worker threads: everything here may block.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pathspec

from engine.errors import Forbidden, InvalidInput, NotFound
from memory.text import UNWANTED

MAX_FILES = 100_000
GIT_WAIT_S = 60.0
RACY_NS = 2_000_000_000
"""A file changed this shortly before it was read may change again without its times showing it: the clocks of file
systems tick in up to 2 s (FAT). Git guards its index in the same way (Documentation/technical/racy-git)."""

# Never worth recalling, and large: made by tools, from other files. Hidden folders are left out without this list.
GENERATED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})
GENERATED_FILES = ("package-lock.json", "yarn.lock", "pnpm-lock.yaml", "uv.lock", "poetry.lock", "Cargo.lock")
GENERATED_SUFFIXES = (".min.js", ".min.css", ".map", ".svg")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a folder, as it was when it was listed."""

    path: str
    """Below the root, with slashes."""
    size: int
    stamp: str
    """The same as before: the content is the same as before."""


@dataclass(frozen=True)
class Listing:
    """The files of a folder, sorted by path; and what was left out, with the reason."""

    root: Path
    files: tuple[File, ...]
    skipped: tuple[tuple[str, str], ...]


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
        one = root.stat()
        return Listing(root.parent, (File(root.name, one.st_size, stamp(one)),), ())
    if not root.is_dir():
        raise InvalidInput(f"{root} is neither a file nor a folder.", "Give the path of a folder or of one file.")
    skipped: list[tuple[str, str]] = []
    found: list[File] = []
    links: dict[str, bool] = {"": False}
    for path in _tracked(root) or _walked(root, skipped):
        file = _file(str(root), path, links)
        if isinstance(file, File):
            found.append(file)
        elif file != _UNSAID:
            skipped.append((path, file))
        if len(found) > MAX_FILES:
            raise InvalidInput(f"{root} has more than {MAX_FILES} files.", "Give a folder further down.")
    return Listing(root, tuple(sorted(found, key=lambda file: file.path)), tuple(skipped))


def stamp(found: os.stat_result) -> str:
    """What changes when a file does: size, time of its content, time of its entry, inode. Not the device, which gets
    another number when a disk is mounted again."""
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def is_racy(found: os.stat_result, read_at_ns: int) -> bool:
    """Was the file changed so shortly before it was read, or in the future, that its stamp proves nothing?"""
    return max(found.st_mtime_ns, found.st_ctime_ns) > read_at_ns - RACY_NS


def _file(root: str, path: str, links: dict[str, bool]) -> File | str:
    """The file, or why it is left out. `links` remembers of each folder whether a link leads into it."""
    if path.startswith(".") or "/." in path:
        return _UNSAID
    folder, _, name = path.rpartition("/")
    if (
        name in GENERATED_FILES
        or name.endswith(GENERATED_SUFFIXES)
        or not GENERATED_FOLDERS.isdisjoint(folder.split("/"))
    ):
        return "generated"
    # A file in a folder that is a link would lead outside without being a link itself; git goes on listing it.
    if _through_link(root, folder, links):
        return "a link"
    try:
        found = os.lstat(f"{root}/{path}")
    except FileNotFoundError:
        return _UNSAID
    except OSError as error:
        return "may not be read" if isinstance(error, PermissionError) else f"cannot be read: {error.strerror}"
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if not stat.S_ISREG(found.st_mode):
        return "not a file"
    return File(path, found.st_size, stamp(found))


def _through_link(root: str, folder: str, links: dict[str, bool]) -> bool:
    if folder not in links:
        above = folder.rpartition("/")[0]
        links[folder] = _through_link(root, above, links) or Path(root, folder).is_symlink()
    return links[folder]


def _tracked(root: Path) -> list[str]:
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
    # The walk reports names that cannot be stored.
    return [] if any(not _is_plain(name) for name in names) else sorted(names)


_Rules = tuple[tuple[str, pathspec.GitIgnoreSpec], ...]
"""(folder with a slash at its end, what its .gitignore says), outermost first."""


def _walked(root: Path, skipped: list[tuple[str, str]]) -> Iterator[str]:
    """Every file below `root` that no `.gitignore` on its way excludes. Folders that are links are not entered."""
    rules: dict[str, _Rules] = {}

    def refused(error: OSError) -> None:
        skipped.append((os.path.relpath(error.filename, root), "may not be read"))

    for folder, folders, names in os.walk(root, onerror=refused):
        here = "" if folder == str(root) else os.path.relpath(folder, root) + "/"
        inherited = rules.get(here[: here[:-1].rfind("/") + 1], ()) if here else ()
        rules[here] = inherited + _rules_of(Path(folder), here, names)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in GENERATED_FOLDERS
            and _is_plain(name)
            and not _ignored(f"{here}{name}/", rules[here])
            and not Path(folder, name).is_symlink()
        )
        for name in sorted(names):
            if not _is_plain(name):
                skipped.append((ascii(name), "its name is not plain UTF-8"))
            elif not _ignored(here + name, rules[here]):
                yield here + name


def _rules_of(folder: Path, here: str, names: Sequence[str]) -> _Rules:
    if ".gitignore" not in names or not (folder / ".gitignore").is_file():
        return ()
    try:
        lines = (folder / ".gitignore").read_text("utf-8", errors="replace").splitlines()
        return ((here, pathspec.GitIgnoreSpec.from_lines(lines)),)
    except (OSError, ValueError):
        return ()


def _ignored(path: str, rules: _Rules) -> bool:
    """`path` ends with a slash where it is a folder."""
    verdict = False
    for base, spec in rules:
        result = spec.check_file(path.removeprefix(base))
        if result.include is not None:
            verdict = result.include
    return verdict


def _is_plain(name: str) -> bool:
    """Can it be stored as it is? Else a file could be written under one name and looked for under another."""
    return not UNWANTED.search(name)
