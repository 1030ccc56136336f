"""The extractive digest: a notebook without a model, made of passages that stand in the old one and in the window.

Deterministic and verbatim: nothing is said in other words. Knows which passages tell something (decisions, names,
numbers, dates, preferences); does not know why no model wrote it. What it would choose from is also what a model is
shown that writes the notebook itself (`candidates`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Source = Literal["notebook", "said", "answer"]

_CUE = re.compile(
    r"(?i)\b(decid|decision|agree|chose|choose|settled|must|never|always|prefer|wants?\b|likes?\b|hates?\b|favou?rite"
    r"|deadline|due\b|todo|to do|remember|important|my name|called|is at\b|open question|instead of"
    r"|entschied|beschlossen|beschluss|abgemacht|muss|müssen|immer|niemals?|bevorzug|möchte|lieber|heißt|heisst"
    r"|wichtig|merk|frist|termin|statt)"
)
_NUMBER = re.compile(r"\d")
_DATE = re.compile(
    r"(?i)\b\d{4}-\d\d|\d{1,2}[./]\d{1,2}[./]|\b(mon|tues|wednes|thurs|fri|satur|sun)day\b"
    r"|\b(january|february|march|april|june|july|august|september|october|november|december)\b"
    r"|\b(montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag)\b"
)
_NAME = re.compile(r"(?<=[\w,;:] )[A-ZÄÖÜ][\w-]{2,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-ZÄÖÜ0-9])")
LONGEST = 400
"""Characters of a passage; a longer one is cut, since an endless line would leave no room for anything else."""
_WEIGHT: dict[Source, float] = {"notebook": 2.0, "said": 1.0, "answer": 0.5}


@dataclass(frozen=True)
class Passage:
    """One line or sentence, where it comes from and its place in the order of time."""

    text: str
    source: Source
    place: int

    @property
    def weight(self) -> float:
        """How much it tells. A question tells what was not known; a name counts less than a date."""
        weight = _WEIGHT[self.source]
        weight += 1.5 * bool(_CUE.search(self.text))
        weight += 1.0 * bool(_NUMBER.search(self.text)) + 0.5 * bool(_DATE.search(self.text))
        weight += 0.25 * min(len(_NAME.findall(self.text)), 2)
        return weight - 1.5 * (self.text.endswith("?") and self.source != "notebook")


def digest(notebook: str, said: Sequence[tuple[Source, str]], budget: int, count: Callable[[str], int]) -> str:
    """The passages that tell most, in order, in at most `budget` tokens; "" where nothing fits or nothing was said.

    Those of the notebook come before those of the window; of two that tell as much, the later one stays.
    """
    passages = _passages([("notebook", notebook), *said])
    telling = [one for one in passages if one.source == "notebook" or one.weight > _WEIGHT[one.source]]
    return _text(_best(telling or passages, budget, count))


def candidates(
    notebook: str, said: Sequence[tuple[Source, str]], budget: int, count: Callable[[str], int]
) -> list[str]:
    """The notebook's lines and behind them, as items of a list, the passages of the window, for somebody who chooses.

    Of these, too, those that tell most, in order, in at most `budget` tokens; but also what tells nothing that this
    module knows, since who reads them knows better. Mere questions are left out.
    """
    passages = _passages([("notebook", notebook), *said])
    listed = [one if one.source == "notebook" else replace(one, text=f"- {one.text}") for one in passages]
    return [one.text for one in _best([one for one in listed if one.weight > 0], budget, count)]


def _best(passages: Sequence[Passage], budget: int, count: Callable[[str], int]) -> list[Passage]:
    """Those that tell most within the budget, in the order of time."""
    best = sorted(passages, key=lambda one: (-one.weight, -one.place))
    kept: list[Passage] = []
    used = 0
    for one in best:
        cost = count(one.text) + 1  # and its line break
        if used + cost <= budget:
            kept.append(one)
            used += cost
    # A text is not always the sum of its lines: some tokenizers join across them.
    while kept and count(_text(kept)) > budget:
        kept.pop()
    return sorted(kept, key=lambda one: one.place)


def _text(passages: Sequence[Passage]) -> str:
    return "\n".join(one.text for one in passages)


def _passages(texts: Sequence[tuple[Source, str]]) -> list[Passage]:
    found: list[Passage] = []
    seen: set[str] = set()
    for source, text in texts:
        for line in text.splitlines():
            # A notebook is made of lines; what was said, of sentences.
            for piece in [line.rstrip()] if source == "notebook" else _SENTENCE.split(line.strip()):
                key = "".join(filter(str.isalnum, piece)).casefold()
                if key and key not in seen:
                    seen.add(key)
                    found.append(Passage(_cut(piece), source, len(found)))
    return found


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition(" ")[0].rstrip() + " …" if " " in text[:LONGEST] else text[:LONGEST] + "…"
