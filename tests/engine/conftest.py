"""A model of random weights for all tests of the engine: written once per run, an engine is opened per test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.blas import preload
from engine.engine import Engine, EngineConfig
from tests.drawn import untrained

# Test modules that import mlx_lm by themselves would otherwise bring MLX in before its BLAS.
preload()


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield untrained(tmp_path_factory.mktemp("models"))


@pytest.fixture
async def engine(drawn_folder: Path, tmp_path: Path) -> AsyncIterator[Engine]:
    config = EngineConfig(tmp_path, model=str(drawn_folder), prefill_chunk=64)
    async with Engine.open(config) as opened:
        yield opened
