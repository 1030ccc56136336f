"""Recommended models, by what a machine can hold. Figures only; loads and downloads nothing.

Names are those of MLX conversions on the public hub. Bytes are the parameters at their bits plus the groups' scales and
biases (half a bit each at groups of 64), which is what the files weigh to within 2 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.budget import GREEN, WORKING_BYTES, usable

Use = Literal["general", "code", "prose"]


@dataclass(frozen=True)
class Entry:
    """One recommended model."""

    repository: str
    title: str
    use: Use
    parameters: int
    """All of them; a mixture of experts computes fewer per token."""
    bits: int
    layers: int
    kv_heads: int
    head_dim: int
    context_tokens: int

    @property
    def bytes(self) -> int:
        """Weights on disk and in memory."""
        return round(self.parameters * (self.bits + 0.5) / 8)

    @property
    def kv_bytes_per_token(self) -> int:
        """fp16 keys and values of one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    def fits(self, memory_bytes: int, tokens: int = 8_192) -> bool:
        """Whether it stays in the green zone with this much context in fp16."""
        needed = self.bytes + WORKING_BYTES + min(tokens, self.context_tokens) * self.kv_bytes_per_token
        return needed <= GREEN * usable(memory_bytes)


def _entry(
    repository: str, title: str, use: Use, billions: float, bits: int, heads: tuple[int, int, int], context: int
) -> Entry:
    """`heads`: layers, key-value heads, size of a head."""
    return Entry(repository, title, use, round(billions * 1e9), bits, *heads, context)


CATALOGUE: tuple[Entry, ...] = (
    _entry(
        "mlx-community/Qwen2.5-Coder-1.5B-Instruct-4bit", "Qwen2.5 Coder 1.5B", "code", 1.544, 4, (28, 2, 128), 32_768
    ),
    _entry("mlx-community/Qwen3-4B-4bit", "Qwen3 4B", "general", 4.022, 4, (36, 8, 128), 40_960),
    _entry("mlx-community/Qwen3-8B-4bit", "Qwen3 8B", "general", 8.191, 4, (36, 8, 128), 40_960),
    # Five of six layers look back 1,024 tokens only, so that a long context costs a sixth of what the figures say.
    _entry("mlx-community/gemma-3-12b-it-4bit", "Gemma 3 12B", "prose", 11.766, 4, (48, 8, 256), 131_072),
    _entry("mlx-community/Qwen3-14B-4bit", "Qwen3 14B", "general", 14.768, 4, (40, 8, 128), 40_960),
    _entry("mlx-community/Codestral-22B-v0.1-4bit", "Codestral 22B", "code", 22.247, 4, (56, 8, 128), 32_768),
    _entry("mlx-community/Qwen3-30B-A3B-4bit", "Qwen3 30B, 3B active", "general", 30.532, 4, (48, 4, 128), 40_960),
    _entry(
        "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit", "Qwen2.5 Coder 32B", "code", 32.764, 4, (64, 8, 128), 32_768
    ),
    _entry("mlx-community/Qwen3-32B-4bit", "Qwen3 32B", "general", 32.762, 4, (64, 8, 128), 40_960),
    _entry(
        "mlx-community/Qwen2.5-Coder-32B-Instruct-8bit",
        "Qwen2.5 Coder 32B, 8 bits",
        "code",
        32.764,
        8,
        (64, 8, 128),
        32_768,
    ),
    _entry("mlx-community/Hermes-3-Llama-3.1-70B-4bit", "Hermes 3 70B", "general", 70.554, 4, (80, 8, 128), 131_072),
    _entry(
        "lmstudio-community/Hermes-4-70B-MLX-8bit", "Hermes 4 70B, 8 bits", "general", 70.554, 8, (80, 8, 128), 131_072
    ),
    _entry("mlx-community/magnum-v4-123b-4bit", "Magnum v4 123B", "prose", 122.610, 4, (88, 8, 128), 131_072),
    _entry(
        "mlx-community/Mistral-Large-Instruct-2407-4bit",
        "Mistral Large 2",
        "general",
        122.610,
        4,
        (88, 8, 128),
        131_072,
    ),
    _entry(
        "mlx-community/Mistral-Large-Instruct-2407-8bit",
        "Mistral Large 2, 8 bits",
        "general",
        122.610,
        8,
        (88, 8, 128),
        131_072,
    ),
    _entry("mlx-community/Qwen3-235B-A22B-4bit", "Qwen3 235B, 22B active", "general", 235.094, 4, (94, 4, 128), 40_960),
)
"""From small to large."""


def recommend(memory_bytes: int, use: Use | None = None) -> Entry | None:
    """The entry of most parameters, then bits, that stays green on a machine with this memory; None when none does.

    Without a `use` a general model is chosen before a special one.
    """
    fitting = [entry for entry in CATALOGUE if entry.fits(memory_bytes) and use in (None, entry.use)]
    general = [entry for entry in fitting if use is not None or entry.use == "general"]
    return max(general or fitting, key=lambda entry: (entry.parameters, entry.bits), default=None)
