"""How a text of each source is ended."""

from __future__ import annotations

import pytest

from localmem.grammar.plans import plan_for
from localmem.grammar.sources import Cfg, Choice, Gbnf, Json, Regex
from localmem.protocols import End

CHOICE = Choice(("yes", "no", "not at all", "ñandú"))


@pytest.mark.parametrize(
    ("begun", "end"),
    [
        ("", End(("no",), ("$",))),
        ("n", End(("o",), ("$",))),
        ("no", End()),
        ("not", End((" at all",), ())),
        ("ye", End(("s",), ())),
        ("maybe", None),
    ],
)
def test_a_choice_ends_as_the_shortest_that_is_left(begun: str, end: End | None) -> None:
    assert plan_for(CHOICE).end(begun) == end
    assert plan_for(CHOICE).bound() == len("not at all")


def test_documents_have_plans_and_free_forms_have_none() -> None:
    assert plan_for(Json({"type": "string"})).end('"a') == End(('"',), ("$",), steady=True)
    for source in (Regex("a+"), Cfg('start: "a"'), Gbnf('root ::= "a"')):
        assert plan_for(source).end("") is None
        assert plan_for(source).bound() is None
