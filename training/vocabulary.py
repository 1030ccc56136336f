"""Names, things and values for examples, drawn from a seed, and split so that evaluation never meets a taught one.

Knows words only; does not know what an example is made of.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held_out"]


def _words(text: str) -> list[str]:
    return text.split()


ONSETS = _words("b br c ch d dr f g gr h j k kl l m n p pr r s sh st t tr v w y z")
VOWELS = _words("a e i o u ai ea io oa")
CODAS = ["", "", "l", "m", "n", "r", "s", "t", "nd", "rk", "x"]
HELD_OUT = 5
"""One word in so many is kept for the evaluation."""
FIELDS = _words("port deadline budget owner colour region release room licence host codename reviewer")
SUFFIXES = ("md", "py", "toml", "sql", "json", "txt")


def split_of(word: str) -> Split:
    """Where a drawn word belongs: decided by its own letters, so that the two sides can never share one."""
    return "held_out" if zlib.crc32(word.casefold().encode()) % HELD_OUT == 0 else "train"


@dataclass(frozen=True)
class Vocabulary:
    """Draws for one split. The same generator state gives the same draws."""

    rng: random.Random
    split: Split

    def name(self, syllables: int = 2) -> str:
        """A capitalised made-up name of this split."""
        while True:
            word = "".join(
                self.rng.choice(ONSETS) + self.rng.choice(VOWELS) + (self.rng.choice(CODAS) if last else "")
                for last in [False] * (syllables - 1) + [True]
            )
            if split_of(word) == self.split:
                return word.capitalize()

    def value(self) -> str:
        """A value to be copied: a number, a name or a file."""
        kind = self.rng.randrange(3)
        if kind == 0:
            return str(self.rng.randint(11, 99_999))
        return self.name() if kind == 1 else self.file()

    def file(self) -> str:
        """A file name of this split."""
        return f"{self.name().lower()}.{self.rng.choice(SUFFIXES)}"

    def field(self) -> str:
        """What a value is the value of; shared by both splits."""
        return self.rng.choice(FIELDS)
