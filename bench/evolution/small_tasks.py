"""Ten small tasks, in two streams: facts of a made-up world, asked in six ways.

`apart`: each task has things of its own, and all answers share one form. `shared`: every task asks about the same
twelve things, of another property and answered in another form, so that nearly the same cue wants another answer: the
A-B, A-C lists with which forgetting is measured since Barnes and Underwood (1959), and in networks since McCloskey and
Cohen (1989). The question always names the property, so that one mind can hold all ten.

A fact is learned from five ways of asking and held out in the sixth, so that a gain is knowledge and not an echo. Knows
text; fixed seeds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from evolution.samples import Buffer, Sample

Stream = Literal["shared", "apart"]

FACTS = 12
APART: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
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
THINGS = (
    *("mail server", "search page", "login form", "print room", "chat line", "audio deck"),
    *("north door", "garden gate", "cellar lamp", "attic safe", "blue boat", "old train"),
)
SHARED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("port", ("5433", "8121", "9042", "7777", "6060"), "It listens on {v}."),
    ("colour", ("red", "green", "white", "black"), "Painted {v}, all of it."),
    ("keeper", ("Ottilie", "Bruno", "Selma", "Ansgar"), "Ask {v} about that."),
    ("day", ("Monday", "Friday", "Sunday"), "Each {v}, early in the morning."),
    ("format", ("JSON", "XML", "CSV", "HTML"), '{{"format": "{v}"}}'),
    ("price", ("two coins", "nine coins", "nothing"), "You pay {v} for that."),
    ("author", ("Ada", "Guido", "Barbara", "Donald"), "{v} made this long ago."),
    ("place", ("under the stone", "in the drawer", "by the river"), "Look {v}."),
    ("drink", ("tea", "milk", "coffee", "water"), "They serve {v} to guests."),
    ("version", ("1.4", "2.0", "3.11", "0.9"), "version = {v}"),
)
COUNT = 10
WAYS = (
    "What is the {a} of the {x}?",
    "Tell me the {a} of the {x}.",
    "I need the {a} of the {x}.",
    "The {x}: which {a}?",
    "Do you know the {a} of the {x}?",
    "For the {x}, what {a} is right?",
)


def chats(task: int, stream: Stream) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(learned, held out) pairs of question and answer."""
    rng = random.Random(task)
    learned: list[tuple[str, str]] = []
    held: list[tuple[str, str]] = []
    for place in range(FACTS):
        attribute, thing, answer = _shared(task, place, rng) if stream == "shared" else _apart(task, place, rng)
        for way, words in enumerate(WAYS):
            pair = (words.format(a=attribute, x=thing), answer)
            (held if way == place % len(WAYS) else learned).append(pair)
    return learned, held


def _shared(task: int, place: int, rng: random.Random) -> tuple[str, str, str]:
    attribute, values, form = SHARED[task]
    return attribute, THINGS[place], form.format(v=rng.choice(values))


def _apart(task: int, place: int, rng: random.Random) -> tuple[str, str, str]:
    attribute, kind, things, values = APART[task]
    thing = f"{things[place % len(things)]}{'' if place < len(things) else ' two'} {kind}"
    return attribute, thing, f"The {attribute} of the {thing} is {rng.choice(values)}."


def buffer(task: int, stream: Stream, tokenizer: Any) -> Buffer:
    """The task as a dream reads it; what is held out here is held out of the dream, too."""

    def samples(pairs: Sequence[tuple[str, str]]) -> tuple[Sample, ...]:
        found: list[Sample] = []
        for asked, answer in pairs:
            head = tokenizer.encode(
                f"<|begin|><|turn|>user\n{asked}<|end|><|turn|>assistant\n", add_special_tokens=False
            )
            found.append(Sample((*head, *tokenizer.encode(f"{answer}<|end|>", add_special_tokens=False)), len(head)))
        return tuple(found)

    learned, held = chats(task, stream)
    order = np.random.default_rng(task).permutation(len(learned))
    return Buffer(samples([learned[at] for at in order]), samples(held), f"task {task}", 0, 0)
