"""The seedling: a whole model folder in the package, small, and honest about what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.engine import Engine, EngineConfig
from engine.errors import SoulError
from engine.seedling.weights import CONFIG, CONTEXT, NAME, NOTICE, describe, seedling


def test_it_is_small_and_its_window_can_fill() -> None:
    assert (seedling() / "model.safetensors").stat().st_size < 25_000_000
    assert CONTEXT >= 4_096


def test_its_folder_holds_what_the_code_says(tmp_path: Path) -> None:
    describe(tmp_path)
    for name in ("config.json", "tokenizer_config.json", "soul.json", "tokenizer.json"):
        assert (seedling() / name).read_bytes() == (tmp_path / name).read_bytes(), name
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_its_card_lies_with_it() -> None:
    card = (seedling() / "README.md").read_text(encoding="utf-8")
    assert "Licence" in card
    assert "Limits" in card


@pytest.mark.anyio
async def test_it_says_that_it_is_a_stand_in(tmp_path: Path) -> None:
    async with Engine.open(EngineConfig(tmp_path, model="seedling")) as engine:
        assert engine.info.name == NAME
        assert engine.info.trained
        assert not engine.info.trusted
        assert engine.info.notice == NOTICE
        assert 5_000_000 < engine.info.parameters < 20_000_000


@pytest.mark.anyio
async def test_torn_weights_are_told(tmp_path: Path) -> None:
    describe(tmp_path / "torn")
    whole = (seedling() / "model.safetensors").read_bytes()
    (tmp_path / "torn" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SoulError, match=r"model\.safetensors"):
        async with Engine.open(EngineConfig(tmp_path, model=str(tmp_path / "torn"))):
            pass
