"""What the seedling is taught: repeatable, never shared with the evaluation, of the running house's form."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import pytest

from agents import questions
from agents.planning import drawn
from agents.rewriting import made, request
from engine.chat import Chat
from training import phrases, sentences, words
from training.days import kept, quick, talk
from training.exchanges import REWRITE_BUDGET
from training.facts import Fact, fact, near
from training.mixture import MARKED, marked, scene
from training.rendering import before, rendered, said, tools_of
from training.scenes import stated
from training.vocabulary import Split, Vocabulary, split_of

SPLITS: tuple[Split, ...] = ("train", "held_out")


@pytest.fixture(scope="module")
def chat() -> Chat:
    return words.chat()


def test_the_same_seed_gives_the_same_scene_and_another_gives_another() -> None:
    assert scene("1", "train", 2_000) == scene("1", "train", 2_000)
    assert scene("1", "train", 2_000) != scene("2", "train", 2_000)


def test_no_phrase_is_both_taught_and_asked_in_the_evaluation() -> None:
    found = [one for one in vars(phrases).values() if isinstance(one, dict) and "held_out" in one]
    assert len(found) > 10
    for one in found:
        assert not set(one["train"]) & set(one["held_out"])


def test_no_sentence_that_is_put_together_is_one_of_the_evaluation() -> None:
    words = Vocabulary(random.Random("sentences"), "train")
    kept = [
        re.compile(re.sub(r"\\{[kKvfsS]\\}", ".+", re.escape(one)).removesuffix(r"\.") + r"\W?", re.IGNORECASE)
        for one in (*phrases.STATEMENTS["held_out"], *phrases.QUESTIONS["held_out"])
    ]
    assert kept[0].fullmatch("It was agreed that 12 shall be the port of Veltran.")
    for _ in range(3_000):
        made = sentences.statement(words, "port", "Veltran", "12"), sentences.request(words, "port", "Veltran")
        assert not any(one.fullmatch(sentence) for one in kept for sentence in made), made


def _frame(one: Fact) -> str:
    """Its sentence without its own words."""
    parts = (one.value, one.subject, sentences.capital(one.subject), one.field)
    return re.sub("|".join(map(re.escape, parts)), "", one.said)


def test_a_fact_near_another_says_its_own_value_and_in_many_cases_in_the_words_of_the_other() -> None:
    same = 0
    for seed in range(400):
        vocabulary = Vocabulary(random.Random(seed), "train")
        about = fact(vocabulary)
        for other in near(vocabulary, about, 2):
            assert other.value in other.said and other.field in other.said
            assert other.subject.lower() in other.said.lower()
            same += _frame(about) == _frame(other)
    assert same > 100, same


def test_a_quick_answer_cites_the_memory_that_says_it() -> None:
    cited = unknown = 0
    for place in range(40):
        one = quick(Vocabulary(random.Random(f"quick {place}"), "train"), 10)
        shown = one.lines[0].text
        for reply in one.lines[1::2]:
            if reply.text.endswith(" is unknown: my memories do not say it."):
                unknown += 1
                continue
            answer, _, where = reply.text.rpartition(" [")
            assert f" [{where}\n" in shown
            told = shown.split(f" [{where}\n", 1)[0].rsplit("]\n", 1)[-1]
            assert answer.removesuffix(".").split(" is ", 1)[1] in told
            cited += 1
    assert cited > 100
    assert unknown > 15


def test_what_is_asked_for_in_a_talk_was_told_in_it() -> None:
    answered = noted = unknown = 0
    for place in range(40):
        one = talk(Vocabulary(random.Random(f"talk {place}"), "train"), 8)
        said_before = one.system  # the notebook lies in it
        for asked, line in pairwise(one.lines):
            said_before += asked.text if asked.role == "user" else ""
            if asked.role != "user" or not line.text.startswith("The "):
                continue  # "Noted.", or what a tool was called for
            if line.text.endswith(" is unknown: my memories do not say it."):
                unknown += 1
            else:
                assert stated(line.text).removesuffix(".").split(" is ", 1)[1] in said_before
                answered += 1
                noted += line.text.endswith(" [notebook]")
    assert answered - noted > 60
    assert noted > 20
    assert unknown > 15


def test_a_notebook_keeps_what_was_told_and_noted_of_the_lines_of_its_request() -> None:
    lines = left_out = alone = 0
    for place in range(60):
        one = kept(Vocabulary(random.Random(f"kept {place}"), "train"), 10)
        right, (asked, answer) = one.right, one.lines[-2:]
        assert asked.text == request(REWRITE_BUDGET, right.listed)
        assert not right.listed or made(answer.text, right.listed) == "\n".join(right.keep)
        assert len(answer.text.splitlines()) == (len(right.listed) + 1 if right.listed else 1)
        assert not set(right.keep) & set(right.drop)
        lines += len(right.keep)
        left_out += len(right.listed) - len(right.keep)
        alone += len(one.lines) == 2
    assert lines > 150
    assert left_out > 150
    assert 15 < alone < 50


@pytest.mark.parametrize("split", SPLITS)
def test_the_words_of_the_two_splits_never_meet(split: Split) -> None:
    files = {
        stem
        for place in range(120)
        for line in scene(f"words {place}", split, 3_000).lines
        for stem in re.findall(r"\b([a-z]+)\.(?:md|toml|sql|csv)\b", line.text)
    }
    assert len(files) > 50
    assert {split_of(stem) for stem in files} == {split}


@pytest.mark.parametrize("kind", MARKED)
def test_what_is_right_follows_from_what_is_there(kind: str) -> None:
    for place in range(40):
        one = marked(kind, f"right {place}")
        asked, reply = "\n".join(line.text for line in one.lines[:-1]), said(one.lines[-1])
        assert one.lines[-1].role == "assistant"
        if kind == "not there":
            assert reply.endswith(" is unknown: my memories do not say it.")
        elif kind in ("found", "refused", "window", "notebook", "quoted"):
            assert one.right.value in f"{one.system}\n{asked}"
            assert one.right.value in reply
            assert not one.right.lure or (one.right.lure in asked and one.right.lure not in reply)
        elif kind == "rewrite":
            assert not one.right.listed or made(reply, one.right.listed) == "\n".join(one.right.keep)
            assert all(line in f"{one.system}\n{asked}" for line in one.right.keep)
            assert not set(one.right.keep) & set(one.right.drop)
        elif kind == "plan":
            assert len(drawn(reply)) >= 3
        elif one.right.options:
            assert reply.partition("\n")[0] == one.right.value
            assert one.right.options in (
                questions.REVIEW, questions.OBJECT, questions.MET, questions.MATTERS, questions.RATIFY,
            )  # fmt: skip


def test_a_call_is_taught_in_the_form_that_the_engine_reads(chat: Chat) -> None:
    calls = 0
    for place in range(60):
        one = marked("tool", f"calls {place}")
        call = one.lines[-1].call
        reply = chat.parse(said(one.lines[-1]), tools_of(one))
        assert not reply.errors
        if call:
            calls += 1
            assert [(found.name, found.arguments) for found in reply.calls] == [(call[0], dict(call[1]))]
            assert call[0] in one.tools
            wanted = next(tool for tool in tools_of(one) if tool["function"]["name"] == call[0])["function"]
            assert set(call[1]) <= set(wanted["parameters"]["properties"])
            assert set(wanted["parameters"].get("required", ())) <= set(call[1])
    assert calls > 20


@pytest.mark.parametrize("split", SPLITS)
def test_only_what_the_assistant_says_is_learned_and_the_ids_are_the_engine_s(chat: Chat, split: Split) -> None:
    for place in range(20):
        one = scene(f"ids {place}", split, 2_000)
        made = rendered(chat, one)
        learned = [token for token, its in zip(made.ids, made.learned, strict=True) if its]
        assert learned[-1] in chat.stop_ids
        text = chat.decode(learned)
        for line in one.lines:
            if line.role == "assistant":
                assert (json.dumps(dict(line.call[1]), ensure_ascii=False) if line.call else line.text) in text
        asked = before(chat, one, one.lines[:-1])
        assert list(made.ids[: len(asked)]) == asked
