"""A context: token ids that are the truth, and the KV cache of a prefix of them.

Runs on the compute thread wherever the cache is touched. Knows how to cut, copy, measure and resume caches; does not
know why. The promise: `cached` is the number of leading `ids` that the cache holds, and it is checked against the
cache's own offset.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

from engine.backend import mx
from engine.kv.form import BLOCK
from engine.kv.loading import Piece, Restored, Tail
from engine.kv.manifest import BlockRef
from engine.kv.saving import Saver
from engine.kv.sealed import ExactCache, Extent, SealedCache, merged

if TYPE_CHECKING:
    from engine.kv.chain import Chain
    from engine.kv.families import Family
    from engine.kv.journal import Journal


@dataclass(eq=False)
class Context:
    """One agent's working memory. Mutable: `ids` grow as tokens are drawn."""

    name: str
    ids: list[int] = field(default_factory=lambda: list[int]())
    cache: list[Any] | None = None
    """One entry per layer, as the model's family makes them; None when nothing is computed."""
    cached: int = 0
    busy: bool = False
    """A request is running on it, or the engine is changing it; nobody else may."""
    changed: anyio.Event | None = None
    """Set when the change that the engine is making is done; None while it makes none."""
    used: int = 0
    """When it was last used, in requests since the engine opened."""
    lent: bool = False
    """The ids hold a question that will be taken out again; nothing is saved meanwhile."""
    chain: Chain | None = None
    """Names for the blocks; None when no disk is involved."""
    journal: Journal | None = None
    """The ids on disk; None for a context that ends with the process."""
    refs: list[BlockRef] = field(default_factory=lambda: list[BlockRef]())
    """Where the leading sealed blocks are on disk."""
    saved: int = 0
    """Computed tokens when it was last saved."""
    saver: Saver = field(default_factory=Saver)
    restored: Restored | None = None
    """What was loaded and not yet taken into the cache."""

    def prepare(self, network: Any, family: Family) -> None:
        """Makes the cache ready to compute the ids after `cached`; at least the last id is left to compute."""
        if not self.ids:
            raise ValueError("a context without ids cannot be computed")
        self.cut_cache(len(self.ids) - 1)
        if self.cache is None:
            self.cache = family.make(network)
            self.cached = 0
        self.attach()
        self.check()

    def attach(self) -> None:
        """Takes in what was loaded and goes on where the cache ends."""
        while self.restored is not None and self.cache is not None:
            tail = self.restored.tail
            piece = self.restored.at(self.cached)
            if piece is not None:
                self._attach_piece(piece)
            elif tail is not None and tail.blocks * BLOCK == self.cached:
                self._attach_tail(tail)
                self.restored = None
            else:
                return

    def _attach_piece(self, piece: Piece) -> None:
        for number, arrays in piece.layers.items():
            layer = self._layers[number]
            if isinstance(layer, SealedCache):
                layer.seal_full()
                layer.attach(Extent.of(arrays))
            else:
                layer.attach(arrays["k"], arrays["v"])
        if piece.ref is not None and (self.refs[-1].end if self.refs else 0) == piece.start:
            self.refs.append(piece.ref)
        self.cached += piece.count * BLOCK

    def _attach_tail(self, tail: Tail) -> None:
        for number, arrays in tail.layers.items():
            layer = self._layers[number]
            if isinstance(layer, SealedCache):
                layer.seal_full()
            layer.attach_tail(arrays["k"], arrays["v"])
        for number, state in tail.states.items():
            self._layers[number].state = state
        self.cached = tail.tokens

    @property
    def _layers(self) -> list[Any]:
        assert self.cache is not None
        return self.cache

    def cut(self, length: int) -> None:
        """Cuts ids and cache back to `length`."""
        self.cut_cache(length)
        del self.ids[length:]
        if self.chain is not None:
            self.chain.cut(length)
        if self.journal is not None:
            self.journal.cut(length)

    def cut_cache(self, length: int) -> None:
        """Cuts the cache back to `length` tokens, or to less where that lies in a sealed block.

        A cache that cannot be cut (sliding, recurrent) is dropped.
        """
        surplus = self.cached - length
        if surplus <= 0 or self.cache is None:
            return
        if length <= 0:
            self.drop_cache()
        elif all(isinstance(layer, SealedCache | ExactCache) for layer in self.cache):
            left = min(layer.cut(length) for layer in self.cache)
            self.cached = min(layer.cut(left) for layer in self.cache)
            kept = [ref for ref in self.refs if ref.start < self.cached // BLOCK]
            self.refs = [ref.part(ref.start, min(ref.end, self.cached // BLOCK)) for ref in kept]
            if self.cached == 0:
                self.drop_cache()
        elif can_trim_prompt_cache(self.cache) and _trim(self.cache, surplus) == surplus:
            self.cached = length
        else:
            self.drop_cache()

    def drop_cache(self) -> None:
        """Forgets what was computed; the ids stay, and the cache can be loaded or computed again."""
        self.cache = None
        self.cached = 0
        self.refs = []
        self.restored = None

    def advance(self, model: Any, ids: Sequence[int]) -> Any:
        """Computes `ids`, which follow the cached ones. Returns the lazy logits `(1, len(ids), vocabulary)`."""
        logits = model(mx.array(list(ids))[None], cache=self.cache)
        self.cached += len(ids)
        return logits

    def settle(self) -> None:
        """Computes what is lazy in the cache, so that nothing of a chunk is left to the next step."""
        mx.eval([layer.state for layer in self.cache or ()])
        self.check()

    def rest(self) -> None:
        """No request works on it for now: what was held beside the cache goes."""
        for layer in self.cache or ():
            if isinstance(layer, SealedCache):
                layer.rest()

    def check(self) -> None:
        """The promise of this class. Recurrent layers have no offset of their own and are not asked."""
        offsets = {int(layer.offset) for layer in self.cache or () if isinstance(getattr(layer, "offset", None), int)}
        assert offsets <= {self.cached}, f"{self.name}: cache offsets {offsets}, tokens cached {self.cached}"
        assert self.cached <= len(self.ids), f"{self.name}: {self.cached} cached of {len(self.ids)} ids"

    def fork(self) -> Context:
        """A copy whose cache can be computed further without touching this one; it is never saved."""
        layers = [layer.fork() if hasattr(layer, "fork") else copy.deepcopy(layer) for layer in self.cache or ()]
        return Context(self.name, list(self.ids), layers if self.cache is not None else None, self.cached)

    @property
    def trimmable(self) -> bool:
        """Whether the cache can be cut back to any length, now and after it has grown."""
        return self.cache is not None and all(isinstance(layer, ExactCache) for layer in self.cache)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the cache holds, spare room included."""
        return sum(int(layer.nbytes) for layer in self.cache or () if not layer.empty())


def lend(donor: Context, ids: Sequence[int]) -> list[Piece]:
    """The blocks that hold `ids` (whole blocks), for another context; sealed arrays are shared, not copied.

    Runs between two steps, so that the donor may be at work. Nothing where the donor has changed meanwhile.
    """
    blocks = len(ids) // BLOCK
    held = min((layer.blocks for layer in donor.cache or ()), default=0)
    if donor.cache is None or held < blocks or donor.ids[: len(ids)] != list(ids):
        return []
    layers: dict[int, dict[str, Any]] = {}
    for number, layer in enumerate(donor.cache):
        if isinstance(layer, SealedCache):
            extents = layer.blocks_between(0, blocks)
            layers[number] = (extents[0] if len(extents) == 1 else merged(extents)).arrays()
        else:
            layers[number] = layer.blocks_between(0, blocks)
    mx.eval(layers)
    return [Piece(0, blocks, None, layers)]


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
