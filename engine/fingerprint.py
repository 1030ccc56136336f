"""The hash that ties a KV cache to exactly the weights, tokenizer and formats it came from.

Measured: 0.1 % of noise on the weights lets a reply diverge at the fifth token without any error, so that a cache may
only be used under the very fingerprint it was made with. Knows files; loads nothing and imports no MLX. Hashing 70 GB
takes a minute, so that the hash of a file is kept, keyed by its path, size and modification time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
import xxhash

log = structlog.get_logger()

CACHE_FORMAT = 1
"""Version of how keys and values are laid out; raised when that changes, which makes every stored cache stale."""
PARTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "hf_quant_config.json",
)
OF_WORDS = tuple(
    name for name in PARTS if name not in ("config.json", "generation_config.json", "hf_quant_config.json")
)
ADAPTER_PARTS = ("adapter_config.json", "adapters.safetensors")
BLOCK = 8 * 1024 * 1024


def fingerprint(
    folder: Path,
    *,
    adapter: Path | None = None,
    dtype: str = "",
    cache_format: int = CACHE_FORMAT,
    known: Path | None = None,
    report: Callable[[float], None] | None = None,
) -> str:
    """Hex sha256 over the contents of everything that decides what a KV cache means.

    Args:
        folder: the model folder: weights, config (quantisation and RoPE are in it), tokenizer and chat template.
        adapter: a LoRA folder laid over it.
        dtype: what the weights are computed in, where that differs from the files.
        known: a JSON file that remembers content hashes of large files; made when missing.
        report: called with the share of bytes hashed, 0..1.
    """
    memory = _Known(known)
    files = list(_files(folder, adapter))
    total = sum(path.stat().st_size for _, path in files) or 1
    done = 0
    whole = hashlib.sha256(f"soul-kv {cache_format} {dtype}\n".encode())
    for label, path in files:
        whole.update(f"{label} {memory.content(path)}\n".encode())
        done += path.stat().st_size
        if report is not None:
            report(done / total)
    memory.save()
    return whole.hexdigest()


def words_fingerprint(folder: Path) -> str:
    """Hex sha256 over tokenizer and chat template: under the same one, ids mean the same to any weights."""
    whole = hashlib.sha256()
    for name in OF_WORDS:
        if (folder / name).is_file():
            whole.update(f"{name} {content_hash(folder / name)}\n".encode())
    return whole.hexdigest()


def _files(folder: Path, adapter: Path | None) -> Iterator[tuple[str, Path]]:
    """Labelled files in a fixed order. Labels, not paths: a moved model keeps its fingerprint."""
    for name in PARTS:
        if (folder / name).is_file():
            yield name, folder / name
    for path in sorted(folder.glob("model*.safetensors")):
        yield path.name, path
    if adapter is not None:
        for name in ADAPTER_PARTS:
            if (adapter / name).is_file():
                yield f"adapter/{name}", adapter / name


class _Known:
    """Content hashes by (path, size, modification time). A missing or torn memory costs time only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._hashes: dict[str, str] = {}
        self._fresh = False
        if path is not None:
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                self._hashes = {str(key): str(value) for key, value in stored.items()}
            except FileNotFoundError:
                log.debug("no_known_hashes", path=str(path))
            except (OSError, ValueError, AttributeError) as error:
                log.warning("known_hashes_unreadable", path=str(path), error=str(error))

    def content(self, path: Path) -> str:
        """xxh3-128 of the file's bytes."""
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        if key not in self._hashes:
            self._hashes[key] = content_hash(path)
            self._fresh = True
        return self._hashes[key]

    def save(self) -> None:
        if self._path is None or not self._fresh:
            return
        live = {key: value for key, value in self._hashes.items() if Path(key.split("|")[0]).is_file()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(live, file)
            Path(name).replace(self._path)
        except OSError as error:
            # The next start hashes again; a model must not fail to load over this.
            log.warning("known_hashes_not_saved", path=str(self._path), error=str(error))


def content_hash(path: Path) -> str:
    """xxh3-128 of a file's bytes, hex."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
