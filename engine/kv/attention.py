"""Attention over sealed caches, for one context and for several that decode together.

mlx_lm's models all call `scaled_dot_product_attention`, which passes on to `quantized_scaled_dot_product_attention` of
the same module whenever the cache has `bits`. That one name is replaced; mlx_lm's own quantised caches still get the
original. A decode step multiplies with the packed blocks, on a CPU with blocks that are unpacked once for a reply; a
long query dequantises a layer and uses the fused kernel, which never holds the whole score matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_lm.models import base

from engine.backend import mx, on_cpu
from engine.kv.form import BLOCK, Form
from engine.kv.sealed import Extent, View, cast_to


def install() -> None:
    """Routes attention over our caches here. Safe to call again."""
    if getattr(base.quantized_scaled_dot_product_attention, "soul", False):
        return
    original: Any = base.quantized_scaled_dot_product_attention

    def routed(queries: Any, keys: Any, values: Any, scale: float, mask: Any, **how: Any) -> Any:
        if isinstance(keys, View):
            return attend(queries, keys, scale, mask)
        if isinstance(keys, RowsView):
            return keys.attend(queries, scale, mask)
        return original(queries, keys, values, scale=scale, mask=mask, **how)

    routed.soul = True  # pyright: ignore[reportFunctionMemberAccess]
    base.quantized_scaled_dot_product_attention = routed


def attend(queries: Any, view: View, scale: float, mask: Any) -> Any:
    """`(1, heads, n, head size)` queries at positions `view.offset` on; the result has their shape."""
    if mask is not None and not (isinstance(mask, str) and mask == "causal"):
        raise NotImplementedError("sealed caches know the causal mask only")
    count = int(queries.shape[2])
    if count == 1:
        return _step(queries, view, scale)
    return _long(queries, view, scale)


def _step(queries: Any, view: View, scale: float) -> Any:
    """One query. Softmax in float32 over packed blocks and exact tail; each block is summed by itself, then all."""
    # When this token sealed the block before it, the block is among the exact keys too: only its own block counts.
    own = (view.offset // BLOCK) * BLOCK - view.start
    keys, values = view.keys[..., own:, :], view.values[..., own:, :]
    form = view.form
    heads, size = int(keys.shape[1]), int(queries.shape[3])
    dtype = queries.dtype
    grouped = (queries * scale).reshape(1, heads, -1, size)
    exact = (grouped @ keys.swapaxes(-1, -2)).astype(mx.float32)
    if not view.extents:
        return (mx.softmax(exact, axis=-1).astype(dtype) @ values).reshape((*queries.shape[:3], values.shape[3]))
    scores = [_scores(grouped, one, form) for one in view.extents]
    sealed = (scores[0] if len(scores) == 1 else mx.concatenate(scores)).astype(mx.float32)
    top = mx.maximum(mx.max(sealed, axis=(0, 3), keepdims=True), mx.max(exact, axis=-1, keepdims=True))
    sealed, exact = mx.exp(sealed - top), mx.exp(exact - top)
    total = mx.sum(mx.sum(sealed, axis=-1, keepdims=True), axis=0, keepdims=True) + mx.sum(exact, -1, keepdims=True)
    weights, at = sealed.astype(dtype), 0
    parts: list[Any] = []
    for one in view.extents:
        share = weights if len(view.extents) == 1 else weights[at : at + one.blocks]
        parts.append(_sums(share, one, form))
        at += one.blocks
    summed = mx.sum((parts[0] if len(parts) == 1 else mx.concatenate(parts)).astype(mx.float32), 0, keepdims=True)
    out = (summed + (exact.astype(dtype) @ values).astype(mx.float32)) / total
    return out.astype(dtype).reshape((*queries.shape[:3], values.shape[3]))


def _scores(grouped: Any, one: Extent, form: Form) -> Any:
    """`(1, kv heads, group, head size)` queries times the keys of each block."""
    dtype = grouped.dtype
    if on_cpu():
        return grouped @ one.plain(form, dtype, keep=True)[0].swapaxes(-1, -2)
    packed = cast_to(dtype, one.keys)
    return mx.quantized_matmul(grouped, *packed, transpose=True, group_size=form.group, bits=form.key_bits)


def _sums(weights: Any, one: Extent, form: Form) -> Any:
    """`(blocks, kv heads, group, 256)` weights times the values of each block."""
    dtype = weights.dtype
    if on_cpu():
        return weights @ one.plain(form, dtype, keep=True)[1]
    packed = cast_to(dtype, one.values)
    return mx.quantized_matmul(weights, *packed, transpose=False, group_size=form.group, bits=form.value_bits)


def _long(queries: Any, view: View, scale: float) -> Any:
    """Several queries: block by block, each with the blocks before it dequantised and its own exact."""
    first, end = view.offset, view.offset + int(queries.shape[2])
    dtype = queries.dtype
    keys, values = _dequantised(view.form, view.extents, dtype) if view.extents else (None, None)
    outputs: list[Any] = []
    while first < end:
        boundary = first // BLOCK * BLOCK
        until = min(end, boundary + BLOCK)
        low, high = boundary - view.start, until - view.start
        own_keys, own_values = view.keys[..., low:high, :], view.values[..., low:high, :]
        if boundary and keys is not None and values is not None:
            own_keys = mx.concatenate([keys[..., :boundary, :], own_keys], axis=2)
            own_values = mx.concatenate([values[..., :boundary, :], own_values], axis=2)
        part = queries[..., first - view.offset : until - view.offset, :]
        outputs.append(
            mx.fast.scaled_dot_product_attention(
                part, own_keys, own_values, scale=scale, mask="causal" if until - first > 1 else None
            )
        )
        first = until
    return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=2)


def _dequantised(form: Form, extents: Sequence[Extent], dtype: Any) -> tuple[Any, Any]:
    """Keys and values of all sealed blocks, `(1, kv heads, tokens, head size)` each."""

    def side(whole: list[Any]) -> Any:
        blocks = whole[0] if len(whole) == 1 else mx.concatenate(whole)
        count, heads, _, size = blocks.shape
        return blocks.transpose(1, 0, 2, 3).reshape(1, heads, count * BLOCK, size)

    plain = [one.plain(form, dtype) for one in extents]
    return side([keys for keys, _ in plain]), side([values for _, values in plain])


class RowsView:
    """The views of several contexts in one decode step, one row of the batch each."""

    def __init__(self, views: Sequence[Any]) -> None:
        self._views = views

    def attend(self, queries: Any, scale: float, mask: Any) -> Any:
        """`(rows, heads, 1, head size)`; each row against its own context alone."""
        rows: list[Any] = []
        for row, view in enumerate(self._views):
            query = queries[row : row + 1]
            if isinstance(view, View):
                rows.append(attend(query, view, scale, None))
            else:
                rows.append(mx.fast.scaled_dot_product_attention(query, *view, scale=scale, mask=None))
        return mx.concatenate(rows)


class Rows:
    """One layer's caches of several contexts, as a model sees them in a joint decode step.

    No padding and no copying: the batch shares the products with the weights, and each row keeps its own cache, so
    that contexts join and leave at any step.
    """

    bits = 0
    group_size = 0

    def __init__(self, caches: Sequence[Any]) -> None:
        self._caches = caches
        self.offset = mx.array([cache.offset for cache in caches])

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[RowsView, RowsView]:
        views: list[Any] = []
        for row, cache in enumerate(self._caches):
            first, second = cache.update_and_fetch(keys[row : row + 1], values[row : row + 1])
            views.append(first if isinstance(first, View) else (first, second))
        view = RowsView(views)
        return view, view

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        return None

    def empty(self) -> bool:
        return False
