"""Random ids teach what they say they teach: nothing is to be learned that does not follow from what stood before."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from engine.chat import Chat
from training import words
from training.abstract import CITED, COPYING, abstract


@pytest.fixture(scope="module")
def chat() -> Chat:
    return words.chat()


def test_what_is_copied_stood_there_before(chat: Chat) -> None:
    for place in range(20):
        made = abstract(chat, COPYING, str(place))
        assert sum(made.learned) > len(made.ids) / 4
        pairs = list(zip(made.ids, made.ids[1:], strict=False))
        for at, learned in enumerate(made.learned[1:]):
            assert not learned or pairs[at] in pairs[:at]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_what_is_looked_up_has_one_answer(chat: Chat, level: int) -> None:
    the, of, be, end, unknown, mark = (chat.encode(word)[0] for word in ("The", " of", " is", ".", "unknown", "?"))
    before = missing = asked = repeated = 0
    for place in range(40):
        ids, learned = (made := abstract(chat, level, str(place))).ids, made.learned
        starts = [at for at in range(1, len(ids)) if learned[at] and not learned[at - 1]]
        assert starts
        for at in starts:
            if ids[at - 1] == the:
                key = ids[at - 1 : ids.index(be, at)]
                assert all(learned[at : at + len(key) - 1])
                again = max(place for place in range(at - 1) if ids[place] == mark)
                assert _at(ids[:again][-len(key) - 6 :], key) >= 0, "it is not what was asked for"
                repeated += 1
                continue
            value = ids[at : ids.index(end, at)]
            assert all(learned[at : at + len(value) + 1])
            assert ids[at - 1] == be
            key = ids[max(place for place in range(at) if ids[place] == the) : at - 1]
            field, subject = key[1 : key.index(of)], key[key.index(of) + 1 :]
            lines = _split(ids[: at - len(key) - 1], (end, *chat.stop_ids))
            asked += any(mark in line for line in lines)
            lines = [line for line in lines if mark not in line]
            if value == (unknown,):
                missing += 1
                assert not any(_both(line, field, subject) for line in lines)
                continue
            told = [line for line in lines if all(_at(line, part) >= 0 for part in (field, subject, value))]
            assert told, "the fact is not told"
            before += _at(told[0], value) < _at(told[0], subject)
    assert before > 20
    assert missing > 20
    assert asked > 20
    assert repeated > 20


def test_what_is_cited_stands_behind_its_fact(chat: Chat) -> None:
    closing, cite = (chat.encode(word)[0] for word in ("]", " ["))
    cited = alike = 0
    for place in range(40):
        ids, learned = (made := abstract(chat, CITED, str(place))).ids, made.learned
        for at in range(len(ids)):
            if not learned[at] or ids[at] != cite:
                continue
            start = max(place for place in range(at) if not learned[place]) + 1  # behind " is", which is not learned
            value, source = ids[start : at - 1], ids[at + 1 : ids.index(closing, at)]
            assert all(learned[start : at + len(source) + 2])
            cited_as = (cite, *source, closing)
            places = [place for place in range(start) if ids[place : place + len(cited_as)] == cited_as]
            assert any(_at(ids[max(0, place - 40) : place], value) >= 0 for place in places), (
                "nothing of that source says it"
            )
            alike += sum(ids[place : place + 2] == cited_as[:2] for place in range(start)) > 1
            cited += 1
    assert cited > 100
    assert alike > 20


def _split(ids: tuple[int, ...], ends: Collection[int]) -> list[tuple[int, ...]]:
    lines: list[tuple[int, ...]] = [()]
    for one in ids:
        lines[-1] += (one,)
        if one in ends:
            lines.append(())
    return lines


def _at(line: tuple[int, ...], part: tuple[int, ...]) -> int:
    return next((at for at in range(len(line)) if line[at : at + len(part)] == part), -1)


def _both(line: tuple[int, ...], field: tuple[int, ...], subject: tuple[int, ...]) -> bool:
    """Whether a line holds both, the field beside the subject and not by chance within it."""
    at = _at(line, subject)
    return at >= 0 and max(_at(line[:at], field), _at(line[at + len(subject) :], field)) >= 0
