"""What the engine tells the rest of the house: events of a generation, and what model and state it is in.

Plain frozen data, light to import. Knows no MLX object and no thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Reason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Prefill:
    """`done` of `total` prompt tokens are in the cache; sent after each chunk and when the first token is there."""

    done: int
    total: int


@dataclass(frozen=True)
class Token:
    """One sampled id and the text that it completed (empty while a character is still incomplete)."""

    id: int
    text: str


@dataclass(frozen=True)
class Finished:
    """The end of a generation. `ids` are all sampled ids with the stop token; `text` is theirs without it."""

    reason: Reason
    text: str
    ids: tuple[int, ...]
    prompt_tokens: int
    """Length of the context when the first token was drawn."""
    cached_tokens: int
    """How many of them were in the cache already."""
    prefill_s: float
    """Seconds of computing, from the first chunk to the first token."""
    decode_s: float
    """Seconds of computing for the tokens after the first one."""


Event = Prefill | Token | Finished


@dataclass(frozen=True)
class ModelInfo:
    """What is loaded. Sizes in tokens, bytes and plain counts."""

    name: str
    path: Path
    fingerprint: str
    words: str
    """Hash of tokenizer and chat template: token ids hold for every model that has the same one."""
    parameters: int
    bytes: int
    """Bytes of weights in memory, in the dtype they are computed in."""
    layers: int
    kv_heads: int
    head_dim: int
    context_tokens: int
    """The longest context that a request may reach here: the model's, the setting's or the budget's, the smallest."""
    vocabulary: int
    dtype: str
    quantisation: str | None
    """`4 bits, groups of 64`, or None."""
    trained: bool
    """Whether its words mean anything."""
    trusted: bool
    """Whether its verdicts, plans and notebooks stand without a person: not those of a stand-in, trained or not."""
    notice: str
    """One sentence to show wherever the model's words are shown; empty for a real model."""


@dataclass(frozen=True)
class ContextStatus:
    """One context as it stands now."""

    name: str
    tokens: int
    cached_tokens: int
    kv_bytes: int
    running: bool
    lasting: bool = False
    """Whether it is saved after each turn."""
    saved_tokens: int = 0
    """How many computed tokens are on disk and need not be computed again."""
    disk_bytes: int = 0
    shared_tokens: int = 0
    """Tokens in blocks on disk that another context uses too."""
    save_error: str = ""
    """Why its latest turn is not durable; empty when it is, or is on its way."""


@dataclass(frozen=True)
class EngineStatus:
    """A snapshot of the engine for `status` and the dashboard."""

    queued: int
    """Requests that have not drawn their first token yet."""
    running: tuple[str, ...]
    """Contexts that generate now."""
    contexts: tuple[ContextStatus, ...]
    kv_bytes: int
    prefill_tokens_per_s: float | None
    """Of the last run that prefilled anything."""
    decode_tokens_per_s: float | None
    """Of the last run that drew more than one token."""
    blas: str
    device: str
    zone: Literal["green", "yellow", "red"]
    """How near the weights and caches are to the memory of this machine."""
    memory_limit_bytes: int
    kv_form: str = ""
    kv_strategy: str = ""
    kv_written_bytes: int = 0
    """Bytes of caches written to disk since the engine opened."""
    kv_error: str = ""
    """Why nothing can be saved at all; empty when it can."""
