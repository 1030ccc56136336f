"""mlx_lm itself as the judge of what the engine must answer, run on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def on_a_thread(work: Callable[[], T]) -> T:
    """MLX objects must not leave the thread that made them, and its streams must be ended before it ends."""
    results: list[T] = []

    def run() -> None:
        from engine.backend import mx

        try:
            results.append(work())
        finally:
            mx.synchronize()
            mx.clear_streams()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def greedy(folder: Path, prompt: Sequence[int], count: int) -> list[int]:
    """The next `count` ids that mlx_lm's own generator draws."""

    def work() -> list[int]:
        from mlx_lm.generate import generate_step
        from mlx_lm.utils import load_model

        from engine.backend import mx

        model, _ = load_model(folder)
        steps = generate_step(mx.array(list(prompt)), model, mx.default_stream(mx.default_device()), max_tokens=count)
        return [int(token) for token, _ in steps]

    return on_a_thread(work)


def mean_logprob(folder: Path, prompt: Sequence[int], option: Sequence[int]) -> float:
    """Of an option's tokens behind a prompt, computed in one piece without any cache."""

    def work() -> float:
        from mlx_lm.utils import load_model

        from engine.backend import mx

        model: Any = load_model(folder)[0]
        logits = model(mx.array([*prompt, *option])[None])[0].astype(mx.float32)
        table = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        return float(np.mean([table[len(prompt) - 1 + place, token] for place, token in enumerate(option)]))

    return on_a_thread(work)
