"""The days that a question names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.dates import MOST, YEARS, named

NOW = datetime(2026, 11, 21, 10, 2, tzinfo=UTC)  # a Saturday


def spans(text: str) -> list[tuple[str, str]]:
    return [(f"{first:%Y-%m-%d}", f"{past:%Y-%m-%d}") for first, past in named(text, NOW)]


@pytest.mark.parametrize(
    "written",
    [
        *("on 3 June, 2023", "June 3rd, 2023", "the 3rd of June 2023", "2023-06-03", "JUNE 3 2023"),
        *("am 3. Juni 2023", "am 03.06.2023", "den 3.6.2023"),
    ],
)
def test_one_day_is_read_however_it_is_written(written: str):
    assert spans(f"What was said {written}?") == [("2023-06-03", "2023-06-04")]


@pytest.mark.parametrize(
    ("written", "first", "past"),
    [
        ("in June 2023", "2023-06-01", "2023-07-01"),
        ("im Dezember 2023", "2023-12-01", "2024-01-01"),
        ("in 2023", "2023-01-01", "2024-01-01"),
        ("today", "2026-11-21", "2026-11-22"),
        ("gestern", "2026-11-20", "2026-11-21"),
        ("vorgestern", "2026-11-19", "2026-11-20"),
        ("the day before yesterday", "2026-11-19", "2026-11-20"),
        ("on Tuesday", "2026-11-17", "2026-11-18"),
        ("letzten Samstag", "2026-11-14", "2026-11-15"),
        ("last week", "2026-11-09", "2026-11-16"),
        ("diese Woche", "2026-11-16", "2026-11-23"),
        ("letzten Monat", "2026-10-01", "2026-11-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("3 days ago", "2026-11-18", "2026-11-19"),
        ("vor 2 Wochen", "2026-11-04", "2026-11-11"),
    ],
)
def test_months_years_and_days_before_today(written: str, first: str, past: str):
    assert spans(f"What happened {written}?") == [(first, past)]


def test_a_month_without_its_year_is_that_of_each_of_the_last_years():
    found = spans("the camping trip in July")
    assert len(found) == YEARS
    assert found[:2] == [("2026-07-01", "2026-08-01"), ("2025-07-01", "2025-08-01")]


def test_a_leap_day_is_looked_for_where_there_is_one():
    assert [first for first, _ in spans("on 29 February")] == ["2024-02-29", "2020-02-29"]


@pytest.mark.parametrize(
    "text", ["May I march?", "version 0.8.5", "port 5432", "31 June 2023", "2023-13-01", "second", "sum of 12"]
)
def test_what_is_no_date_names_no_day(text: str):
    assert named(text, NOW) == ()


def test_two_dates_are_both_looked_at():
    assert len(spans("between 3 June 2023 and 5 June 2023")) == 2


@given(st.text())
def test_any_text_may_name_days(text: str):
    assert len(named(text, NOW)) <= MOST


def test_a_pasted_log_names_no_more_days_than_are_looked_at():
    assert (
        len(named(" ".join(f"2023-{month:02}-{day:02}" for month in range(1, 13) for day in range(1, 29)), NOW)) == MOST
    )
