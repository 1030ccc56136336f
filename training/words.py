"""Turns as ids, by the tokenizer that lies in the package: what is taught is spelled as it is at work."""

from __future__ import annotations

from mlx_lm.tokenizer_utils import load

from engine.chat import Chat
from engine.seedling.weights import seedling


def chat() -> Chat:
    """The seedling's turns."""
    return Chat(load(seedling()))
