"""The tokenizer that is taught with: the next seedling's, which comes into the package with its weights.

Knows the files of a model folder beside the weights; does not know what is rendered with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import load

from engine.chat import Chat
from engine.seedling.weights import CONFIG, TOKENIZER_CONFIG

PLACE = Path(__file__).with_name("seedling") / "tokenizer.json"


def tokenizer_bytes() -> bytes:
    """The tokenizer as JSON."""
    return PLACE.read_bytes()


def write(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes config, tokenizer and template into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())
    for name, value in (("config.json", config), ("tokenizer_config.json", TOKENIZER_CONFIG)):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def chat(folder: Path) -> Chat:
    """Turns as ids; `folder` is where the tokenizer's files are put, for mlx_lm to load."""
    write(folder, CONFIG)
    return Chat(load(folder))
