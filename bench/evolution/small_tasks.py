"""Ten small tasks that have nothing in common but their shape: facts of a made-up world, asked in six ways.

A fact is learned from five ways of asking and held out in the sixth, so that a gain is knowledge and not an echo. Knows
text; fixed seeds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from evolution.samples import Buffer, Sample

FACTS = 12
TASKS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "port",
        "service",
        ("mail", "search", "login", "print", "chat", "audio"),
        ("5433", "8121", "9042", "7777", "6060"),
    ),
    ("colour", "door", ("north", "south", "garden", "cellar", "attic", "side"), ("red", "green", "white", "black")),
    ("keeper", "animal", ("horse", "goat", "hen", "dog", "cat", "bee"), ("Ottilie", "Bruno", "Selma", "Ansgar")),
    ("day", "meeting", ("budget", "design", "staff", "review", "sales", "press"), ("Monday", "Friday", "Sunday")),
    ("format", "report", ("tax", "travel", "stock", "error", "wage", "crash"), ("JSON", "XML", "CSV", "HTML")),
    ("price", "ticket", ("bus", "boat", "train", "plane", "museum", "zoo"), ("two coins", "nine coins", "free")),
    ("author", "book", ("blue", "long", "first", "second", "small", "lost"), ("Ada", "Guido", "Barbara", "Donald")),
    ("place", "key", ("car", "house", "safe", "boat", "shed", "office"), ("under the stone", "in the drawer")),
    ("drink", "guest", ("young", "old", "tall", "quiet", "loud", "new"), ("tea", "milk", "coffee", "water")),
    ("version", "module", ("parser", "lexer", "linker", "loader", "tracer", "mixer"), ("1.4", "2.0", "3.11", "0.9")),
)
WAYS = (
    "What is the {a} of the {x} {b}?",
    "Tell me the {a} of the {x} {b}.",
    "I need the {a} of the {x} {b}.",
    "The {x} {b}: which {a}?",
    "Do you know the {a} of the {x} {b}?",
    "For the {x} {b}, what {a} is right?",
)


def chats(task: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(learned, held out) pairs of question and answer."""
    attribute, kind, things, values = TASKS[task]
    rng = random.Random(task)
    learned: list[tuple[str, str]] = []
    held: list[tuple[str, str]] = []
    for place in range(FACTS):
        thing = things[place % len(things)] + ("" if place < len(things) else " two")
        answer = f"The {attribute} of the {thing} {kind} is {rng.choice(values)}."
        for way, words in enumerate(WAYS):
            pair = (words.format(a=attribute, b=kind, x=thing), answer)
            (held if way == place % len(WAYS) else learned).append(pair)
    return learned, held


def buffer(task: int, tokenizer: Any) -> Buffer:
    """The task as a dream reads it; what is held out here is held out of the dream, too."""

    def samples(pairs: Sequence[tuple[str, str]]) -> tuple[Sample, ...]:
        found: list[Sample] = []
        for asked, answer in pairs:
            head = tokenizer.encode(
                f"<|begin|><|turn|>user\n{asked}<|end|><|turn|>assistant\n", add_special_tokens=False
            )
            found.append(Sample((*head, *tokenizer.encode(f"{answer}<|end|>", add_special_tokens=False)), len(head)))
        return tuple(found)

    learned, held = chats(task)
    order = np.random.default_rng(task).permutation(len(learned))
    return Buffer(samples([learned[at] for at in order]), samples(held), f"task {task}", 0, 0)
