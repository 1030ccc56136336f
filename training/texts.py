"""The texts that the seedling's tokenizer learns the shapes of words from: `python -m training.texts`.

The project's own prose and code, sentences from lists of common words, and scenes of the mixture. Writes
`engine/seedling/model/tokenizer.json`; run by hand, once per version of the seedling. The same texts give the same
bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.seedling.prose import ADJECTIVES, NOUNS, prose
from engine.seedling.template import CHAT_TEMPLATE
from engine.seedling.weights import FOLDER
from training.mixture import scene
from training.rendering import said
from training.scenes import functions
from training.tokenizer_maker import make, project_texts
from training.vocabulary import FIELDS, GLUE, TOPICS

ROOT = Path(__file__).parents[1]
PROJECT = ("README.md", "docs", "engine", "memory", "agents", "tools", "server")

VALUES = {*TOPICS, "red", "green", "blue", "white", "black", "unknown"}
"""Common words that are often what somebody asks for, or a part of it, or said in its place: so both are decided at the
same place, behind the same blank."""
COMMON = {*GLUE, *NOUNS, *ADJECTIVES, *(word for words in FIELDS.values() for word in words)} - VALUES
"""Words that are hardly ever a value, nor a part of one: a blank before them belongs to them."""


def taught(scenes: int) -> Iterator[str]:
    """Every text of so many scenes; what all openings share is in it once in ten."""
    for place in range(scenes):
        one = scene(f"texts {place}", "train", 2_000)
        if place % 10 == 0:
            yield one.system
        for line in one.lines:
            yield said(line) if line.role == "assistant" else line.text


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the seedling's tokenizer.")
    parser.add_argument("--scenes", type=int, default=6_000)
    parser.add_argument("--out", type=Path, default=FOLDER / "tokenizer.json")
    given = parser.parse_args()
    described = [one["function"]["description"] for one in functions().values()] * 20
    own = project_texts([ROOT / name for name in PROJECT])
    content = make([*own, *prose(), *taught(given.scenes), *described, *([CHAT_TEMPLATE] * 20)], COMMON)
    given.out.write_text(content, encoding="utf-8")
    sys.stderr.write(f"{given.out}: {len(content)} bytes\n")


if __name__ == "__main__":
    main()
