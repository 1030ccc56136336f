"""The seedling: the same bits everywhere, made whole or made anew, and honest about what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.budget import tensors
from engine.engine import Engine, EngineConfig
from engine.errors import Unavailable
from engine.fingerprint import content_hash
from engine.seedling.weights import NAME, NOTICE, WEIGHTS_HASH, seedling


@pytest.fixture(scope="module")
def seedling_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seedling(tmp_path_factory.mktemp("models"))


def test_its_weights_have_the_bits_that_the_code_names(seedling_folder: Path) -> None:
    assert content_hash(seedling_folder / "model.safetensors") == WEIGHTS_HASH


def test_it_is_small_and_shaped_like_llama(seedling_folder: Path) -> None:
    entries = tensors(seedling_folder / "model.safetensors")
    count = 0
    for entry in entries.values():
        size = 1
        for length in entry["shape"]:
            size *= length
        count += size
    assert count == 5_934_336
    assert {entry["dtype"] for entry in entries.values()} == {"F32"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_torn_one_is_made_anew(tmp_path: Path, name: str) -> None:
    folder = seedling(tmp_path)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    seedling(tmp_path)
    assert (folder / name).read_bytes() == whole
    (folder / name).unlink()
    assert (seedling(tmp_path) / name).read_bytes() == whole


def test_a_whole_one_is_left_alone_and_no_scraps_stay_behind(tmp_path: Path) -> None:
    folder = seedling(tmp_path)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert seedling(tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unavailable, match=r"cannot be written.*Make the folder writable"):
        seedling(tmp_path / "file" / "models")


@pytest.mark.anyio
async def test_it_says_that_its_words_mean_nothing(tmp_path: Path) -> None:
    async with Engine.open(EngineConfig(tmp_path, model="seedling")) as engine:
        assert engine.info.name == NAME
        assert not engine.info.trained
        assert engine.info.notice == NOTICE
        assert "untrained" in NOTICE
        assert engine.info.context_tokens == 8192


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unavailable):
        seedling(tmp_path)
    tmp_path.chmod(0o700)
