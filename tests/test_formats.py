"""Dates and times as RFC 3339 has them, to the day."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from localmem.engine.scripted import BYTES
from localmem.grammar.compile import compile_grammar
from localmem.grammar.formats import EXACT, exact_formats


def test_every_date_there_is_and_no_other() -> None:
    pattern = re.compile(EXACT["date"])
    for year in (1, 4, 100, 400, 1600, 1896, 1900, 1999, 2000, 2023, 2024, 2100, 2400, 9999):
        days = {date(year, 1, 1) + timedelta(days=n) for n in range(365)} | {date(year, 12, 31)}
        real = {day.isoformat() for day in days}
        every = {f"{year:04}-{month:02}-{day:02}" for month in range(14) for day in range(33)}
        assert {text for text in every if pattern.match(text)} == real


@pytest.mark.parametrize(
    ("kind", "text", "fits"),
    [
        ("date", "2024-02-29", True),
        ("date", "2023-02-29", False),
        ("date", "1900-02-29", False),
        ("date", "0000-01-01", False),
        ("date", "2024-1-01", False),
        ("time", "12:59:59Z", True),
        ("time", "12:59:59.123+05:30", True),
        ("time", "12:59:60Z", False),
        ("time", "23:59:60Z", True),
        ("time", "23:59:60+01:00", False),
        ("time", "24:00:00Z", False),
        ("time", "12:00:00", False),
        ("date-time", "2024-02-29T00:00:00z", True),
        ("date-time", "2023-02-29T00:00:00Z", False),
        ("date-time", "2024-02-28 00:00:00Z", False),
    ],
)
@pytest.mark.parametrize("also", [{}, {"pattern": "[0-9]"}])
def test_the_grammar_takes_what_is_exact(kind: str, text: str, fits: bool, also: dict[str, str]) -> None:
    matcher = compile_grammar({"type": "string", "format": kind, **also}).bind(BYTES)
    assert (all(map(matcher.accept, f'"{text}"'.encode())) and matcher.can_stop) is fits


def test_only_schemas_are_changed() -> None:
    date_string = {"type": "string", "format": "date"}
    exact = {**date_string, "pattern": EXACT["date"]}
    schema = {
        "properties": {"format": {"const": {"format": "date"}}, "day": date_string},
        "items": [date_string, True],
        "anyOf": [{"additionalProperties": date_string}],
        "enum": [date_string],
        "examples": [date_string],
        "format": "uuid",
    }
    assert exact_formats(schema) == {
        **schema,
        "properties": {"format": {"const": {"format": "date"}}, "day": exact},
        "items": [exact, True],
        "anyOf": [{"additionalProperties": exact}],
    }
