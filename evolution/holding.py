"""Holding on: what keeps a dream near the model it begins on, wherever the golden log says nothing.

The model first writes some text of its own, at temperature 1; while it learns, the KL divergence of its predictions on
that text from what it predicted before is added to the loss (learning without forgetting: Li and Hoiem 2016; on text
that the model itself wrote: Huang et al. 2024, Magpie: Xu et al. 2024). So no text has to be brought along, it is of
the model's own language, and the gate's probes stay unseen. Knows networks with LoRA layers; not what is learned.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from numpy.typing import NDArray

from engine.backend import mx, nn
from engine.kv.tensors import replace_file

ROWS = 128
LENGTH = 64
"""Rows of own text and tokens in each: what is written once, before the first step."""
ROWS_PER_STEP = 8
FILE = "own-text.npy"


def heads(chat: Any) -> tuple[list[int], list[int]]:
    """Ids that own text begins with: the bare start of a text, and where a person's words begin."""
    opening: list[int] = chat.opening("")
    both = zip(*(chat.turn("user", words) for words in ("A", "B")), strict=False)
    asked = [*opening, *(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both))]
    return asked[:1], asked


def own_text(folder: Path, network: Any, starts: Sequence[Sequence[int]], seed: int) -> NDArray[np.int32]:
    """(ROWS, LENGTH) ids that the network wrote; written once into `folder`, so that a resumed dream reads the same."""
    path = folder / FILE
    if not path.is_file():
        share = ROWS // len(starts)
        rows = np.concatenate([_written(network, start, share, seed + at) for at, start in enumerate(starts)])
        whole = io.BytesIO()
        np.save(whole, rows)
        replace_file(path, [whole.getvalue()])
    found: NDArray[np.int32] = np.load(path)
    return found


def _written(network: Any, start: Sequence[int], count: int, seed: int) -> NDArray[np.int32]:
    cache = make_prompt_cache(network)
    ids = mx.array([list(start)] * count)
    drawn, key, now = [ids], mx.random.key(seed), ids
    for _ in range(LENGTH - len(start)):
        key, used = mx.random.split(key)
        now = mx.random.categorical(network(now, cache=cache)[:, -1].astype(mx.float32), key=used)[:, None]
        mx.eval(now)
        drawn.append(now)
    return np.array(mx.concatenate(drawn, axis=1)[:, :LENGTH], np.int32)


def chosen(rows: NDArray[np.int32], seed: int, step: int) -> Any:
    """(ROWS_PER_STEP, LENGTH) ids: which rows a step holds on to."""
    return mx.array(rows[np.random.default_rng((seed, step)).choice(len(rows), ROWS_PER_STEP, replace=False)])


def divergence(network: Any, ids: Any, before: Any) -> Any:
    """KL(before ‖ now) in nats, the mean over the positions of `ids`, (rows, length). `before`: `logprobs` of then."""
    now = nn.log_softmax(network(ids).astype(mx.float32), axis=-1)
    return (mx.exp(before) * (before - now)).sum(axis=-1).mean()


def logprobs(network: Any, ids: Any) -> Any:
    """What the network predicts without its adapters, (rows, length, vocabulary)."""
    with _bare(network):
        found = nn.log_softmax(network(ids).astype(mx.float32), axis=-1)
        mx.eval(found)
    return found


@contextmanager
def _bare(network: Any) -> Generator[None]:
    """The network as it was before it got adapters: their part counts nothing within the block."""
    layers = [one for one in network.modules() if "lora_a" in one]
    scales = [one.scale for one in layers]
    try:
        for one in layers:
            one.scale = 0.0
        yield
    finally:
        for one, scale in zip(layers, scales, strict=True):
            one.scale = scale
