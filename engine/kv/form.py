"""What a KV cache looks like: blocks of 256 tokens, bits, groups. No MLX here.

Every full block that has a token behind it is quantised once and never again; what follows, up to 256 tokens, stays
exact. The same form is used in memory and on disk, so that leaving memory and coming back changes no token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.errors import InvalidInput

KvChoice = Literal["k8v4", "q8", "exact"]
BLOCK = 256
"""Tokens per sealed block."""
GROUPS = (64, 32)
"""Quantisation groups that MLX knows, best first. A head size must be a multiple of one."""


@dataclass(frozen=True)
class Form:
    """Bits per key and value in sealed blocks; 0 means the compute dtype. `group` values share a scale and a bias."""

    name: KvChoice
    key_bits: int
    value_bits: int
    group: int

    @property
    def exact(self) -> bool:
        """Whether nothing is quantised."""
        return self.key_bits == 0

    @property
    def label(self) -> str:
        """For file names and tables: `k8v4-g64`, `exact`."""
        return self.name if self.exact else f"{self.name}-g{self.group}"

    def value_pair_bytes(self, value_bytes: int = 2) -> float:
        """Bytes of one key value and one value value in a sealed block, scales and biases (2 bytes each) included."""
        if self.exact:
            return 2.0 * value_bytes
        return (self.key_bits + self.value_bits) / 8 + 2 * 2 * 2 / self.group


EXACT = Form("exact", 0, 0, 0)


def form_for(choice: KvChoice, head_dim: int) -> Form:
    """The form for a head size.

    Raises InvalidInput when no quantisation group divides the head size.
    """
    if choice == "exact":
        return EXACT
    group = next((group for group in GROUPS if head_dim % group == 0), None)
    if group is None:
        raise InvalidInput(
            f"A head size of {head_dim} cannot be quantised in groups of {' or '.join(map(str, GROUPS))}.",
            'Set `kv_format = "exact"` for this model.',
        )
    return Form(choice, 8, 4 if choice == "k8v4" else 8, group)


def sealed_blocks(tokens: int) -> int:
    """How many blocks are sealed when `tokens` are in the cache: those that are full and have a token behind them."""
    return max(0, tokens - 1) // BLOCK
