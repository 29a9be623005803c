"""What a Python function must be so that a model can call it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import pytest

from localmem import FunctionError, compile_grammar, function
from localmem.errors import ConfigError
from localmem.functions import check_names, describe


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def paint(thing: str, colour: Colour, layers: int = 1, tools: list[Literal["brush", "roller"]] | None = None) -> str:
    """Paint something.

    The second paragraph is not for the model.
    """
    return f"{thing} {colour!r} {layers} {tools}"


def test_what_the_model_is_told() -> None:
    described = describe(_painter)
    assert described.signature == "_painter(thing, colour, layers?)"
    assert described.description == "Paint something."
    assert described.optional == {"layers"}


def _painter(thing: str, colour: Colour, layers: int = 1) -> str:
    """Paint
    something.

    More.
    """
    return f"{thing} {colour.name} {layers}"


def test_arguments_arrive_as_their_types() -> None:
    described = describe(_painter)
    assert described.call({"thing": "door", "colour": "blue"}).text == "door BLUE 1"
    assert described.call({"thing": "door", "colour": "red", "layers": 2}).text == "door RED 2"


def untyped(thing) -> str:  # type: ignore[no-untyped-def]
    """Do it."""
    return str(thing)


def undocumented(thing: str) -> str:
    return thing


def starred(*things: str) -> str:
    """Do it."""
    return str(things)


def mapped(things: dict[str, str]) -> str:
    """Do it."""
    return str(things)


def nowhere(thing: Missing) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Do it."""
    return str(thing)


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (untyped, "untyped: parameter thing has no type"),
        (undocumented, "undocumented has no docstring"),
        (starred, "starred: parameter things"),
        (mapped, "mapped: parameter things has the type dict"),
        (nowhere, "nowhere.*Missing"),
        (paint, "paint: parameter tools.*union"),
        (lambda: 1, "needs a name"),
    ],
)
def test_what_lacks_a_type_or_a_docstring_is_refused_by_name(bad: Callable[..., Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        function(bad)


def test_taken_names_are_refused() -> None:
    def send_message(text: str) -> None:
        """Mine."""

    described = describe(send_message)
    with pytest.raises(ConfigError, match="already a function named send_message"):
        check_names([described], ["send_message"])
    with pytest.raises(ConfigError, match="already"):
        check_names([described, described], [])


def test_a_decorated_function_is_still_itself() -> None:
    assert function(_painter) is _painter


@pytest.mark.parametrize(
    ("raised", "text"),
    [(FunctionError("no"), "no"), (ValueError("bad value"), "ValueError: bad value"), (KeyError(), "KeyError")],
)
def test_its_own_exception_makes_a_failed_outcome(raised: Exception, text: str) -> None:
    def broken() -> None:
        """Break."""
        raise raised

    outcome = describe(broken).call({})
    assert (outcome.ok, outcome.text) == (False, text)


def test_every_parameter_is_bounded_and_compiles() -> None:
    def everything(a: str, b: int, c: float, d: bool, e: list[str], f: int | None, g: Literal["x", 1]) -> None:
        """Take everything."""

    (schema,) = describe(everything).variants()
    compile_grammar(schema)
    assert schema["properties"]["a"]["maxLength"]
    assert schema["properties"]["b"]["maximum"]
    assert schema["properties"]["e"]["items"]["maxLength"]
    assert schema["properties"]["e"]["maxItems"]
