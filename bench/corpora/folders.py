"""The folder that is indexed, and the peers that look whether it changed."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import xxhash

FILES_PER_FOLDER = 100
SYLLABLES = ("ka", "lo", "mi", "ne", "ru", "sa", "te", "vo", "xi", "za", "bel", "dor", "fen", "gar", "hul", "jin")
WORDS = 20_000


def make_folder(root: Path, files: int) -> int:
    """Markdown files of about 2 kB with words as frequent as in a language (Zipf); their bytes."""
    draw = random.Random(7)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))) for _ in range(WORDS)]
    weights = [1 / (rank + 2.7) for rank in range(WORDS)]
    made = 0
    for number in range(files):
        folder = root / f"part-{number // FILES_PER_FOLDER:04}"
        folder.mkdir(parents=True, exist_ok=True)
        sections = "\n".join(
            f"## Section {n}\n\n{' '.join(draw.choices(words, weights, k=80)).capitalize()}.\n" for n in range(3)
        )
        made += (folder / f"note-{number:06}.md").write_text(f"# Note {number}\n\n{sections}")
    return made


def hashed(root: Path) -> dict[str, str]:
    """The naive way to know what changed: every file read and hashed with the same hash."""
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 - as fast as it can be
            with open(path, "rb") as file:  # noqa: PTH123
                found[path] = xxhash.xxh3_128_hexdigest(file.read())
    return found


class Git:
    """A checkout of the folder, whose index knows all files; kept beside it, so that the folder stays what it is."""

    def __init__(self, folder: Path) -> None:
        self._command = ["git", f"--git-dir={folder.with_name('git')}", f"--work-tree={folder}"]
        for arguments in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm1"],
        ):
            subprocess.run([*self._command, *arguments], check=True, capture_output=True, cwd=folder)
        self._folder = folder

    def is_clean(self) -> bool:
        """Has nothing changed?"""
        command = [*self._command, "status", "--porcelain"]
        return not subprocess.run(command, check=True, capture_output=True, cwd=self._folder).stdout
