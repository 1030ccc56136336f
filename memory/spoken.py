"""Vectors as text: how an embedding goes out to another agent and comes back as a question.

`<embedder's id>:<base64 of little-endian float16>`, so that a vector says whose it is.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memory.embedder import Embedder


def written(vector: NDArray[np.float32], embedder: str) -> str:
    """The text of a vector of shape (dimension,)."""
    return f"{embedder}:{base64.b64encode(np.asarray(vector, '<f2').tobytes()).decode()}"


def read(text: str, embedder: Embedder | None) -> NDArray[np.float32]:
    """The vector of a text, shape (dimension,), of length 1.

    Raises:
        InvalidInput: it is none, of another embedder, of another length, or has no direction.
    """
    if embedder is None:
        raise InvalidInput("No embedder is installed.", "Ask in words; `soul doctor` names the command.")
    name, separator, coded = text.strip().rpartition(":")
    if not separator or name != embedder.id:
        raise InvalidInput(
            f"The vector is of {name[:80] or 'no'} embedder; this memory speaks {embedder.id}.",
            "Pass a vector as recall gave it, or ask in words.",
        )
    try:
        raw = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("The vector is not base64.", "Pass it as recall gave it.") from None
    if len(raw) != 2 * embedder.dimension:
        raise InvalidInput(
            f"The vector has {len(raw) / 2:g} numbers, and {embedder.id} makes {embedder.dimension}.",
            "Pass it as recall gave it.",
        )
    vector = np.frombuffer(raw, "<f2").astype(np.float32)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise InvalidInput("The vector has no direction: it is zero or not finite.", "Pass it as recall gave it.")
    return vector / np.float32(length)
