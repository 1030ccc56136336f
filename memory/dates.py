"""The days that a question names: `on 3 June, 2023`, `in July`, `yesterday`, `am 3. Juni`, `letzte Woche`.

Knows how dates are written in English and German, and turns each into spans of time. A date without its year is that
date in each of the last years. Does not know how much it counts that something was said on such a day
(`memory.ranking`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

Span = tuple[datetime, datetime]
"""From, inclusive, and to, exclusive; with a time zone."""

MOST = 64
"""Spans that are looked at; a pasted log may name hundreds."""
YEARS = 10
"""How far back a date without its year is looked for."""

_MONTHS = (
    ("january", "jan", "januar", "jänner"),
    ("february", "feb", "februar"),
    ("march", "mar", "märz"),
    ("april", "apr"),
    ("may", "mai"),
    ("june", "jun", "juni"),
    ("july", "jul", "juli"),
    ("august", "aug"),
    ("september", "sep", "sept"),
    ("october", "oct", "oktober", "okt"),
    ("november", "nov"),
    ("december", "dec", "dezember", "dez"),
)
_NUMBER = {name: number for number, names in enumerate(_MONTHS, 1) for name in names}
_WEEKDAYS = {
    name: day
    for day, names in enumerate(
        (
            ("monday", "montag"),
            ("tuesday", "dienstag"),
            ("wednesday", "mittwoch"),
            ("thursday", "donnerstag"),
            ("friday", "freitag"),
            ("saturday", "samstag", "sonnabend"),
            ("sunday", "sonntag"),
        )
    )
    for name in names
}
_AGO = {"today": 0, "heute": 0, "yesterday": 1, "gestern": 1, "the day before yesterday": 2, "vorgestern": 2}
_DAYS = {"day": 1, "days": 1, "tag": 1, "tagen": 1, "week": 7, "weeks": 7, "woche": 7, "wochen": 7}

_MONTH = rf"(?P<month>{'|'.join(sorted(_NUMBER, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th|\.)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"\b{_YEAR}-(?P<month_number>[01]?\d)-{_DAY}(?!\d)",
        rf"\b{_DAY}(?P<month_number>[01]?\d)\.{_YEAR}\b",
        rf"\b{_DAY}\s*(?:of\s+)?{_MONTH}(?!\w),?(?:\s*{_YEAR}\b)?",
        rf"\b{_MONTH}\s*{_DAY}(?!\w)(?:,?\s*{_YEAR}\b)?",
        rf"\b{_MONTH}(?:\s+of)?,?\s*{_YEAR}\b",
        rf"\b(?:in|im|last|letzten)\s+{_MONTH}(?!\w)",
        rf"\b(?:in|im\s+jahre?|during|since|seit)\s+{_YEAR}\b",
        rf"\b(?P<ago>{'|'.join(sorted(_AGO, key=len, reverse=True))})\b",
        rf"\b(?:on|last|am|letzten)\s+(?P<weekday>{'|'.join(_WEEKDAYS)})\b",
        rf"\b(?:(?P<count>\d{{1,3}})\s+(?P<unit>{'|'.join(_DAYS)})\s+ago|"
        rf"vor\s+(?P<zahl>\d{{1,3}})\s+(?P<einheit>{'|'.join(_DAYS)}))\b",
        r"\b(?P<period>(?:last|this|letzten?|diesen?|dieser)\s+(?:week|month|year|woche|monat|jahr))\b",
    )
)

# Most questions name no day, which is told three times as fast as by asking every form.
_HINT = re.compile(
    rf"\d|\b(?:{'|'.join([*_NUMBER, *_AGO, *_WEEKDAYS, 'last', 'this', 'letzte', 'diese'])})", re.IGNORECASE
)


def named(text: str, now: datetime) -> tuple[Span, ...]:
    """The spans of time that `text` names, whole days in the zone of `now`; what is no date in the calendar is none."""
    found: dict[Span, None] = {}
    if not _HINT.search(text):
        return ()
    for form in _FORMS:
        for match in form.finditer(text):
            for first, end in _spans(match.groupdict(), now.date()):
                found.setdefault((_midnight(first, now), _midnight(end, now)))
        # What one form has read is no part of another: `3 June, 2023` is not June 2023.
        text = form.sub(" ", text)
    return tuple(found)[:MOST]


def _midnight(day: date, now: datetime) -> datetime:
    return datetime.combine(day, time(), now.tzinfo)


def _spans(parts: dict[str, str | None], today: date) -> Iterator[tuple[date, date]]:
    """First day and the day after the last, of each date that a match may mean."""
    if word := parts.get("ago"):
        yield _one_day(today - timedelta(_AGO[word.lower()]))
    elif word := parts.get("weekday"):
        yield _one_day(today - timedelta((today.weekday() - _WEEKDAYS[word.lower()] - 1) % 7 + 1))
    elif (count := parts.get("count") or parts.get("zahl")) and (unit := parts.get("unit") or parts.get("einheit")):
        yield _around(today - timedelta(int(count) * _DAYS[unit.lower()]), _DAYS[unit.lower()])
    elif word := parts.get("period"):
        yield _period(word.lower(), today)
    else:
        name, year = parts.get("month"), parts.get("year")
        month = int(parts.get("month_number") or 0) or (_NUMBER[name.lower()] if name else 0)
        for each in (int(year),) if year else range(today.year, today.year - YEARS, -1):
            try:
                yield _calendar(each, month, int(parts.get("day") or 0))
            except ValueError:  # 31 June, or the thirteenth month
                continue


def _calendar(year: int, month: int, day: int) -> tuple[date, date]:
    """A day, a month where `day` is 0, a year where `month` is 0 as well."""
    if day:
        return _one_day(date(year, month, day))
    if month:
        return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)
    return date(year, 1, 1), date(year + 1, 1, 1)


def _one_day(day: date) -> tuple[date, date]:
    return day, day + timedelta(1)


def _around(day: date, width: int) -> tuple[date, date]:
    """`3 days ago` is that day; `2 weeks ago` is said of the days about it, too."""
    slack = timedelta(width // 2)
    return day - slack, day + slack + timedelta(1)


def _period(words: str, today: date) -> tuple[date, date]:
    last = words.startswith(("last", "letzte"))
    if words.endswith(("week", "woche")):
        monday = today - timedelta(today.weekday() + (7 if last else 0))
        return monday, monday + timedelta(7)
    if words.endswith(("month", "monat")):
        first = today.replace(day=1)
        first = (first - timedelta(1)).replace(day=1) if last else first
        return _calendar(first.year, first.month, 0)
    return _calendar(today.year - last, 0, 0)
