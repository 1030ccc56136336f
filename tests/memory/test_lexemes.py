"""Words as the keyword half of recall counts them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from memory import lexemes
from memory.languages import LANGUAGES
from memory.lexemes import MAX_COUNT, MAX_QUERY_LEXEMES, count, lexeme, of_query, words


def test_forms_of_a_word_meet():
    assert list(words("Running runs")) == ["run", "run"]
    assert set(of_query("decisions")) == set(of_query("decision"))


def test_words_without_a_topic_are_left_out():
    assert list(words("What is the answer to this?")) == ["answer"]
    assert of_query("what is it that we do") == ()


def test_an_identifier_is_found_whole_and_by_its_parts():
    assert list(words("parseHTTPHeader")) == ["parsehttpheader", "pars", "http", "header"]
    assert list(words("max_tokens")) == ["max_tokens", "max", "token"]
    assert list(words("__init__")) == ["init"]


def test_numbers_and_versions_stay_whole():
    assert list(words("pgvector 0.8.5 needs 10,000 rows at 12:30")) == [
        "pgvector",
        "0.8.5",
        "need",
        "10000",
        "row",
        "12:30",
    ]


def test_accents_and_full_width_letters_do_not_hide_a_word():
    assert list(words("Café")) == list(words("cafe"))
    assert list(words("Ｓｏｕｌ")) == list(words("soul"))


def test_scripts_without_spaces_are_cut_into_pairs():
    assert list(words("我喜欢你 ok")) == ["我喜", "喜欢", "欢你", "ok"]


def test_a_lexeme_fits_a_postgres_integer_and_is_the_same_in_every_process():
    assert lexeme("soul") == -1_610_156_181
    assert -(2**31) <= lexeme("schema") < 2**31


def test_counts_end_where_a_posting_ends():
    counted = count("soul " * (MAX_COUNT + 10))
    assert counted.length == MAX_COUNT
    assert set(counted.by_lexeme.values()) == {MAX_COUNT}


def test_a_stem_that_two_languages_share_is_given_by_both():
    found = list(zip(*lexemes.in_each_language("entschieden"), strict=True))
    assert {(lexeme("entschied"), "german"), (lexeme("entschied"), "danish")} <= set(found)


def test_a_german_question_has_german_words_without_a_topic():
    assert set(lexemes.in_each_language("Was haben wir über die Hecke?")[0]) <= {lexeme(w) for w in forms_of("hecke")}
    english = set(lexemes.in_each_language("Did the hero die in the war?")[0])
    assert {lexeme("hero"), lexeme("die"), lexeme("war")} <= english


def forms_of(word: str) -> set[str]:
    return {next(words(word, language)) for language in LANGUAGES}


def test_a_pasted_document_becomes_a_bounded_question():
    assert len(of_query(" ".join(f"word{n}x" for n in range(1000)))) == MAX_QUERY_LEXEMES


def test_threads_agree():
    text = "Stemming in several threads at once must not mix their buffers. " * 50
    lexemes._stem.cache_clear()  # pyright: ignore[reportPrivateUsage] - so that every thread really stems
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: list(words(text)), range(8)))
    assert all(result == results[0] for result in results)


@given(st.text())
def test_any_text_can_be_counted(text: str):
    counted = count(text)
    assert counted.length <= sum(counted.by_lexeme.values()) or counted.length == MAX_COUNT
