"""What an embedder is: text in, unit vectors out.

Knows the seam that recall and the background embedding stand on, and which embedder is the default. Does not know how
any of them computes; `minilm` holds the one that ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class Embedder(Protocol):
    """One sentence model. Called from worker threads, several at a time; implementations keep no state per call."""

    @property
    def id(self) -> str:
        """Names the model, its weights and its pooling; vectors are compared only under the same id."""
        ...

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """What is longer than this, in the embedder's own tokens, is cut at its end before it is embedded."""
        ...

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimension), each of length 1.

        `query` says that the texts are questions: models trained with prefixes treat the two sides differently.
        """
        ...


def default_embedder() -> Embedder:
    """The embedder of the core install, MiniLM on numpy.

    Raises:
        MissingExtra: its weights are not installed; memory then works by keyword alone.
    """
    from memory.minilm import MiniLM

    return MiniLM.from_package()
