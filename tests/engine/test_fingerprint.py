"""The fingerprint changes with everything that decides what a KV cache means, and with nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from engine import fingerprint as module
from engine.fingerprint import fingerprint
from tests.models import parrot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return parrot(tmp_path / "model", "Good morning.")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
)
def test_it_changes_with_each_file_that_matters(folder: Path, name: str) -> None:
    before = fingerprint(folder)
    path = folder / name
    data = bytearray(path.read_bytes() if path.exists() else b"{{ messages }}")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert fingerprint(folder) != before


def test_it_changes_with_quantisation_adapter_dtype_and_cache_format(folder: Path, tmp_path: Path) -> None:
    seen = {fingerprint(folder)}
    seen.add(fingerprint(folder, dtype="float32"))
    seen.add(fingerprint(folder, cache_format=2))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for rank in (8, 16):
        (adapter / "adapter_config.json").write_text(json.dumps({"rank": rank}))
        seen.add(fingerprint(folder, adapter=adapter))
    (adapter / "adapters.safetensors").write_bytes(b"other weights")
    seen.add(fingerprint(folder, adapter=adapter))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization": {"bits": 4, "group_size": 64}}))
    seen.add(fingerprint(folder))
    assert len(seen) == 7


def test_it_stays_when_the_model_moves_or_gets_a_note(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    moved = tmp_path / "moved to Übersee"
    shutil.copytree(folder, moved)
    (moved / "README.md").write_text("changed")
    (moved / "soul.json").write_text("{}")
    assert fingerprint(moved) == before


def test_files_are_hashed_once_and_again_when_they_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "models" / ".hashes.json"
    before = fingerprint(folder, known=known)
    read: list[str] = []
    whole = module.content_hash

    def noted(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(module, "content_hash", noted)
    assert fingerprint(folder, known=known) == before
    assert read == []
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    state = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert fingerprint(folder, known=known) != before
    assert read == ["model.safetensors"]


@pytest.mark.parametrize("content", ["", "not json", "[1, 2]"])
def test_a_torn_memory_of_hashes_costs_time_only(folder: Path, tmp_path: Path, content: str) -> None:
    known = tmp_path / ".hashes.json"
    known.write_text(content)
    assert fingerprint(folder, known=known) == fingerprint(folder)


def test_progress_is_told_by_bytes(folder: Path) -> None:
    shares: list[float] = []
    fingerprint(folder, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
