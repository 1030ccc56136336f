"""What the seedling would be taught: repeatable, never shared with the evaluation, of the running house's form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlx_lm.tokenizer_utils import load as load_tokenizer

from engine.chat import Chat
from engine.seedling.weights import seedling
from training.examples import FACTS, INJECTIONS, QUESTIONS, UNKNOWN, examples
from training.rendering import rendered
from training.vocabulary import Split, split_of


def test_the_same_seed_gives_the_same_examples_and_another_gives_others() -> None:
    first = list(examples(50, 1, "train"))
    assert first == list(examples(50, 1, "train"))
    assert first != list(examples(50, 2, "train"))


def test_no_template_is_both_taught_and_asked_in_the_evaluation() -> None:
    for templates in (FACTS, QUESTIONS, INJECTIONS):
        assert not set(templates["train"]) & set(templates["held_out"])


def test_an_answer_stands_in_what_was_recalled_and_the_injection_s_value_is_not_it() -> None:
    for one in examples(200, 3, "held_out"):
        if one.kind in ("found", "refused"):
            value, _, source = one.reply.partition(" [")
            lines = [line for line in one.user.splitlines() if f"[{source}" in line]
            assert len(lines) == 1
            assert value in lines[0]
        elif one.kind == "not there":
            assert one.reply == UNKNOWN


def test_the_words_of_the_two_splits_never_meet() -> None:
    splits: tuple[Split, ...] = ("train", "held_out")
    for split in splits:
        stems = {stem for one in examples(300, 5, split) for stem in re.findall(r"\[([a-z]+)\.\w+:\d+\]", one.user)}
        assert len(stems) > 100
        assert {split_of(stem) for stem in stems} == {split}


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_only_the_reply_and_its_end_are_learned(tmp_path: Path, split: Split) -> None:
    chat = Chat(load_tokenizer(seedling(tmp_path)))
    for one in examples(10, 4, split):
        made = rendered(chat, one)
        said = [token for token, learned in zip(made.ids, made.learned, strict=True) if learned]
        assert len(made.ids) < 4096
        assert chat.decode(said).startswith(one.reply)
        assert said[-1] in chat.stop_ids
