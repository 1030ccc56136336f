"""The seedling for the tests of persistent caches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.blas import preload
from engine.seedling.weights import seedling

preload()


@pytest.fixture(scope="session")
def seedling_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield seedling(tmp_path_factory.mktemp("models"))
