"""A model of random weights for the tests of persistent caches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.blas import preload
from tests.drawn import untrained

preload()


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield untrained(tmp_path_factory.mktemp("models"))
