"""The card of a corpus says what it is and never costs more than its budget."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.outfit import CARD_TOKENS, card, worn
from memory.corpora import CorpusInfo


def corpus(path: str = "/home/ada/orchard", folders: int = 2, terms: int = 24) -> CorpusInfo:
    return CorpusInfo(
        name="orchard",
        path=Path(path) if path else None,
        files=1_200,
        chunks=9_000,
        bytes=8_000_000,
        owed=12,
        indexed=datetime(2026, 11, 21, 10, 30, tzinfo=UTC),
        terms=tuple(f"telling{n}" for n in range(terms)),
        kinds=("Markdown 900", "Python 300"),
        sources=tuple(f"{'long' * 10}{n}/ 600" for n in range(folders)),
        mounted=True,
        skipped=(("picture.png", "binary"),),
        doubtful=(("old.txt", "not UTF-8"),),
    )


def tokens(text: str) -> int:
    return len(text) // 3


def test_the_card_tells_size_freshness_kinds_folders_terms_and_what_was_skipped():
    words = card(corpus())
    for part in (
        "1200 files",
        "2026-11-21 10:30",
        "Markdown 900",
        "600",
        "telling0",
        "12 passages",
        "png (binary)",
        "txt (not UTF-8)",
    ):
        assert part in words


@pytest.mark.parametrize("path", ["/home/ada/orchard", "/" + "deep/" * 100, "/" + "deep/" * 800, ""])
@pytest.mark.parametrize("folders", [0, 5, 50])
def test_what_an_agent_sees_stays_within_the_budget(path: str, folders: int):
    words = worn(corpus(path, folders), tokens)
    assert tokens(words) <= CARD_TOKENS
    assert words.startswith("orchard")


def test_an_ordinary_corpus_is_shown_whole():
    words = worn(corpus(), tokens)
    assert words.endswith("telling23")
    assert "in: " in words
