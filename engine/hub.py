"""Fetches a model from a hub into `$SOUL_HOME/models`, byte for byte resumable, and finds what is there already.

Knows the hub's interface through huggingface_hub, which lists the files, signs in and reads the bytes. The partial
files are ours, since its own downloads begin a broken file anew in the next process. A model lies below `.partial`
until all of it is there and checked; then its folder is renamed into place. Does not know which model is wanted
(`engine.resolve`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from engine.budget import GB
from engine.catalogue import CATALOGUE
from engine.errors import Forbidden, InvalidInput, NotFound, SoulError, StorageFull, Unavailable

log = structlog.get_logger()

Report = Callable[[str, float | None], None]

WANTED = ("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja")
"""What a model needs. Python files are left out: no code of a repository is ever run."""
BLOCK = 1024 * 1024
SPARE_BYTES = 500 * 10**6
"""Left free on the disk beside the model."""


class Stopped(Exception):
    """The engine was closed while a download ran; what is there is kept."""


@dataclass(frozen=True)
class _Remote:
    """One file of a repository. `sha256` for large files, `blob` (git's sha1) for small ones."""

    path: str
    size: int
    sha256: str | None
    blob: str | None


class Hub:
    """One hub and the folder that models from it lie in."""

    def __init__(self, models: Path, endpoint: str | None = None) -> None:
        """`endpoint`: another hub than `HF_ENDPOINT` or, without that, the public one."""
        self.models = models
        self._endpoint = endpoint
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ends a download that runs on another thread after the block it is in."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def folder(self, repository: str) -> Path:
        """Where a repository lies once it is whole."""
        return self.models / repository.replace("/", "--")

    def kept(self, repository: str) -> Path | None:
        """The repository's folder when it is whole: ours, or in the cache that other programs share."""
        mine = self.folder(repository)
        if (mine / "config.json").is_file():
            return mine
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(repository, local_files_only=True, allow_patterns=list(WANTED)))
        except (LocalEntryNotFoundError, HFValidationError, OSError):
            return None

    def on_disk(self) -> Iterator[Path]:
        """Folders that look like models: ours, and recommended ones in the shared cache; no stand-in that an earlier
        version wrote here."""
        if self.models.is_dir():
            for folder in sorted(self.models.iterdir()):
                hidden = folder.name.startswith((".", "seedling-"))
                if not hidden and (folder / "config.json").is_file():
                    yield folder
        for entry in CATALOGUE:
            found = self.kept(entry.repository)
            if found is not None and found.parent != self.models:
                yield found

    def download(self, repository: str, report: Report) -> Path:
        """Fetches what is missing of a repository and returns its folder. Blocks; a later call goes on where it broke.

        Raises:
            NotFound: no such repository, or it is private and the sign-in does not open it.
            Forbidden: it is gated, and its terms were not accepted.
            Unavailable: no network, the hub is down, or the connection broke again and again.
            StorageFull: the disk has no room for it.
        """
        try:
            return self._download(repository, report)
        except SoulError:
            raise
        except Stopped as error:
            raise Unavailable(
                f"The download of {repository} was stopped.", "Call again; it goes on where it was."
            ) from error
        except Exception as error:
            raise self._in_words(repository, error) from error

    def _download(self, repository: str, report: Report) -> Path:
        from huggingface_hub import HfApi

        report("downloading", 0.0)
        api = HfApi(endpoint=self._endpoint or os.environ.get("HF_ENDPOINT"))
        commit, remote = _listing(api, repository)
        if not any(file.path.endswith(".safetensors") for file in remote):
            raise InvalidInput(
                f"{repository} holds no safetensors weights.", "Choose an MLX conversion of it, as from mlx-community."
            )
        partial = self.models / ".partial" / repository.replace("/", "--")
        partial.mkdir(parents=True, exist_ok=True)
        total = sum(file.size for file in remote) or 1
        present = sum(_present(partial, file) for file in remote)
        free = shutil.disk_usage(partial).free
        if total - present + SPARE_BYTES > free:
            raise StorageFull(
                f"{repository} needs {(total - present) / GB:.1f} GB more; {self.models} has {free / GB:.1f} GB free.",
                "Free some room there, set SOUL_HOME to another disk, or choose a smaller model.",
            )
        progress = _Progress(total, report, self._stopping)
        for file in remote:
            self._fetch(api, repository, commit, file, partial, progress)
        notes = {"name": repository, "commit": commit, "files": {file.path: file.size for file in remote}}
        (partial / "soul.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")
        target = self.folder(repository)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        log.info("model_downloaded", name=repository, bytes=total)
        return target

    def _fetch(self, api: Any, repository: str, commit: str, file: _Remote, partial: Path, progress: _Progress) -> None:
        """Brings one file to its full length and checks its bytes; a file that does not match is fetched once more."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        target = partial / file.path
        part = target.with_name(target.name + ".part")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and target.stat().st_size == file.size:
            progress.add(file.size)
            return
        url = hf_hub_url(repository, file.path, revision=commit, endpoint=api.endpoint)
        for last in (False, True):
            have = part.stat().st_size if part.is_file() else 0
            if have > file.size:
                part.unlink()
                have = 0
            progress.add(have)
            with part.open("ab") as stream:
                http_get(
                    url,
                    stream,
                    resume_size=have,
                    headers=build_hf_headers(),
                    expected_size=file.size,
                    displayed_filename=file.path,
                    tqdm_class=progress.bar(),
                )
            if _matches(part, file):
                part.rename(target)
                return
            part.unlink()
            progress.add(-file.size)
            log.warning("download_damaged", file=file.path, again=not last)
        raise Unavailable(
            f"{file.path} of {repository} arrived damaged twice: its hash is not the hub's.",
            "Try again later; a proxy on the way may change what it carries.",
        )

    def _in_words(self, repository: str, error: Exception) -> SoulError:
        from huggingface_hub import errors

        where = self._endpoint or os.environ.get("HF_ENDPOINT") or "the public hub"
        if isinstance(error, errors.GatedRepoError):
            return Forbidden(
                f"{repository} is gated: its owner wants its terms accepted first.",
                "Accept them on the model's page, then sign in with `hf auth login` or set HF_TOKEN.",
            )
        if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)):
            return NotFound(
                f"There is no model {repository} on {where}, or it is private.",
                "Check the spelling of org/name; for a private model sign in with `hf auth login`.",
            )
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(
                f"The disk of {self.models} filled up during the download.",
                "Free some room and call again; it goes on where it was.",
            )
        if isinstance(error, PermissionError):
            return Unavailable(f"{self.models} cannot be written: {error}.", "Make the folder writable.")
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        return Unavailable(
            f"{repository} could not be fetched from {where}: {detail}.",
            "Check the network and call again: what has arrived is kept. Without a network, name a folder instead.",
        )


class _Progress:
    """Bytes that have arrived, told as a share, and the place where a stop is noticed."""

    def __init__(self, total: int, report: Report, stopping: threading.Event) -> None:
        self._total = total
        self._done = 0
        self._report = report
        self._stopping = stopping

    def add(self, count: int) -> None:
        self._done += count
        if self._stopping.is_set():
            raise Stopped
        self._report("downloading", min(1.0, self._done / self._total))

    def bar(self) -> Any:
        """A class that huggingface_hub takes for a progress bar: it hands every block's length to `add`."""
        add = self.add

        class Bar:
            def __init__(self, *_: Any, **__: Any) -> None:
                # Also the bytes of an earlier run come as `initial`; they were added when their file was opened.
                self.total = 0

            def __enter__(self) -> Bar:
                return self

            def __exit__(self, *_: object) -> None:
                return None

            def update(self, count: float | None = 1) -> None:
                add(int(count or 0))

            def close(self) -> None:
                return None

        return Bar


def _listing(api: Any, repository: str) -> tuple[str, list[_Remote]]:
    """The current commit and the wanted files of a repository, small ones first."""
    from huggingface_hub.utils import filter_repo_objects

    info = api.model_info(repository, files_metadata=True)
    files: list[_Remote] = []
    for sibling in info.siblings or ():
        path = Path(sibling.rfilename)
        if path.is_absolute() or ".." in path.parts or path.name.startswith("."):
            continue
        lfs = sibling.lfs
        sha256 = getattr(lfs, "sha256", None) if lfs is not None else None
        files.append(_Remote(sibling.rfilename, int(sibling.size or 0), sha256, sibling.blob_id))
    wanted = list(filter_repo_objects(files, allow_patterns=list(WANTED), key=lambda file: file.path))
    return str(info.sha), sorted(wanted, key=lambda file: (file.size, file.path))


def _present(partial: Path, file: _Remote) -> int:
    """Bytes of a file that an earlier run has brought."""
    target = partial / file.path
    for path in (target, target.with_name(target.name + ".part")):
        if path.is_file():
            return min(path.stat().st_size, file.size)
    return 0


def _matches(path: Path, file: _Remote) -> bool:
    """Whether the bytes are those the hub named: sha256 for a large file, git's blob hash for a small one."""
    if file.sha256 is not None:
        digest = hashlib.sha256()
    elif file.blob is not None:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return path.stat().st_size == file.size
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == (file.sha256 or file.blob)
