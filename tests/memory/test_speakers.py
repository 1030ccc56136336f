"""Who speaks in a text that says so itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.lexemes import count, lexeme, of_speakers
from memory.speakers import asked_for, labels


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Maria: I was at the shelter.", ["maria:"]),
        ("**Maria Lopez:** hello", ["maria:", "lopez:"]),
        ("[10:02] Jürgen: Guten Morgen", ["jürgen:"]),
        ("Dr. O'Hara: sit down", ["dr:", "o'hara:"]),
        ("李明: 你好", ["李明:"]),
    ],
)
def test_a_label_is_the_name_before_the_first_colon(text: str, name: list[str]):
    assert list(labels(text)) == name


@pytest.mark.parametrize(
    "text", ["no colon", "else: pass", "http://x", "Maria:thing", "12:30 it began", "He said that very thing: no", ""]
)
def test_what_is_no_name_is_no_label(text: str):
    assert labels(text) == ()


def test_a_question_means_a_speaker_by_name_or_by_possessive():
    assert {"maria:", "john:"} <= set(asked_for("What did Maria say to John's boss?"))
    assert "anna:" in asked_for("Was war Annas Meinung?")


def test_a_label_is_no_word_of_the_text():
    plain, labelled = count("Maria said hello"), count("Maria: said hello")
    assert labelled.length == plain.length
    assert set(labelled.by_lexeme) - set(plain.by_lexeme) == {lexeme("maria:")}
    assert lexeme("maria:") in of_speakers("who is maria?")


@given(st.text())
def test_any_text_may_have_a_label(text: str):
    assert len(labels(text)) <= 3
    assert all(label.endswith(":") for label in (*labels(text), *asked_for(text)))
