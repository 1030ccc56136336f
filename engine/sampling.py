"""How the next token is drawn from the logits.

Knows temperature, nucleus, top-k, min-p and seeds; knows nothing of contexts or caches. The filters are mlx_lm's. The
draw itself uses a key of its own per request, since requests that take turns must not disturb each other's seeds.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.grammar import CallGrammar


@dataclass(frozen=True)
class Sampling:
    """One request's wishes. `temperature` 0 is greedy and makes all but `max_tokens` and `stop_ids` idle."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means all."""
    min_p: float = 0.0
    seed: int | None = None
    """The same seed, ids and model give the same tokens; None draws one."""
    stop_ids: frozenset[int] = frozenset()
    """Ids that end the reply, beside the model's own."""
    calls: CallGrammar | None = None
    """What tool calls in the reply, or the whole of it, must look like."""

    def __post_init__(self) -> None:
        if self.max_tokens < 0:
            raise InvalidInput(f"max_tokens is {self.max_tokens}.", "Give 0 or more.")
        if not 0.0 <= self.temperature <= 10.0:
            raise InvalidInput(f"temperature is {self.temperature}.", "Give a value from 0 to 10.")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidInput(f"top_p is {self.top_p}.", "Give a value above 0, up to 1.")
        if not 0.0 <= self.min_p <= 1.0:
            raise InvalidInput(f"min_p is {self.min_p}.", "Give a value from 0 to 1.")
        if self.top_k < 0:
            raise InvalidInput(f"top_k is {self.top_k}.", "Give 0 (all) or more.")


def make_sampler(sampling: Sampling, vocabulary: int) -> Callable[[Any], Any]:
    """A function from log-probabilities `(1, vocabulary)` to a drawn id `(1,)`, both lazy MLX arrays."""
    from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler

    from engine.backend import mx

    if sampling.temperature == 0:
        return greedy_sampler
    key = mx.random.key(sampling.seed if sampling.seed is not None else secrets.randbits(63))

    def draw(logprobs: Any) -> Any:
        nonlocal key
        if sampling.top_p < 1.0:
            logprobs = apply_top_p(logprobs, sampling.top_p)
        if sampling.min_p > 0.0:
            logprobs = apply_min_p(logprobs, sampling.min_p)
        if 0 < sampling.top_k < vocabulary:
            logprobs = apply_top_k(logprobs, sampling.top_k)
        key, now = mx.random.split(key)
        return mx.random.categorical(logprobs / sampling.temperature, key=now)

    return draw
