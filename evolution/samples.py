"""The training buffer: chat samples in mlx-lm's JSON lines, checked, without doubles, split into training and held-out.

Knows the file and what makes a sample unusable; tokenises with the model's own chat template. Does not train.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput, NotFound
from evolution.suspicion import signs

LEAST = 8
"""Fewer different samples than this teach nothing that a held-out part could show."""
HELD_OUT = 0.1
PAD_TO = 32


@dataclass(frozen=True)
class Sample:
    """Token ids of one chat; the loss counts from `start`, where the last answer begins."""

    ids: tuple[int, ...]
    start: int
    id: str = ""
    """Hash of the chat, by which a gate knows what a dream has seen."""
    packets: tuple[str, ...] = ()
    """Ids of the memories it came from."""


@dataclass(frozen=True)
class Buffer:
    """What a dream learns from, and what it is judged by."""

    training: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    sum: str
    """Hash of the file's bytes."""
    doubles: int
    too_long: int
    """Left out because their prompt alone fills the length: a loss over no token is NaN."""
    signs: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of a spoilt buffer (`evolution.suspicion`)."""

    @property
    def tokens(self) -> int:
        """Ids in the training part."""
        return sum(len(one.ids) for one in self.training)


def read(path: Path, tokenizer: Any, *, longest: int, seed: int) -> Buffer:
    """Reads a buffer and splits it: which samples are held out depends on their text and the seed alone.

    Raises:
        NotFound: there is no such file.
        InvalidInput: a line is no chat, or too few samples are left.
    """
    raw, chats = _read(path)
    found, different = _tokenised(chats, tokenizer, longest, seed)
    if len(found) < LEAST:
        raise InvalidInput(
            f"{path} holds {len(found)} different usable samples of {len(chats)} lines, and {LEAST} are the least.",
            "Accept more memories into the golden log.",
        )
    found.sort(key=lambda one: one[0])
    held = max(2, round(HELD_OUT * len(found)))
    samples = [sample for _, sample in found]
    return Buffer(
        tuple(samples[held:]),
        tuple(samples[:held]),
        hashlib.sha256(raw).hexdigest(),
        len(chats) - different,
        different - len(found),
        signs(chats),
    )


def usable(path: Path, model: Path, longest: int = 1024) -> tuple[Sample, ...]:
    """Every sample of a buffer, for the tokenizer of a model's folder. Raises as `read`, but takes any number."""
    from mlx_lm.utils import load_tokenizer

    found, _ = _tokenised(_read(path)[1], load_tokenizer(model), longest, seed=0)
    return tuple(sample for _, sample in sorted(found, key=lambda one: one[0]))


def _read(path: Path) -> tuple[bytes, list[Mapping[str, Any]]]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"There is no training buffer {path}.", "Give one with --buffer.") from None
    return raw, _chats(raw, path)


def _tokenised(
    chats: Sequence[Mapping[str, Any]], tokenizer: Any, longest: int, seed: int
) -> tuple[list[tuple[bytes, Sample]], int]:
    """(rank, sample) of the chats that can be used, and how many different ones there are."""
    from mlx_lm.tuner.datasets import ChatDataset

    different = {json.dumps({"messages": chat["messages"]}, sort_keys=True): chat for chat in chats}
    dataset: Any = ChatDataset([], tokenizer, mask_prompt=True)
    found: list[tuple[bytes, Sample]] = []
    for words, chat in different.items():
        ids, start = dataset.process(chat)
        if start < min(len(ids), longest) - 1:
            rank = hashlib.sha256(f"{seed} {words}".encode()).digest()
            name = hashlib.sha256(words.encode()).hexdigest()[:32]
            packets = tuple(str(one) for one in chat["packets"])
            found.append((rank, Sample(tuple(int(id) for id in ids[:longest]), int(start), name, packets)))
    return found, len(different)


def _chats(raw: bytes, path: Path) -> list[Mapping[str, Any]]:
    chats: list[Mapping[str, Any]] = []
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            chat = json.loads(line)
            messages = chat["messages"]
            if messages[-1]["role"] != "assistant" or not all(str(one["content"]).strip() for one in messages):
                raise ValueError("the last message is no answer, or one is empty")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InvalidInput(
                f"{path}, line {number}, is no chat with an answer: {error}.",
                'A line is {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}.',
            ) from error
        chats.append({"messages": messages, "packets": chat.get("packets", ())})
    return chats


def batch_of(samples: Sequence[Sample]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(count, length) ids padded to a multiple of 32 and one, and (count, 2) bounds of what the loss counts."""
    longest = max(len(one.ids) for one in samples)
    ids = np.zeros((len(samples), 1 + PAD_TO * -(-longest // PAD_TO)), np.int32)
    for row, one in enumerate(samples):
        ids[row, : len(one.ids)] = one.ids
    # The loss of position p is that of the id at p, given those before it; the last id stands at len - 1.
    return ids, np.array([(max(1, one.start), len(one.ids) - 1) for one in samples], np.int32)


def batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Samples of like length together, so that little is padding."""
    ordered = sorted(samples, key=lambda one: (len(one.ids), one.ids))
    return [ordered[at : at + size] for at in range(0, len(ordered), size)]


def order(count: int, seed: int, first: int = 0) -> Iterator[int]:
    """Which batch each step takes, from step `first` on: a fresh permutation per round, the same for the same seed."""
    round_, skip = divmod(first, count)
    while True:
        permutation = np.random.default_rng((seed, round_)).permutation(count)
        yield from (int(one) for one in permutation[skip:])
        round_, skip = round_ + 1, 0
