"""What the gate measures of one model: losses and answers on fixed probes, by the very folder that would be served.

Loads one model at a time, in the process of its command. Knows numbers; does not judge them (`evolution.gate` does).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.backend import mx, nn, on_cpu
from evolution.probes import FUNCTIONS, Pick, Probes
from evolution.samples import Sample
from evolution.tensors import Floats

LONGEST = 256
"""Tokens of an anchor text that are read."""
CALL_TOKENS = 48


@dataclass(frozen=True)
class Measures:
    """Losses in nats per token, shares 0..1. None: there was nothing to measure it on."""

    held_out: float | None
    perplexity: float
    canaries: float
    """Mean loss on the right answers."""
    refusals: float
    """Share in which the refusal is likelier than what was asked for."""
    tools: float
    """Share of prompts answered by one call of the right tool with its arguments."""
    kl: float = 0.0
    """KL(anchor ‖ this), mean over the positions of the anchor texts and the canaries."""


@dataclass(frozen=True)
class Looked:
    """Measures of the anchor and its log-probabilities, (positions, vocabulary), against which others are held."""

    measures: Measures
    logprobs: Sequence[Floats] = field(repr=False, default=())


def look(folder: Path, probes: Probes, held_out: Sequence[Sample], anchor: Looked | None = None) -> Looked:
    """Measures the model of a folder; without an `anchor` its log-probabilities are kept, being the anchor's own."""
    from mlx_lm.utils import load_model, load_tokenizer

    from engine.chat import Chat

    network: Any = load_model(folder)[0]
    if on_cpu():
        network.set_dtype(mx.float32)  # half precision runs at a sixtieth of the speed there
    network.eval()
    chat = Chat(load_tokenizer(folder), folder.name)
    start = chat.opening("")

    def asked(one: Pick) -> list[int]:
        return [*start, *chat.turn("user", one.prompt), *chat.reply_start()]

    texts = [[*start, *chat.encode(text)][:LONGEST] for text in probes.texts]
    answers = [(asked(one), chat.encode(one.answer)) for one in probes.canaries]
    logprobs = [_logprobs(network, ids) for ids in [*texts, *([*head, *tail] for head, tail in answers)]]
    text_losses = [_losses(some, ids) for some, ids in zip(logprobs, texts, strict=False)]
    canary_losses = [
        _losses(some, [*head, *tail])[-len(tail) :].mean()
        for some, (head, tail) in zip(logprobs[len(texts) :], answers, strict=True)
    ]
    refused = [
        _mean(network, asked(one), chat.encode(one.answer)) < _mean(network, asked(one), chat.encode(one.instead))
        for one in probes.refusals
    ]
    kl = 0.0
    if anchor is not None:
        kl = float(np.mean(np.concatenate([_kl(a, b) for a, b in zip(anchor.logprobs, logprobs, strict=True)])))
    measures = Measures(
        held_out=_held_out(network, held_out),
        perplexity=math.exp(min(700.0, float(np.concatenate(text_losses).mean()))),
        canaries=float(np.mean(canary_losses)),
        refusals=float(np.mean(refused)),
        tools=float(np.mean([_calls(network, chat, one) for one in probes.tools])),
        kl=kl,
    )
    return Looked(measures, logprobs if anchor is None else ())


def _logprobs(network: Any, ids: Sequence[int]) -> Floats:
    logits = network(mx.array([list(ids)]))[0].astype(mx.float32)
    return np.array(nn.log_softmax(logits, axis=-1))


def _losses(logprobs: Floats, ids: Sequence[int]) -> Floats:
    """Of each id but the first, given those before it."""
    return -logprobs[np.arange(len(ids) - 1), np.array(ids[1:])]


def _mean(network: Any, head: Sequence[int], tail: Sequence[int]) -> float:
    ids = [*head, *tail]
    return float(_losses(_logprobs(network, ids), ids)[-len(tail) :].mean())


def _kl(anchor: Floats, other: Floats) -> Floats:
    return np.sum(np.exp(anchor) * (anchor - other), axis=-1)


def _held_out(network: Any, samples: Sequence[Sample]) -> float | None:
    if not samples:
        return None
    losses = [_losses(_logprobs(network, one.ids), one.ids)[max(0, one.start - 1) :] for one in samples]
    return float(np.concatenate(losses).mean())


def _calls(network: Any, chat: Any, one: Pick) -> bool:
    """Whether the likeliest reply is one valid call of the tool that is wanted."""
    from mlx_lm.generate import generate_step

    functions = list(FUNCTIONS)
    ids = [*chat.opening("", functions), *chat.turn("user", one.prompt), *chat.reply_start()]
    drawn: list[int] = []
    for token, _ in generate_step(mx.array(ids), network, max_tokens=CALL_TOKENS):
        if int(token) in chat.stop_ids:
            break
        drawn.append(int(token))
    reply = chat.parse(chat.decode(drawn), functions)
    if reply.errors or len(reply.calls) != 1 or reply.calls[0].name != one.answer:
        return False
    wanted = next(f["function"]["parameters"] for f in functions if f["function"]["name"] == one.answer)
    given = reply.calls[0].arguments
    return all(isinstance(given.get(name), str) and given[name] for name in wanted["required"])
