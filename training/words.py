"""The tokenizer that is taught with: the next seedling's, which comes into the package with its weights."""

from __future__ import annotations

from pathlib import Path

from mlx_lm.tokenizer_utils import load

from engine.chat import Chat
from engine.seedling.weights import CONFIG, describe

PLACE = Path(__file__).with_name("seedling") / "tokenizer.json"


def tokenizer_bytes() -> bytes:
    """The tokenizer as JSON."""
    return PLACE.read_bytes()


def chat(folder: Path) -> Chat:
    """Turns as ids; `folder` is where the tokenizer's files are put, for mlx_lm to load."""
    folder.mkdir(parents=True, exist_ok=True)
    describe(folder, CONFIG, {"name": folder.name}, tokenizer_bytes())
    return Chat(load(folder))
