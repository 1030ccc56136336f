"""One layer's cache in the canonical form: sealed blocks and an exact tail.

A query at position p sees every block before its own in the sealed form and its own block exactly, so that what is
computed depends on positions alone: not on how a prompt was cut into chunks, and not on where a turn began. Blocks lie
one behind the other, `(blocks, kv heads, 256, ...)`, so that a file's blocks are used as they were read and new ones
are put beside them without copying. Sums over blocks run block by block, whatever arrays the blocks lie in.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_lm.models.cache import KVCache, create_attention_mask

from engine.backend import mx
from engine.kv.form import BLOCK, Form

MERGE_RATIO = 4
"""Neighbouring extents are put together when the later one has more than a fourth of the earlier one's blocks."""


@dataclass(frozen=True)
class Extent:
    """Some neighbouring sealed blocks. Each side is packed values, scales, biases, all `(blocks, kv heads, 256, …)`."""

    keys: tuple[Any, Any, Any]
    values: tuple[Any, Any, Any]
    _plain: list[Any] = field(default_factory=list, compare=False, repr=False)

    @property
    def blocks(self) -> int:
        return int(self.keys[0].shape[0])

    @property
    def nbytes(self) -> int:
        return sum(int(part.nbytes) for part in (*self.keys, *self.values))

    def plain(self, form: Form, dtype: Any, *, keep: bool = False) -> tuple[Any, Any]:
        """Keys and values unpacked, `(blocks, kv heads, 256, head size)` each; `keep`: until `rest`.

        They are kept for the steps of a reply on a CPU, where MLX multiplies with packed numbers ten times slower than
        with floats: a decode step of a small model would spend half of its time on it.
        """
        if self._plain:
            return self._plain[0], self._plain[1]
        keys, values = (
            mx.dequantize(*cast_to(dtype, part), group_size=form.group, bits=bits).astype(dtype)
            for part, bits in ((self.keys, form.key_bits), (self.values, form.value_bits))
        )
        if keep:
            self._plain.extend((keys, values))
        return keys, values

    def rest(self) -> None:
        """Lets go of what `plain` keeps."""
        self._plain.clear()

    def part(self, first: int, end: int) -> Extent:
        """Blocks `first` to `end`; the whole one is itself."""
        if first == 0 and end == self.blocks:
            return self
        return Extent(
            tuple(part[first:end] for part in self.keys),  # pyright: ignore[reportArgumentType]
            tuple(part[first:end] for part in self.values),  # pyright: ignore[reportArgumentType]
        )

    def arrays(self) -> dict[str, Any]:
        """By the names that files use."""
        sides = (("k", self.keys), ("v", self.values))
        return {f"{side}.{part}": array for side, parts in sides for part, array in zip("qsb", parts, strict=True)}

    @classmethod
    def of(cls, arrays: dict[str, Any]) -> Extent:
        """The reverse of `arrays`."""
        return cls(
            (arrays["k.q"], arrays["k.s"], arrays["k.b"]),
            (arrays["v.q"], arrays["v.s"], arrays["v.b"]),
        )


def cast_to(dtype: Any, packed: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Scales and biases in the compute dtype, where they are in another (on a CPU: half to single precision)."""
    values, scales, biases = packed
    if scales.dtype == dtype:
        return packed
    return values, scales.astype(dtype), biases.astype(dtype)


def merged(extents: Sequence[Extent]) -> Extent:
    """The blocks of all extents in one."""
    if len(extents) == 1:
        return extents[0]
    return Extent(
        tuple(mx.concatenate(parts) for parts in zip(*(one.keys for one in extents), strict=True)),  # pyright: ignore
        tuple(mx.concatenate(parts) for parts in zip(*(one.values for one in extents), strict=True)),  # pyright: ignore
    )


@dataclass(frozen=True)
class View:
    """What attention needs in one step: the sealed blocks, the exact keys and values, and where the step began."""

    form: Form
    extents: tuple[Extent, ...]
    """All sealed blocks, those included that this step sealed."""
    keys: Any
    values: Any
    """Exact, `(1, kv heads, n, head size)`, from the last boundary before the step on."""
    start: int
    """Position of the first exact key, a multiple of 256."""
    offset: int
    """Position of the first query."""


class SealedCache:
    """A layer's cache, as mlx_lm's models call it. `bits` routes attention to `engine.kv.attention`."""

    bits = 0
    group_size = 0

    def __init__(self, form: Form) -> None:
        self.form = form
        self.extents: list[Extent] = []
        self.offset = 0
        self.tail_keys: Any = None
        self.tail_values: Any = None
        """Buffers `(1, kv heads, 256, head size)`, filled up to `offset - sealed`."""

    @property
    def blocks(self) -> int:
        return sum(extent.blocks for extent in self.extents)

    @property
    def sealed(self) -> int:
        """Sealed tokens."""
        return self.blocks * BLOCK

    @property
    def tail(self) -> int:
        """Exact tokens."""
        return self.offset - self.sealed

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[View, View]:
        """Takes in `(1, kv heads, n, head size)`, and returns the same view twice, as mlx_lm wants two things."""
        start, offset, count = self.sealed, self.offset, int(keys.shape[2])
        used = self.tail
        if count == 1 and used < BLOCK:
            self._room(keys, values)
            self.tail_keys[..., used : used + 1, :] = keys
            self.tail_values[..., used : used + 1, :] = values
            exact_keys, exact_values = self.tail_keys[..., : used + 1, :], self.tail_values[..., : used + 1, :]
        else:
            exact_keys, exact_values = keys, values
            if used:
                exact_keys = mx.concatenate([self.tail_keys[..., :used, :], keys], axis=2)
                exact_values = mx.concatenate([self.tail_values[..., :used, :], values], axis=2)
            full = (used + count - 1) // BLOCK
            if full:
                self._seal(exact_keys[..., : full * BLOCK, :], exact_values[..., : full * BLOCK, :])
            self._keep(exact_keys[..., full * BLOCK :, :], exact_values[..., full * BLOCK :, :])
        self.offset = offset + count
        view = View(self.form, tuple(self.extents), exact_keys, exact_values, start, offset)
        return view, view

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        return create_attention_mask(N, offset=self.offset, return_array=return_array, window_size=window_size)

    def attach(self, extent: Extent) -> None:
        """Takes in sealed blocks that follow. Only while there is no tail."""
        assert self.tail == 0
        self.extents.append(extent)
        self.offset += extent.blocks * BLOCK

    def seal_full(self) -> None:
        """Seals a tail that is a full block, since what follows it is coming."""
        if self.tail == BLOCK:
            self._seal(self.tail_keys, self.tail_values)

    def attach_tail(self, keys: Any, values: Any) -> None:
        """Takes in exact tokens `(1, kv heads, 1 to 256, head size)` behind the sealed ones."""
        assert self.tail == 0
        self._keep(keys, values)
        self.offset += int(keys.shape[2])

    def cut(self, length: int) -> int:
        """Cuts back to `length` tokens, or to the boundary below where that lies in a sealed block; what is left."""
        if length < self.sealed:
            blocks = length // BLOCK
            self.extents = self.first_blocks(blocks)
            self.offset = blocks * BLOCK
        else:
            self.offset = min(self.offset, length)
        return self.offset

    def first_blocks(self, blocks: int) -> list[Extent]:
        """Extents with the first `blocks` blocks; arrays are shared, since sealed blocks never change."""
        return self.blocks_between(0, blocks)

    def blocks_between(self, first: int, end: int) -> list[Extent]:
        """Extents with blocks `first` to `end`."""
        found: list[Extent] = []
        at = 0
        for extent in self.extents:
            low, high = max(first - at, 0), min(end - at, extent.blocks)
            if low < high:
                found.append(extent.part(low, high))
            at += extent.blocks
        return found

    def fork(self) -> SealedCache:
        """A copy that can grow without touching this one; sealed blocks are shared."""
        other = SealedCache(self.form)
        other.extents = list(self.extents)
        other.offset = self.offset
        other.tail_keys, other.tail_values = copy.copy(self.tail_keys), copy.copy(self.tail_values)
        return other

    def rest(self) -> None:
        """Lets go of what was held for the steps of one request."""
        for extent in self.extents:
            extent.rest()

    def is_trimmable(self) -> bool:
        return False

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.offset == 0

    @property
    def state(self) -> list[Any]:
        """Everything that can be lazy, for `mx.eval`."""
        sealed = [part for extent in self.extents for part in (*extent.keys, *extent.values)]
        return [*sealed, *(part for part in (self.tail_keys, self.tail_values) if part is not None)]

    @property
    def nbytes(self) -> int:
        tails = (self.tail_keys, self.tail_values)
        return sum(one.nbytes for one in self.extents) + sum(int(one.nbytes) for one in tails if one is not None)

    def _room(self, keys: Any, values: Any) -> None:
        if self.tail_keys is None:
            self.tail_keys = mx.zeros((1, keys.shape[1], BLOCK, keys.shape[3]), keys.dtype)
            self.tail_values = mx.zeros((1, values.shape[1], BLOCK, values.shape[3]), values.dtype)

    def _keep(self, keys: Any, values: Any) -> None:
        """Makes these the tail."""
        count = int(keys.shape[2])
        if self.tail_keys is None:
            # One copy; zeros that are then written into would be two.
            rest = [(0, 0), (0, 0), (0, BLOCK - count), (0, 0)]
            self.tail_keys, self.tail_values = mx.pad(keys, rest), mx.pad(values, rest)
            return
        self.tail_keys[..., :count, :] = keys
        self.tail_values[..., :count, :] = values

    def _seal(self, keys: Any, values: Any) -> None:
        """Quantises whole blocks, once and for good."""
        form = self.form
        self.extents.append(
            Extent(_quantised(keys, form.key_bits, form.group), _quantised(values, form.value_bits, form.group))
        )
        # Few extents mean few products per decode step; merging by size copies each block a handful of times at most.
        while len(self.extents) > 1 and self.extents[-1].blocks * MERGE_RATIO > self.extents[-2].blocks:
            self.extents[-2:] = [merged(self.extents[-2:])]


def _quantised(values: Any, bits: int, group: int) -> tuple[Any, Any, Any]:
    """`(1, heads, n · 256, size)` to packed values, scales and biases, `(n, heads, 256, …)` each.

    Scales of float32 values (CPU) are kept in half precision, as those of a model in half precision are.
    """
    _, heads, tokens, size = values.shape
    if values.dtype == mx.float32:
        values = values.astype(mx.float16)
    blocks = values.reshape(heads, tokens // BLOCK, BLOCK, size).transpose(1, 0, 2, 3)
    packed, scales, biases = mx.quantize(blocks, group_size=group, bits=bits)
    return packed, scales, biases


class ExactCache(KVCache):
    """mlx_lm's own cache, with the few calls that saving and resuming need. Blocks exist on disk only."""

    @property
    def blocks(self) -> int:
        return max(0, self.offset - 1) // BLOCK

    def attach(self, keys: Any, values: Any) -> None:
        """Takes in exact blocks `(blocks, heads, 256, size)` that follow."""
        blocks, heads, _, _ = keys.shape
        flat = [part.transpose(1, 0, 2, 3).reshape(1, heads, blocks * BLOCK, part.shape[3]) for part in (keys, values)]
        self.attach_tail(*flat)

    def attach_tail(self, keys: Any, values: Any) -> None:
        """Takes in `(1, heads, n, size)` that follow."""
        self.update_and_fetch(keys, values)

    def cut(self, length: int) -> int:
        self.offset = min(self.offset, length)
        return self.offset

    def blocks_between(self, first: int, end: int) -> dict[str, Any]:
        """Blocks as files hold them."""
        found: dict[str, Any] = {}
        for name, whole in (("k", self.keys), ("v", self.values)):
            rows: Any = whole
            part = rows[0, :, first * BLOCK : end * BLOCK, :]
            found[name] = part.reshape(part.shape[0], end - first, BLOCK, part.shape[2]).transpose(1, 0, 2, 3)
        return found

    def fork(self) -> ExactCache:
        other = ExactCache()
        other.keys, other.values, other.offset = copy.copy(self.keys), copy.copy(self.values), self.offset
        return other
