"""The tokenizer that is taught with: what may be asked for is of the same tokens wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from engine.seedling import weights
from engine.seedling.prose import prose
from engine.seedling.template import CHAT_TEMPLATE, CONTROL
from engine.seedling.weights import tokenizer_bytes
from training.tokenizer_maker import make
from training.words import chat


@pytest.mark.parametrize(
    "value", ["kanx", "Veltran", "harbour-docs", "4711", "notes/plan.md", "2027-03-01", "3.14.2", "unknown", "author"]
)
def test_a_value_is_of_the_same_tokens_in_a_sentence_and_in_a_call(value: str) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_bytes().decode("utf-8"))
    own = tokenizer.encode(value).ids
    for text in (f"It is {value}.", f'{{"query": "{value}"}}', f"({value})", f"{value}, then", f"{value}'s"):
        ids = tokenizer.encode(text).ids
        assert any(ids[at : at + len(own)] == own for at in range(len(ids))), text


def test_its_control_tokens_are_those_of_the_template() -> None:
    made = chat()
    assert made.decode(made.turn("user", "Hello there.")).count("Hello there.") == 1


def test_the_tokenizer_s_maker_gives_the_same_bytes_for_the_same_texts() -> None:
    texts = [*prose(12_000), CHAT_TEMPLATE, Path(weights.__file__).read_text(encoding="utf-8")]
    # Digits are never merged, so that many tokens take many words.
    letters = str.maketrans("0123456789", "abcdefghij")
    many = [*texts, *(f"{place * 7919 % 1_000_003}".translate(letters) for place in range(20_000))]
    first = make(many, ["the", "of"])
    assert first == make(many, ["of", "the", "platypus"]), "a word that is not of one token is no common word"
    added = json.loads(first)["added_tokens"]
    assert [token["content"] for token in added] == list(CONTROL)
    assert [token["id"] for token in added] == list(range(len(CONTROL)))


def test_too_few_texts_for_a_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="give more of them"):
        make(["too little"], ["the"])
