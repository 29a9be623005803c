"""What a prompt says of a schema: its fields, their types and descriptions, references followed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from localmem.grammar.sources import Choice, Gbnf, Json, Regex, Source
from localmem.grammar.types import source_of
from localmem.wanted import in_words


class Port(BaseModel):
    """A place with boats."""

    name: str = Field(description="without the country")
    depth: float | None = None


class Trip(BaseModel):
    start: Port
    stops: list[Port] = Field(description="in order")


class Chain(BaseModel):
    next: Chain | None = None


def test_an_object_is_its_fields() -> None:
    lines = in_words(source_of(Trip)).splitlines()
    assert lines == [
        "Write JSON with these fields",
        "- start (object): A place with boats.",
        "  - name (string): without the country",
        "  - depth (number or null, may be left out)",
        "- stops (list of object): in order",
        "  - name (string): without the country",
        "  - depth (number or null, may be left out)",
    ]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "description": "the year"}, "Write JSON: integer: the year"),
        ({"enum": ["a", 1, None]}, 'Write JSON: one of "a", 1, null'),
        ({"const": "x"}, 'Write JSON: "x"'),
        ({"type": "array", "items": {"type": "string", "format": "date"}}, "Write JSON: list of string, date"),
        ({"type": ["string", "null"]}, "Write JSON: string or null"),
        ({}, "Write JSON: any value"),
        ({"$ref": "#/$defs/no"}, "Write JSON: any value"),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/n"}], "$defs": {"n": {"type": "null"}}}, "string or null"),
        ({"enum": list(range(100))}, "39, ..."),
    ],
)
def test_other_documents_are_one_line(schema: dict[str, Any], words: str) -> None:
    assert in_words(Json(schema)).endswith(words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Choice(("yes", "no")), "Answer with one of: yes, no"),
        (Regex("[0-9]+"), "Answer with a text that this regular expression matches: [0-9]+"),
        (Gbnf('root ::= "a"'), "Write the answer and nothing else."),
    ],
)
def test_texts(source: Source, words: str) -> None:
    assert in_words(source) == words


def test_a_schema_that_contains_itself_has_an_end() -> None:
    assert 1 < len(in_words(source_of(Chain)).splitlines()) < 20
