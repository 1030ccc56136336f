"""Signs that a training buffer was spoilt: copies, contradictions, orders to the model, noise.

Knows text alone, so that it costs nothing and needs no model; what a spoilt buffer does to a model is the gate's to
measure. The signs are kept with the adapter, since the buffer itself may change.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|rules?|told|prompts?)\b"
    r"|\bsystem prompt\b|\byou (?:are now|must always|must never)\b|\bfrom now on\b|<\|\w+\|>",
    re.IGNORECASE | re.DOTALL,
)
WORD = re.compile(r"\w+")
ODD = re.compile(r"[a-z]\d|\d[a-z]|^[b-df-hj-np-tv-xz]{3,}$|[b-df-hj-np-tv-xz]{5,}", re.IGNORECASE)
"""A digit among letters, or consonants alone: rare in the words of any language written in Latin letters."""
ODD_SHARE = 0.4

MOST: Mapping[str, float] = {"copies": 0.5, "contradictions": 0.1, "orders": 0.02, "noise": 0.1}
"""Share of the samples that may show a sign. Copies teach one line alone; contradictions teach to guess; a single order
in fifty is no accident; a tenth of noise drowns what little a week has to say."""
WORDS: Mapping[str, str] = {
    "copies": "are copies of one another",
    "contradictions": "contradict another answer to the same question",
    "orders": "give orders to the model",
    "noise": "are noise",
}


def signs(chats: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of the chats that show each sign."""
    if not chats:
        return dict.fromkeys(MOST, 0.0)
    asked = ["\n".join(_plain(str(one["content"])) for one in chat["messages"][:-1]) for chat in chats]
    answered = [_plain(str(chat["messages"][-1]["content"])) for chat in chats]
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for question, answer in zip(asked, answered, strict=True):
        answers[question].add(answer)
    count = len(chats)
    return {
        "copies": 1 - len(set(zip(asked, answered, strict=True))) / count,
        "contradictions": sum(len(answers[question]) > 1 for question in asked) / count,
        "orders": sum(bool(ORDERS.search(f"{q}\n{a}")) for q, a in zip(asked, answered, strict=True)) / count,
        "noise": sum(map(_noise, answered)) / count,
    }


def suspicions(found: Mapping[str, float]) -> tuple[str, ...]:
    """What speaks against a buffer with these signs, in words."""
    return tuple(
        f"{found[name]:.0%} of the samples {WORDS[name]}; {limit:.0%} may."
        for name, limit in MOST.items()
        if found.get(name, 0.0) > limit
    )


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _noise(text: str) -> bool:
    words = WORD.findall(text)
    return bool(words) and sum(bool(ODD.search(word)) for word in words) / len(words) > ODD_SHARE
