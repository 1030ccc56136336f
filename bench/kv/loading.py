"""Resuming and saving caches of real models' shapes, without weights: beside the raw read and mlx_lm's own files.

Everything ends when the first append to the resumed cache is evaluated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_lm.models.cache import KVCache, load_prompt_cache, save_prompt_cache

from bench.kv.shapes import KvShape
from bench.kv.timing import interleaved, spread
from engine.backend import mx
from engine.contexts import Context
from engine.kv.chain import Chain
from engine.kv.form import BLOCK, Form, form_for
from engine.kv.journal import Journal
from engine.kv.loading import restore
from engine.kv.saving import extract, save
from engine.kv.sealed import SealedCache
from engine.kv.shelf import Shelf

STATES = ("warm", "fresh", "cold")
"""`fresh`: MLX has no freed memory to load into, as in a new process. `cold`: nor has the kernel the file's pages."""


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


def before(state: str, paths: list[Path]) -> Callable[[], None]:
    """What comes before each load in one of the `STATES`."""

    def prepare() -> None:
        if state != "warm":
            mx.clear_cache()
        if state == "cold":
            forget(paths)

    return prepare


def run(shape: KvShape, tokens: int, repeats: int, home: Path) -> dict[str, Any]:
    """Resume and save figures of one shape. Times in seconds, sizes in bytes."""
    form = form_for("k8v4", shape.head_dim)
    shelf = Shelf(home / "kv", "f" * 64, form.label)
    shelf.open()
    context = made(shape, form, tokens)
    context.journal = Journal(shelf.home_of("agent") / "ids.log")
    context.journal.write(context.ids)
    manifest = save(shelf, extract(context))
    sealed = sum(extent.nbytes for layer in context.cache or () for extent in layer.extents)
    fp16 = 2 * shape.layers * shape.kv_heads * shape.head_dim * 2
    share = sealed / ((context.cache or [])[0].sealed * fp16)
    files = [shelf.pool / ref.file for ref in manifest.blocks]
    files += [shelf.home_of("agent") / tail.file for tail in manifest.tails]
    ids, links = context.ids, context.chain.links(context.ids, tokens // BLOCK)  # type: ignore[union-attr]
    figures: dict[str, Any] = {"shape": shape.name, "tokens": tokens, "sealed_share_of_fp16": share}

    def resume() -> Any:
        again = Context("agent", list(ids[: tokens + 1]))
        again.cache = [SealedCache(form) for _ in range(shape.layers)]
        again.restored = restore(shelf, "agent", again.ids, links, whole=False)
        again.attach()
        assert again.cached == tokens
        return append_one(again.cache, shape)

    plain = home / "plain.safetensors"
    save_prompt_cache(str(plain), peers_cache(shape, tokens))
    mx.clear_cache()

    def load_theirs() -> Any:
        loaded: Any = load_prompt_cache(str(plain))
        return append_one(loaded, shape)

    figures["file_bytes"] = sum(path.stat().st_size for path in files)
    figures["mlx_lm_file_bytes"] = plain.stat().st_size
    for state in STATES:
        ours, theirs = before(state, files), before(state, [plain])
        found: dict[str, Any] = interleaved(
            {
                "raw_read_s": (lambda: raw(files), ours),
                "soul_s": (resume, ours),
                "mlx_lm_fp16_s": (load_theirs, theirs),
            },
            repeats,
        )
        found["soul_to_raw"] = found["soul_s"]["median"] / found["raw_read_s"]["median"]
        found["mlx_lm_to_soul"] = found["mlx_lm_fp16_s"]["median"] / found["soul_s"]["median"]
        figures[state] = found
    plain.unlink()
    # Last, since a save replaces the tail that was resumed from.
    figures["save"] = saving(shelf, context, shape, form, repeats, home)
    return figures


def peers_cache(shape: KvShape, tokens: int) -> list[Any]:
    """mlx_lm's own cache of this shape, random, in half precision."""
    found: list[Any] = []
    for _ in range(shape.layers):
        layer = KVCache()
        size = (1, shape.kv_heads, tokens, shape.head_dim)
        layer.update_and_fetch(mx.random.normal(size).astype(mx.float16), mx.random.normal(size).astype(mx.float16))
        mx.eval(layer.keys, layer.values)
        found.append(layer)
    return found


def saving(shelf: Shelf, context: Context, shape: KvShape, form: Form, repeats: int, home: Path) -> dict[str, Any]:
    """A turn of 512 tokens behind the saved ones: what the compute thread and the writer spend, and the bytes.

    Beside it, in each round, the whole context written anew, and mlx_lm's file of a cache of that length.
    """
    tokens = context.cached
    first = shelf.manifest("agent")
    assert first is not None
    names = ("sealing_s", "compute_thread_s", "writer_s", "whole_file_s", "mlx_lm_fp16_s")
    times: dict[str, list[float]] = {name: [] for name in names}
    written = least = 0.0
    pairs = shape.layers * shape.kv_heads * shape.head_dim
    theirs = peers_cache(shape, tokens + 512)
    start = context.cache or []
    for _ in range(repeats):
        context.refs = list(first.blocks)
        # Sealed blocks cannot be cut open again, so that each round starts from a copy.
        context.cache, context.cached = [layer.fork() for layer in start], tokens
        grow(context, shape, 512)
        context.ids.extend((3 * n) % 4000 for n in range(512))
        before = shelf.written
        # A full tail is quantised once, now or with the next token: computing, which is no part of saving.
        began = time.perf_counter()
        for layer in context.cache or ():
            layer.seal_full()
            mx.eval(layer.state)
        times["sealing_s"].append(time.perf_counter() - began)
        began = time.perf_counter()
        snapshot = extract(context)
        extracted = time.perf_counter()
        save(shelf, snapshot)
        times["writer_s"].append(time.perf_counter() - extracted)
        times["compute_thread_s"].append(extracted - began)
        written = shelf.written - before
        tail = context.cached - (context.cache or [])[0].sealed
        least = (512 + tokens % BLOCK - tail) * pairs * form.value_pair_bytes() + tail * pairs * 4
        # As a format without append has to: all of it, under another name, so that the first save stays.
        context.refs = []
        began = time.perf_counter()
        whole = replace(extract(context), name="whole")
        save(shelf, whole)
        times["whole_file_s"].append(time.perf_counter() - began)
        shelf.drop("whole")
        began = time.perf_counter()
        save_prompt_cache(str(home / "theirs.safetensors"), theirs)
        sync(home / "theirs.safetensors")
        times["mlx_lm_fp16_s"].append(time.perf_counter() - began)
        del context.ids[tokens + 1 :]
        shelf.commit(first)
        shelf.sweep()
    (home / "theirs.safetensors").unlink()
    found: dict[str, Any] = {name: spread(one) for name, one in times.items()}
    return {
        "turn_tokens": 512,
        "context_tokens": tokens,
        **found,
        "written_bytes": int(written),
        "new_kv_and_tail_bytes": round(least),
        "written_to_new": written / least,
        "share_of_whole": (found["compute_thread_s"]["median"] + found["writer_s"]["median"])
        / found["whole_file_s"]["median"],
    }


def sync(path: Path) -> None:
    """Makes a peer's file as durable as ours."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
