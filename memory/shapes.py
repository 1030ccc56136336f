"""What decides the text of recall's statement: who is asked, by which vectors, and how much each thing counts.

Knows the settings of ranking and the numbering of parameters. Does not know the SQL that comes of them
(`memory.ranking`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Reach = Literal["worn", "named", "all"]
"""Lived memory and what the agent wears; one corpus by name; everything."""


@dataclass(frozen=True)
class Weights:
    """How much each thing counts; 0 turns it off. The defaults are tuned on conversations (bench/recall)."""

    semantic: float = 0.35
    """Share of meaning in the fusion, 0..1; the rest is keywords."""
    neighbours: float = 0.1
    """What each neighbour's own score adds."""
    borrowed: float = 0.5
    """What words of the question add that stand in a neighbour and not in the packet itself."""
    session: float = 0.35
    """What the best score in the same session, or file, adds."""
    resonance: float = 0.2
    """A packet of resonance 1 gains half of this, one of resonance 0 loses half of it."""
    recency: float = 0.1
    """What was lived now gains half of this, what was lived long ago loses half of it."""
    speaker: float = 0.4
    """What somebody said whom the question names gains this."""
    date: float = 0.5
    """What was lived on a day that the question names gains this."""
    half_life_days: float = 30.0
    """After this time recency has lost half of its way from gain to loss."""


@dataclass(frozen=True)
class Vectors:
    """Which vectors can be compared, and where an index holds them."""

    embedder: int
    """Key in the table `embedders`."""
    dimension: int
    indexed: frozenset[int] = frozenset()
    """Corpora with an HNSW index of their own."""
    whole: bool = False
    """Whether one HNSW index spans everything but the traffic."""

    def expression(self) -> str:
        """The indexed expression; a query must spell it alike."""
        return f"(near::halfvec({self.dimension}))"


@dataclass(frozen=True)
class Shape:
    """What decides the text of the statement; parameters are numbered in the order of `parameters`."""

    reach: Reach
    traffic: bool
    """Whether calls, results and events are looked at."""
    k: int
    filtered: bool
    vectors: Vectors | None
    """None: by words alone."""
    dated: bool = False
    """Whether the question names days."""
    weights: Weights = Weights()
    embeddings: bool = False
    """Whether the vectors of the hits are returned."""
    private: bool = False
    """Whether what must not leave the house is looked at; not where one corpus is named."""
    parameters: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = ["lexemes", "languages", "speakers"]
        if self.dated:
            names += ["first_days", "past_days"]
        if self.vectors is not None:
            names.append("vector")
        if self.reach != "all":
            names.append("who")
        if self.filtered:
            names += ["kinds", "since", "until", "min_resonance"]
        object.__setattr__(self, "parameters", tuple(names))

    def slot(self, name: str) -> str:
        """`$n` of a parameter."""
        return f"${self.parameters.index(name) + 1}"
