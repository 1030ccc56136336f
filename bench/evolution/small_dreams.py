"""The stream's model and its dreams: the recipe of `evolution.training` and `evolution.holding`, by torch.

By torch because MLX's masked attention is slow on a CPU. Knows one model, its tasks and its measures; not how dreams
are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch.func import functional_call
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.evolution.small_model import CONFIG, texts
from bench.evolution.small_tasks import Stream, buffer
from bench.evolution.ways import Weights
from evolution.plastic import linear_names, plastic_names
from evolution.samples import Sample, batch_of
from evolution.tensors import Floats

Pairs = dict[str, tuple[Any, Any]]
"""Factors by weight."""


@dataclass(frozen=True)
class Numbers:
    """Of a dream. What holds on is what `evolution.holding` does by default."""

    rank: int = 16
    scale: float = 2.0
    rate: float = 5e-4
    batch: int = 8
    steps: int = 60
    hold: float = 20.0
    rows: int = 128
    length: int = 64
    rows_per_step: int = 8


class Small:
    """The anchor, its measures, and the dreams."""

    def __init__(self, base: Path, numbers: Numbers, count: int, stream: Stream, targets: str) -> None:
        torch.set_num_threads(1)
        self.folder, self.numbers = base, numbers
        self.anchor: Weights = load_file(str(base / "model.safetensors"))
        self.network: Any = LlamaForCausalLM(LlamaConfig(**CONFIG)).eval()
        self.network.requires_grad_(False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"))
        self.buffers = [buffer(task, stream, tokenizer) for task in range(count)]
        self.text = torch.from_numpy(texts()[1][:48]).long()
        self.names = plastic_names(self.anchor) if targets == "attention" else linear_names(self.anchor)
        self.put({})
        self.own, self.before = self._own_text()

    def put(self, weights: Mapping[str, Floats]) -> None:
        """Gives the measured network those weights, and the anchor's for the rest."""
        every = {name: torch.from_numpy(np.ascontiguousarray(weights.get(name, v))) for name, v in self.anchor.items()}
        self.network.load_state_dict(every, strict=False)

    def look(self, count: int) -> tuple[list[float], list[float]]:
        """Of the first tasks: held-out loss in nats per answer token, and the share of answers exact in every token."""
        losses: list[float] = []
        exact: list[float] = []
        with torch.no_grad():
            for one in self.buffers[:count]:
                ids, bounds = (torch.from_numpy(part).long() for part in batch_of(one.held_out))
                logits = self.network(ids[:, :-1]).logits
                counted = _counted(ids, bounds)
                losses.append(float(_mean(logits, ids, counted)))
                right = (logits.argmax(-1) == ids[:, 1:]) | ~counted
                exact.append(float(right.all(1).float().mean()))
        return losses, exact

    def perplexity(self) -> float:
        """Of the held-out text."""
        with torch.no_grad():
            logits = self.network(self.text[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.text[:, 1:].flatten())
        return math.exp(float(loss))

    def dream(
        self,
        samples: Sequence[Sample],
        seed: int,
        *,
        hold: bool,
        start: Mapping[str, Floats] | None = None,
        last: Pairs | None = None,
    ) -> Pairs:
        """The factors that a dream makes on `start`, else on the anchor; those of the `last` one are its beginning."""
        self.put(start or {})
        rng = torch.Generator().manual_seed(seed)
        numbers, state = self.numbers, self.network.state_dict()
        pairs: Pairs = {}
        for name in self.names:
            out, into = state[name].shape
            bound = 1 / math.sqrt(into)
            a = torch.rand(into, numbers.rank, generator=rng) * 2 * bound - bound
            b = torch.zeros(numbers.rank, out)
            if last:
                a, b = (half.clone() for half in last[name])
            pairs[name] = (a.requires_grad_(), b.requires_grad_())
        optimizer = torch.optim.Adam([half for pair in pairs.values() for half in pair], lr=numbers.rate)
        for _ in range(numbers.steps):
            chosen = torch.randint(len(samples), (numbers.batch,), generator=rng).tolist()
            weights = {name: state[name] + numbers.scale * (a @ b).T for name, (a, b) in pairs.items()}
            ids, bounds = (torch.from_numpy(part).long() for part in batch_of([samples[at] for at in chosen]))
            loss = _mean(functional_call(self.network, weights, (ids[:, :-1],)).logits, ids, _counted(ids, bounds))
            if hold:
                rows = torch.randperm(numbers.rows, generator=rng)[: numbers.rows_per_step]
                now = functional_call(self.network, weights, (self.own[rows],)).logits.log_softmax(-1)
                before = self.before[rows]
                loss = loss + numbers.hold * (before.exp() * (before - now)).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {name: (a.detach(), b.detach()) for name, (a, b) in pairs.items()}

    def delta(self, pairs: Pairs) -> Weights:
        """What the factors add to the weights."""
        return {name: (self.numbers.scale * (a @ b).T).numpy() for name, (a, b) in pairs.items()}

    def _own_text(self) -> tuple[Any, Any]:
        """(rows, length) ids that the anchor wrote, and its log-probabilities on them."""
        numbers = self.numbers
        torch.manual_seed(0)
        now = ids = torch.full((numbers.rows, 1), CONFIG["bos_token_id"])
        past: Any = None
        with torch.no_grad():
            for _ in range(numbers.length - 1):
                told = self.network(now, past_key_values=past, use_cache=True)
                past = told.past_key_values
                now = torch.multinomial(told.logits[:, -1].softmax(-1), 1)
                ids = torch.cat([ids, now], 1)
            return ids, torch.cat([self.network(some).logits.log_softmax(-1) for some in ids.split(32)])


def _counted(ids: Any, bounds: Any) -> Any:
    """(count, length) which positions are the answer's."""
    place = torch.arange(1, ids.shape[1])
    return (place >= bounds[:, :1]) & (place <= bounds[:, 1:])


def _mean(logits: Any, ids: Any, counted: Any) -> Any:
    """Nats per token of the answers."""
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses[counted.flatten()].mean()
