"""A context: token ids that are the truth, and the KV cache of a prefix of them.

Runs on the compute thread wherever the cache is touched. Knows how to cut, copy and measure caches of any kind that
mlx_lm makes; does not know why. The promise: `cached` is the number of leading `ids` that the cache holds, and it is
checked against the cache's own offset.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache

from engine.backend import mx


@dataclass(eq=False)
class Context:
    """One agent's working memory. Mutable: `ids` grow as tokens are drawn."""

    name: str
    ids: list[int] = field(default_factory=lambda: list[int]())
    cache: list[Any] | None = None
    """One entry per layer, as mlx_lm makes them; None when nothing is computed."""
    cached: int = 0
    busy: bool = False
    """A request is running on it; nobody else may change it."""
    used: int = 0
    """When it was last used, in requests since the engine opened."""

    def prepare(self, model: Any) -> None:
        """Makes the cache ready to compute the ids after `cached`; at least the last id is left to compute."""
        if not self.ids:
            raise ValueError("a context without ids cannot be computed")
        self.cut_cache(len(self.ids) - 1)
        if self.cache is None:
            self.cache = make_prompt_cache(model)
            self.cached = 0
        self.check()

    def cut_cache(self, length: int) -> None:
        """Cuts the cache back to `length` tokens; a cache that cannot be cut (sliding, recurrent) is dropped."""
        surplus = self.cached - length
        if surplus <= 0 or self.cache is None:
            return
        if length > 0 and can_trim_prompt_cache(self.cache) and _trim(self.cache, surplus) == surplus:
            self.cached = length
        else:
            self.drop_cache()

    def drop_cache(self) -> None:
        """Forgets what was computed; the ids stay and can be computed again."""
        self.cache = None
        self.cached = 0

    def advance(self, model: Any, ids: Sequence[int]) -> Any:
        """Computes `ids`, which follow the cached ones. Returns the lazy logits `(1, len(ids), vocabulary)`."""
        logits = model(mx.array(list(ids))[None], cache=self.cache)
        self.cached += len(ids)
        return logits

    def settle(self) -> None:
        """Computes what is lazy in the cache, so that nothing of a chunk is left to the next step."""
        mx.eval([layer.state for layer in self.cache or ()])
        self.check()

    def check(self) -> None:
        """The promise of this class. Recurrent layers have no offset of their own and are not asked."""
        offsets = {int(layer.offset) for layer in self.cache or () if isinstance(getattr(layer, "offset", None), int)}
        assert offsets <= {self.cached}, f"{self.name}: cache offsets {offsets}, tokens cached {self.cached}"
        assert self.cached <= len(self.ids), f"{self.name}: {self.cached} cached of {len(self.ids)} ids"

    def fork(self) -> Context:
        """A copy whose cache can be computed further without touching this one."""
        return Context(self.name, list(self.ids), copy.deepcopy(self.cache), self.cached)

    @property
    def trimmable(self) -> bool:
        """Whether the cache can be cut back, now and after it has grown (a rotating one cannot once it is full)."""
        return (
            self.cache is not None
            and can_trim_prompt_cache(self.cache)
            and not any(hasattr(layer, "max_size") for layer in self.cache)
        )

    @property
    def kv_bytes(self) -> int:
        """Bytes that the cache holds, spare room included."""
        return sum(int(layer.nbytes) for layer in self.cache or () if not layer.empty())


def _trim(cache: list[Any], surplus: int) -> int:
    """How many tokens were cut; mlx_lm annotates the list of all layers' counts, and returns the first one."""
    return cast(int, trim_prompt_cache(cache, surplus))


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading ids two sequences share."""
    shared = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        shared += 1
    return shared
