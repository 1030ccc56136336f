"""Clusters of the golden log: themes are found with their terms, and a picture is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from evolution.clusters import cluster
from tests.houses import embedder

pytest.importorskip("sklearn")

BEES = [f"How many bees live in the {place} hive, and is the honey ripe?" for place in ("north", "south", "old", "new")]
PORTS = [f"On which port does the {name} server listen?" for name in ("mail", "search", "login", "print", "chat")]


def test_two_themes_are_told_apart_by_their_terms_and_drawn(home: Path) -> None:
    texts = [*BEES, *PORTS]
    found = cluster(texts, embedder().embed(texts), home / "clusters.png")
    themes = [one for one in found if one.number > 0]
    assert [{texts[at] for at in one.members} for one in themes] == [set(PORTS), set(BEES)]
    assert "server" in themes[0].terms
    assert "honey" in themes[1].terms
    assert (home / "clusters.png").read_bytes().startswith(b"\x89PNG")


def test_too_few_exchanges_are_refused(home: Path) -> None:
    with pytest.raises(InvalidInput, match="too few"):
        cluster(PORTS[:3], embedder().embed(PORTS[:3]))
