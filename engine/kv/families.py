"""Which strategy each layer of a model gets: sealed blocks, exact blocks, or its whole state at turn boundaries.

A layer with a plain cache grows by appending and can be cut: it is kept in blocks, quantised where the model's
attention takes our caches, exact where it does not (multi-head latent attention, attention sinks). Anything else
(sliding windows, recurrent layers) cannot be cut back: its whole state is kept at each turn's end. Asked of the model
itself by a trial of a few tokens, not read off its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import structlog
from mlx_lm.models.cache import KVCache, make_prompt_cache

from engine.backend import mx
from engine.events import ModelInfo
from engine.kv.attention import Rows, install
from engine.kv.form import EXACT, Form
from engine.kv.sealed import ExactCache, SealedCache

log = structlog.get_logger()

Kind = Literal["sealed", "exact", "state"]
TRIAL = (1, 2, 3, 4, 5)
CLOSE = 0.05
"""Largest difference of trial logits, relative to their spread; half precision stays far below it."""


@dataclass(frozen=True)
class Family:
    """What was found out about a model."""

    form: Form
    """What its sealed layers use; EXACT where none is sealed."""
    kinds: tuple[Kind, ...]
    joint: bool
    """Whether several contexts can decode in one step."""

    @property
    def strategy(self) -> str:
        """In words, for status lines."""
        counts = {kind: self.kinds.count(kind) for kind in ("sealed", "exact", "state")}
        words = {"sealed": f"sealed blocks ({self.form.label})", "exact": "exact blocks", "state": "state at turn ends"}
        return ", ".join(f"{words[kind]} in {count} layers" for kind, count in counts.items() if count)

    @property
    def in_blocks(self) -> bool:
        """Whether every layer can be cut back and shared by prefix."""
        return "state" not in self.kinds

    def token_bytes(self, info: ModelInfo) -> int:
        """Bytes of cache per token in all layers; layers without blocks are counted as if they grew."""
        value_bytes = 2 if info.dtype in ("float16", "bfloat16") else 4
        pairs = info.layers * info.kv_heads * info.head_dim
        sealed = self.kinds.count("sealed") / max(1, len(self.kinds))
        return round(pairs * (sealed * self.form.value_pair_bytes(value_bytes) + (1 - sealed) * 2 * value_bytes))

    def make(self, network: Any) -> list[Any]:
        """Empty caches for a context."""
        return _caches(network, self.form, "sealed" in self.kinds)


def family_of(network: Any, form: Form) -> Family:
    """Tries `form` on the model, and what is next best where the model cannot take it. Runs on the compute thread."""
    install()
    plain = make_prompt_cache(network)
    blocks = [type(cache) is KVCache for cache in plain]
    wanted = _logits(network, plain)
    sealed = any(blocks) and not form.exact
    if sealed and not _same(network, form, wanted):
        log.info("kv_not_quantised", model=type(network).__module__, reason="its attention takes plain caches only")
        sealed = False
    kinds: tuple[Kind, ...] = tuple(("sealed" if sealed else "exact") if one else "state" for one in blocks)
    found = form if sealed else EXACT
    joint = all(blocks) and _joint(network, found, sealed, wanted)
    return Family(found, kinds, joint)


def _caches(network: Any, form: Form, sealed: bool) -> list[Any]:
    made: list[Any] = []
    for cache in make_prompt_cache(network):
        if type(cache) is not KVCache:
            made.append(cache)
        else:
            made.append(SealedCache(form) if sealed else ExactCache())
    return made


def _logits(network: Any, caches: list[Any]) -> Any:
    """Of the trial's last token, with a prefill and a decode step."""
    network(mx.array(TRIAL[:-1])[None], cache=caches)
    logits = network(mx.array(TRIAL[-1:])[None], cache=caches)
    return np.array(logits[0, -1].astype(mx.float32))


def _close(one: Any, other: Any) -> bool:
    spread = float(np.max(other) - np.min(other)) or 1.0
    return bool(np.all(np.isfinite(one))) and float(np.max(np.abs(one - other))) <= CLOSE * spread


def _same(network: Any, form: Form, wanted: Any) -> bool:
    try:
        caches = _caches(network, form, True)
        close = _close(_logits(network, caches), wanted)
        sizes = {int(part.shape[-1]) for one in caches if isinstance(one, SealedCache) for part in one.state}
        return close and all(size % form.group == 0 for size in sizes)
    except Exception as error:
        log.debug("kv_trial_failed", error=repr(error))
        return False


def _joint(network: Any, form: Form, sealed: bool, wanted: Any) -> bool:
    """Two contexts of different lengths in one step, the second of them the trial's."""
    try:
        first, second = _caches(network, form, sealed), _caches(network, form, sealed)
        network(mx.array(TRIAL[:2])[None], cache=first)
        network(mx.array(TRIAL[:-1])[None], cache=second)
        rows = [Rows(pair) for pair in zip(first, second, strict=True)]
        logits = network(mx.array([[TRIAL[2]], [TRIAL[-1]]]), cache=rows)
        return _close(np.array(logits[1, -1].astype(mx.float32)), wanted)
    except Exception as error:
        log.debug("kv_joint_trial_failed", error=repr(error))
        return False
