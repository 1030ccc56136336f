"""The two kinds of request that run on the compute thread: drawing a reply, and weighing given continuations.

Knows chunks, steps and stop conditions. Does not know who asked: events go to a callback, and what is true after the
last step (ids, cache, offset) is left in the context. Half a chunk or half a token is never left behind, whatever ends
the request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from engine.backend import mx
from engine.contexts import Context
from engine.events import Event, Finished, Prefill, Reason, Token
from engine.kv.attention import Rows
from engine.kv.families import Family
from engine.kv.form import BLOCK
from engine.sampling import Sampling, make_sampler


@dataclass(frozen=True)
class Model:
    """What a run needs of the loaded model; lives on the compute thread."""

    network: Any
    tokenizer: Any
    vocabulary: int
    stop_ids: frozenset[int]
    context_tokens: int
    chunk: int
    """Prefill tokens per step."""
    family: Family
    """How its caches are made, saved and computed together."""


@dataclass(eq=False)
class _Prefilling:
    """Feeds a context's ids to the model, chunk by chunk, up to but without the last one.

    Chunks end at multiples of the chunk size, so that a prompt that was broken off and one that was not are computed
    in the same pieces. Where loaded blocks lie further on, what is missing before them is computed, and no more.
    """

    model: Model
    context: Context
    last: int = 1
    """How many ids at the end are left to the decode step."""

    def chunk(self) -> bool:
        """Computes one chunk; False when none was left."""
        self.context.attach()
        at, end = self.context.cached, len(self.context.ids) - self.last
        if at >= end:
            return False
        span = max(self.model.chunk // BLOCK * BLOCK, min(self.model.chunk, BLOCK))
        stop = min(end, (at // span + 1) * span)
        if self.context.restored is not None:
            stop = min(stop, self.context.restored.next_start(at) or stop)
        self.context.advance(self.model.network, self.context.ids[at:stop])
        self.context.settle()
        mx.clear_cache()
        return True


@dataclass(eq=False)
class Generation:
    """Draws a reply, one token per step.

    `emit` gets the events but the last one; `settled` is called once at the end, with the error or with `Finished`.
    """

    model: Model
    context: Context
    sampling: Sampling
    emit: Callable[[Event], None]
    record: Callable[[], None]
    """Called on the compute thread when the ids are final, before `settled`."""
    settled: Callable[[Exception | None, Finished | None], None]
    phase: Literal["prefill", "decode"] = "prefill"
    cancelled: bool = False
    """Set from any thread; looked at before each step."""
    speech: list[int] = field(default_factory=lambda: list[int]())

    def __post_init__(self) -> None:
        self._prefilling = _Prefilling(self.model, self.context)
        self._prompt = len(self.context.ids)
        self._cached = -1
        self._prefill_s = self._decode_s = 0.0
        self._text: list[str] = []

    def step(self) -> bool:
        if self.cancelled:
            return self._finish("cancelled")
        started = time.perf_counter()
        if self.phase == "prefill":
            if self._cached < 0:
                self._open()
            more = self._prefilling.chunk()
            self._prefill_s += time.perf_counter() - started
            if more:
                self.emit(Prefill(self.context.cached - self._cached, self._prompt - self._cached))
            if self.context.cached < self._prompt - 1:
                return False
            self.phase = "decode"
            return self._finish("length") if self.sampling.max_tokens == 0 else False
        return self._heard(self._draw(), time.perf_counter() - started)

    def _heard(self, token: int, spent: float) -> bool:
        """Takes in a drawn token; `spent` are the seconds it took."""
        if len(self.speech) == 1:
            self._prefill_s += spent
            self.emit(Prefill(self._prompt - self._cached, self._prompt - self._cached))
        else:
            self._decode_s += spent
        return self._speak(token)

    @property
    def joins(self) -> bool:
        """Whether its next step can be computed together with others'."""
        return self.model.family.joint and self.phase == "decode" and not self.cancelled

    def step_with(self, others: Sequence[Generation]) -> list[bool]:
        """One token for this and the others in one pass over the weights; which of them are done, this one first.

        Each row attends to its own context. Only the products with the weights see several rows, which may round the
        last bit of a sum differently than one row alone.
        """
        started = time.perf_counter()
        runs = [self, *others]
        caches = [run.context.cache or [] for run in runs]
        rows = [Rows(layer) for layer in zip(*caches, strict=True)]
        logits = self.model.network(mx.array([[run.context.ids[-1]] for run in runs]), cache=rows)[:, -1, :]
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        drawn = [run.sampled(logprobs[row : row + 1]) for row, run in enumerate(runs)]
        mx.eval(drawn, [layer.state for cache in caches for layer in cache])
        spent = time.perf_counter() - started
        tokens = [int(token.item()) for token in drawn]
        for run, token in zip(runs, tokens, strict=True):
            run.context.cached += 1
            run.context.check()
            run.took(token)
        return [run._heard(token, spent) for run, token in zip(runs, tokens, strict=True)]

    def fail(self, error: Exception) -> None:
        # A step that raised may have left the cache of some layers ahead of others; only the ids are known to be true.
        self.context.drop_cache()
        self.record()
        self.settled(error, None)

    @property
    def prefill_rate(self) -> float | None:
        """Prompt tokens per second, when any were computed."""
        computed = self._prompt - max(self._cached, 0)
        return computed / self._prefill_s if computed > 1 and self._prefill_s > 0 else None

    @property
    def decode_rate(self) -> float | None:
        """Tokens per second after the first one."""
        return (len(self.speech) - 1) / self._decode_s if len(self.speech) > 1 and self._decode_s > 0 else None

    def _open(self) -> None:
        self.context.prepare(self.model.network, self.model.family)
        self._cached = self.context.cached
        self._sample = make_sampler(self.sampling, self.model.vocabulary)
        grammar, room = self.sampling.calls, self.model.context_tokens - self._prompt
        self._constraint = grammar.begin(min(self.sampling.max_tokens, room)) if grammar else None
        self._detokenizer = self.model.tokenizer.detokenizer

    def _draw(self) -> int:
        # The token is read at once instead of while the next step already runs (as mlx_lm's generator does), so that
        # a request which ends here has not computed a token too many into a cache that perhaps cannot be cut.
        logits = self.context.advance(self.model.network, self.context.ids[-1:])[:, -1, :]
        token = int(self.sampled(logits - mx.logsumexp(logits, axis=-1, keepdims=True)).item())
        self.context.settle()
        self.took(token)
        return token

    def sampled(self, logprobs: Any) -> Any:
        """A lazy id `(1,)`, drawn from log-probabilities `(1, vocabulary)`."""
        return self._sample(logprobs if self._constraint is None else self._constraint.over(logprobs))

    def took(self, token: int) -> None:
        """Takes in a drawn token."""
        self.context.ids.append(token)
        self.speech.append(token)
        if self._constraint is not None:
            self._constraint.took(token)

    def _speak(self, token: int) -> bool:
        """Emits the token's text; True when it was the last one."""
        if token in self.model.stop_ids or token in self.sampling.stop_ids:
            self._tell(token, last=True)
            return self._finish("stop")
        self._detokenizer.add_token(token)
        full = len(self.context.ids) >= self.model.context_tokens
        last = full or len(self.speech) >= self.sampling.max_tokens
        self._tell(token, last=last, silent=True)
        return self._finish("length") if last else False

    def _tell(self, token: int, *, last: bool, silent: bool = False) -> None:
        """Emits what text the token completed; with `silent`, also when it completed none."""
        if last:
            self._detokenizer.finalize()
        text = self._detokenizer.last_segment
        self._text.append(text)
        if text or silent:
            self.emit(Token(token, text))

    def _finish(self, reason: Reason) -> bool:
        self.context.check()
        self.context.rest()
        finished = Finished(
            reason=reason,
            text="".join(self._text),
            ids=tuple(self.speech),
            prompt_tokens=self._prompt,
            cached_tokens=max(self._cached, 0),
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
        )
        self.context.restored = None
        self.record()
        self.settled(None, finished)
        return True


@dataclass(eq=False)
class Choice:
    """Weighs given continuations of a context, one per step, and leaves the context's ids as they were.

    Each option's weight is the mean log-probability of its tokens; the answer is the softmax over the options.
    """

    model: Model
    context: Context
    prompt: Sequence[int]
    options: Sequence[Sequence[int]]
    answer: Callable[[list[float]], None]
    settled: Callable[[Exception | None], None]
    phase: Literal["prefill", "decode"] = "prefill"
    cancelled: bool = False

    def __post_init__(self) -> None:
        self._length = len(self.context.ids)
        self._scores: list[float] = []
        self._opened = False

    @property
    def joins(self) -> bool:
        """Never: options are of several tokens."""
        return False

    def step_with(self, others: Sequence[Any]) -> list[bool]:
        raise NotImplementedError("options are weighed one after the other")

    def step(self) -> bool:
        if self.cancelled:
            return self._close()
        if self.phase == "prefill":
            if not self._opened:
                self._open()
            if not self._prefilling.chunk():
                self._first = self._logprobs(self._work.ids[-1:])
                self.phase = "decode"
            return False
        self._scores.append(self._score(self.options[len(self._scores)]))
        if len(self._scores) < len(self.options):
            return False
        self.answer(_softmax(self._scores))
        return self._close()

    def fail(self, error: Exception) -> None:
        del self.context.ids[self._length :]
        self.context.drop_cache()
        self.context.lent = False
        self.settled(error)

    def _open(self) -> None:
        self._opened = True
        if self.context.cache is None and self.context.restored is not None and self.context.ids:
            self.context.prepare(self.model.network, self.model.family)
        if self.context.cache is not None and not self.context.trimmable:
            self._work = self.context.fork()
        else:
            self._work = self.context
            self._work.lent = True
        self._work.ids.extend(self.prompt)
        self._work.prepare(self.model.network, self.model.family)
        self._prefilling = _Prefilling(self.model, self._work)

    def _score(self, option: Sequence[int]) -> float:
        """Mean log-probability of the option's tokens. Its ids are in the cache only while it is weighed."""
        rows = [self._first[-1]]
        if len(option) > 1:
            work = self._work if self._work.trimmable else self._work.fork()
            base = work.cached
            work.ids.extend(option[:-1])
            logits = work.advance(self.model.network, option[:-1])
            rows.extend(_log_softmax(logits))
            work.cut_cache(base)
            del work.ids[base:]
        return float(np.mean([row[token] for row, token in zip(rows, option, strict=True)]))

    def _logprobs(self, ids: Sequence[int]) -> Any:
        logprobs = _log_softmax(self._work.advance(self.model.network, ids))
        self._work.settle()
        return logprobs

    def _close(self) -> bool:
        if self._opened:
            self._work.cut(self._length)
            self._work.check()
            self._work.rest()
        self.context.lent = False
        self.context.restored = None
        self.settled(None)
        return True


def _log_softmax(logits: Any) -> Any:
    """Lazy logits `(1, n, vocabulary)` to a float32 numpy array `(n, vocabulary)`."""
    logits = logits[0].astype(mx.float32)
    return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def _softmax(scores: Sequence[float]) -> list[float]:
    weights = np.exp(np.array(scores) - max(scores))
    return [float(weight) for weight in weights / weights.sum()]
