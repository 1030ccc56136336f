"""The tokenizer that is taught with: what may be asked for is of the same tokens wherever it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from training.words import chat, tokenizer_bytes


@pytest.mark.parametrize("value", ["kanx", "Veltran", "harbour-docs", "4711", "notes/plan.md", "2027-03-01", "3.14.2"])
def test_a_value_is_of_the_same_tokens_in_a_sentence_and_in_a_call(value: str) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_bytes().decode("utf-8"))
    own = tokenizer.encode(value).ids
    for text in (f"It is {value}.", f'{{"query": "{value}"}}', f"({value})", f"{value}, then", f"{value}'s"):
        ids = tokenizer.encode(text).ids
        assert any(ids[at : at + len(own)] == own for at in range(len(ids))), text


def test_its_control_tokens_are_those_of_the_template(tmp_path: Path) -> None:
    made = chat(tmp_path)
    assert made.decode(made.turn("user", "Hello there.")).count("Hello there.") == 1
