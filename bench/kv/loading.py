"""Resuming and saving caches of real models' shapes, without weights: beside the raw read and mlx_lm's own files.

Everything ends when the first append to the resumed cache is evaluated. `cold` asks the kernel to forget the file
first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from mlx_lm.models.cache import KVCache, load_prompt_cache, save_prompt_cache

from bench.kv.shapes import KvShape
from engine.backend import mx
from engine.contexts import Context
from engine.kv.chain import Chain
from engine.kv.form import BLOCK, Form, form_for
from engine.kv.journal import Journal
from engine.kv.loading import restore
from engine.kv.saving import extract, save
from engine.kv.sealed import SealedCache
from engine.kv.shelf import Shelf


def made(shape: KvShape, form: Form, tokens: int) -> Context:
    """A context with random keys and values in half precision."""
    context = Context("agent", [(7 * n) % 4000 for n in range(tokens + 1)])
    context.chain = Chain("f" * 64, form.label)
    context.cache = [SealedCache(form) for _ in range(shape.layers)]
    grow(context, shape, tokens)
    return context


def grow(context: Context, shape: KvShape, tokens: int) -> None:
    """Computes no model: draws what the layers would have been given."""
    for layer in context.cache or ():
        for start in range(0, tokens, 2048):
            count = min(2048, tokens - start)
            size = (1, shape.kv_heads, count, shape.head_dim)
            layer.update_and_fetch(mx.random.normal(size).astype(mx.float16), mx.random.normal(size).astype(mx.float16))
            mx.eval(layer.state)
    context.cached += tokens


def forget(paths: list[Path]) -> None:
    """Asks the kernel to drop the pages of these files."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def timed(work: Callable[[], Any], repeats: int, before: Callable[[], None] | None = None) -> float:
    """Median seconds."""
    times: list[float] = []
    for _ in range(repeats):
        if before is not None:
            before()
        began = time.perf_counter()
        kept = work()
        times.append(time.perf_counter() - began)
        del kept
    return median(times)


def raw(paths: list[Path]) -> Any:
    """Reads the files into fresh memory with one call each: the least that any loader must do."""
    found: list[bytearray] = []
    for path in paths:
        buffer = bytearray(path.stat().st_size)
        with path.open("rb", buffering=0) as file:
            file.readinto(buffer)
        found.append(buffer)
    return found


def append_one(cache: list[Any], shape: KvShape) -> Any:
    """The first new token's keys and values, evaluated."""
    one = mx.zeros((1, shape.kv_heads, 1, shape.head_dim), mx.float16)
    for layer in cache:
        layer.update_and_fetch(one, one)
    mx.eval([layer.state if isinstance(layer, SealedCache) else (layer.keys, layer.values) for layer in cache])
    return cache


def run(shape: KvShape, tokens: int, repeats: int, home: Path) -> dict[str, Any]:
    """Resume and save figures of one shape. Times in seconds, sizes in bytes."""
    form = form_for("k8v4", shape.head_dim)
    shelf = Shelf(home / "kv", "f" * 64, form.label)
    shelf.open()
    context = made(shape, form, tokens)
    context.journal = Journal(shelf.home_of("agent") / "ids.log")
    context.journal.write(context.ids)
    manifest = save(shelf, extract(context))
    hot = [sum(extent.nbytes for extent in layer.extents) for layer in context.cache or ()]
    fp16 = 2 * shape.layers * shape.kv_heads * shape.head_dim * 2
    share = sum(hot) / ((context.cache or [])[0].sealed * fp16)
    files = [shelf.pool / ref.file for ref in manifest.blocks]
    files += [shelf.home_of("agent") / tail.file for tail in manifest.tails]
    ids, links = context.ids, context.chain.links(context.ids, tokens // BLOCK)  # type: ignore[union-attr]

    def resume() -> Any:
        again = Context("agent", ids)
        again.cache = [SealedCache(form) for _ in range(shape.layers)]
        again.restored = restore(shelf, "agent", ids, links, whole=False)
        again.attach()
        assert again.cached == tokens
        return append_one(again.cache, shape)

    plain = home / "plain.safetensors"

    def peers_cache() -> list[Any]:
        made_one: list[Any] = []
        for _ in range(shape.layers):
            layer = KVCache()
            size = (1, shape.kv_heads, tokens, shape.head_dim)
            layer.update_and_fetch(mx.random.normal(size).astype(mx.float16), mx.random.normal(size).astype(mx.float16))
            mx.eval(layer.keys, layer.values)
            made_one.append(layer)
        return made_one

    def save_theirs() -> float:
        theirs = peers_cache()
        return timed(lambda: save_prompt_cache(str(plain), theirs), max(1, repeats // 3))

    peer_save = save_theirs()
    mx.clear_cache()

    def load_theirs() -> Any:
        return append_one(load_prompt_cache(str(plain)), shape)

    figures: dict[str, Any] = {
        "shape": shape.name,
        "tokens": tokens,
        "file_bytes": sum(path.stat().st_size for path in files),
        "sealed_share_of_fp16": share,
        "mlx_lm_file_bytes": plain.stat().st_size,
    }
    for state in ("warm", "cold"):
        cold = (lambda: forget(files)) if state == "cold" else None
        cold_theirs = (lambda: forget([plain])) if state == "cold" else None
        figures[state] = {
            "raw_read_s": timed(lambda: raw(files), repeats, cold),
            "soul_s": timed(resume, repeats, cold),
            "mlx_lm_fp16_s": timed(load_theirs, repeats, cold_theirs),
        }
        figures[state]["soul_to_raw"] = figures[state]["soul_s"] / figures[state]["raw_read_s"]
        figures[state]["mlx_lm_to_soul"] = figures[state]["mlx_lm_fp16_s"] / figures[state]["soul_s"]
    figures["save"] = saving(shelf, context, shape, form, repeats, peer_save)
    plain.unlink()
    return figures


def saving(
    shelf: Shelf, context: Context, shape: KvShape, form: Form, repeats: int, peer_save: float
) -> dict[str, Any]:
    """A turn of 512 tokens behind the saved ones: what the compute thread and the writer spend, and the bytes."""
    extracting: list[float] = []
    writing: list[float] = []
    written = 0
    for _ in range(repeats):
        context.refs = list(shelf.manifest("agent").blocks)  # type: ignore[union-attr]
        grow(context, shape, 512)
        context.ids.extend((3 * n) % 4000 for n in range(512))
        before = shelf.written
        began = time.perf_counter()
        snapshot = extract(context)
        extracting.append(time.perf_counter() - began)
        began = time.perf_counter()
        save(shelf, snapshot)
        writing.append(time.perf_counter() - began)
        written = shelf.written - before
    pairs = shape.layers * shape.kv_heads * shape.head_dim
    tail = context.cached - (context.cache or [])[0].sealed
    least = 512 * pairs * form.value_pair_bytes() + tail * pairs * 4
    # The whole context anew, as a format without append has to.
    context.refs = []
    whole = timed(lambda: save(shelf, extract(context)), 1, lambda: _gone(shelf))
    return {
        "turn_tokens": 512,
        "context_tokens": context.cached,
        "compute_thread_s": median(extracting),
        "writer_s": median(writing),
        "written_bytes": written,
        "new_kv_and_tail_bytes": round(least),
        "written_to_new": written / least,
        "whole_file_s": whole,
        "mlx_lm_whole_fp16_s": peer_save,
        "share_of_whole": (median(extracting) + median(writing)) / whole,
    }


def _gone(shelf: Shelf) -> None:
    for path in shelf.pool.iterdir():
        path.unlink()
