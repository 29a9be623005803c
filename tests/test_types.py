"""What may be given where a grammar is wanted: the source that it stands for, and the values that are read back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import outlines
import pytest
from outlines import types as outlines_types
from outlines.types import dsl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from localmem.errors import GrammarError
from localmem.grammar.sources import Cfg, Choice, Gbnf, Json, Regex
from localmem.grammar.types import reader_of, source_of


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Pet(BaseModel):
    name: str
    age: int = Field(ge=0, le=40)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Node(BaseModel):
    value: int
    child: Node | None = None


@dataclass
class Point:
    x: int
    pets: list[Pet]


class Movie(TypedDict):
    title: str
    year: int


def _generator(output_type: Any) -> Any:
    from outlines.generator import BlackBoxGenerator

    return BlackBoxGenerator(None, output_type)  # type: ignore[arg-type]


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"type": "integer"}, {"type": "integer"}),
        ({}, {}),
        ('{"const": 1}', {"const": 1}),
        (Json({"const": 1}), {"const": 1}),
        (int, {"type": "integer"}),
        (str, {"type": "string"}),
        (Any, {}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Colour, {"enum": ["red", "blue"], "title": "Colour", "type": "string"}),
        (Annotated[int, Field(ge=3)], {"minimum": 3, "type": "integer"}),
        (outlines_types.JsonSchema({"type": "null"}), {"type": "null"}),
        (outlines_types.JsonSchema('{"type": "null"}'), {"type": "null"}),
        (_generator(int), {"type": "integer"}),
    ],
)
def test_documents(given: Any, schema: dict[str, Any]) -> None:
    source = source_of(given)
    assert isinstance(source, Json)
    assert dict(source.schema) == schema


@pytest.mark.parametrize(
    ("given", "places"),
    [
        (Pet, [()]),
        (Movie, [()]),
        (Point, [(), ("$defs", "Pet")]),
        (list[Movie], [("$defs", "Movie")]),
        (Node, [("$defs", "Node")]),
        (dict[str, Point], [("$defs", "Pet"), ("$defs", "Point")]),
    ],
)
def test_a_type_has_its_own_fields_and_no_others(given: Any, places: list[tuple[str, ...]]) -> None:
    source = source_of(given)
    assert isinstance(source, Json)
    for place in places:
        schema: Any = source.schema
        for key in place:
            schema = schema[key]
        assert schema["additionalProperties"] is False, place


def test_what_a_type_allows_beside_its_fields_stays_allowed() -> None:
    source = source_of(Open)
    assert isinstance(source, Json)
    assert source.schema["additionalProperties"] is True
    given = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert source_of(given) == Json(given)


@pytest.mark.parametrize(
    ("given", "source"),
    [
        (Regex("a+"), Regex("a+")),
        (Gbnf('root ::= "a"'), Gbnf('root ::= "a"')),
        (Cfg('start: "a"'), Cfg('start: "a"')),
        (outlines_types.Regex("a+"), Regex("a+")),
        (outlines_types.digit, Regex(r"\d")),
        (outlines_types.integer, Regex("[+-]?(0|[1-9][0-9]*)")),
        (outlines_types.locale.us.zip_code, Regex(r"\d{5}(?:-\d{4})?")),
        (outlines_types.CFG('start: "a"'), Cfg('start: "a"')),
        (outlines.types.Choice(["a", 1, 2.5]), Choice(("a", "1", "2.5"))),
        (dsl.String("a.b"), Choice(("a.b",))),
        (dsl.either("a", "b"), Choice(("a", "b"))),
        (outlines_types.digit.exactly(3), Regex(r"((\d)){3}")),
        ("No. " + outlines_types.digit.one_or_more(), Regex(r"No\.\ ((\d))+")),
        (dsl.either("a", outlines_types.digit), Regex(r"(a|(\d))")),
    ],
)
def test_plain_texts(given: Any, source: Any) -> None:
    assert source_of(given) == source
    assert reader_of(given)("a") == "a"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{not json", "not JSON"),
        ('{"not":' * 100_000, "not JSON"),
        ("[1]", "object"),
        ("true", "object"),
        (None, "None is no type"),
        (lambda x: x, "is no type"),
        (5, "5 is no type"),
        ([int], "is no type"),
        (object(), "is no type"),
        (Callable[[int], int], "has no JSON Schema"),
        (Pet(name="Rex", age=3), "is no type"),
        (outlines_types.JsonSchema({}, whitespace_pattern=" "), "whitespace_pattern"),
        (outlines_types.Choice([Pet]), "no text or number"),
        (outlines_types.Choice([True]), "no text or number"),
        (outlines_types.JsonSchema({"type": "integer", "minimum": 3}).optional(), "JsonSchema cannot be a part"),
        ("a" + outlines_types.CFG("start: /a/"), "CFG cannot be a part"),
        (_generator(None), "no type"),
    ],
)
def test_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=message) as caught:
        source_of(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "text", "value"),
    [
        ({}, '{"a": [1]}', {"a": [1]}),
        ("{}", "1", 1),
        (Json({}), "null", None),
        (Pet, '{"name": "Rex", "age": 3}', Pet(name="Rex", age=3)),
        (Point, '{"x": 1, "pets": [{"name": "R", "age": 0}]}', Point(1, [Pet(name="R", age=0)])),
        (Movie, '{"title": "M", "year": 1931}', {"title": "M", "year": 1931}),
        (Colour, '"red"', Colour.RED),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (outlines_types.JsonSchema({}), "[]", []),
        (outlines_types.Choice([1, "a"]), "1", 1),
        (_generator(Colour), '"blue"', Colour.BLUE),
    ],
)
def test_the_value_is_read_back(given: Any, text: str, value: Any) -> None:
    assert reader_of(given)(text) == value


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, '{"a'),
        (Pet, '{"name": "Rex"'),
        (outlines_types.Choice([1]), "2"),
        (Annotated[int, AfterValidator(_even)], "3"),
    ],
)
def test_what_cannot_be_read_is_a_value_error(given: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        reader_of(given)(text)


def test_neither_outlines_nor_pydantic_is_imported_for_a_schema() -> None:
    code = (
        "import sys; from localmem.grammar.types import reader_of, source_of; source_of({}); reader_of('{}')('1');"
        "print([m for m in ('outlines', 'pydantic', 'outlines_core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
