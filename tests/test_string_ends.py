"""Strings with patterns and formats: ends that the grammar takes, and none where a pattern cannot be followed."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from localmem.engine.scripted import BYTES
from localmem.grammar.closing import Closing
from localmem.grammar.compile import compile_grammar
from localmem.grammar.format_ends import PATTERNS
from localmem.grammar.pattern_ends import NoPlan, automaton
from localmem.protocols import End


def _text(end: End) -> str:
    return "".join(map(str, end.pieces))


def _takes(schema: dict[str, Any], document: str) -> bool:
    matcher = compile_grammar(schema).bind(BYTES)
    return all(matcher.accept(byte) for byte in document.encode()) and matcher.can_stop


@pytest.mark.parametrize(
    ("pattern", "begun", "end"),
    [
        ("a|b", '"', 'a"'),
        ("a|b", '"xx', 'a"'),
        ("^a|b$", '"x', 'b"'),
        ("^(a|b)$", '"', 'a"'),
        ("^a+$", '"aa', '"'),
        ("^.{3}$", '"é', '.."'),
        ("^[0-9]{2,}$", '"1', '0"'),
        ("^a?b*c$", '"ab', 'c"'),
        ("^a*?$", '"a', '"'),
        ("(^a|b)c", '"x', 'bc"'),
        ("x$|^y", '"a', 'x"'),
        ("^$", '"', '"'),
        ("", '"ab', '"'),
        (r"^\d\w\s$", '"', '00 "'),
        (r"^[^\d]$", '"', '."'),
        (r"^\\$", '"\\', '\\"'),
        (r"^\n$", '"', '\\n"'),
        (r"^\n$", '"\\u000', 'a"'),
        (r"^\"$", '"', '\\""'),
        (r"^\/\-\_\.\u00e9\x41$", '"', '/-_.éA"'),
        (r"^[\s\S]{2}$", '"', '.."'),
        (r"^[\[\]]$", '"', '["'),
        ("^(?:(?P<n>a)|(?<m>b))$", '"', 'a"'),
        (r"^\t$", '"\\', 't"'),
        ("^[\x00-\x1f]$", '"\\u001', '0"'),
        ("^[\x80-\xff]$", '"', '\xa1"'),
        ("^😀{2}$", '"😀', '😀"'),
    ],
)
def test_ends_of_patterns(pattern: str, begun: str, end: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    found = Closing(schema).end(begun)
    assert found is not None
    assert (_text(found), found.cut) == (end, ("$",))
    assert _takes(schema, begun + end)


@pytest.mark.parametrize(
    ("limits", "begun", "end"),
    [
        ({"minLength": 4}, '"', '...b"'),
        ({"minLength": 4}, '"xbx', '."'),
        ({"maxLength": 3}, '"xx', 'b"'),
        ({"minLength": 2, "maxLength": 2}, '"x', 'b"'),
    ],
)
def test_lengths_beside_a_pattern(limits: dict[str, int], begun: str, end: str) -> None:
    schema = {"type": "string", "pattern": "b", **limits}
    found = Closing(schema).end(begun)
    assert found is not None
    assert len(_text(found)) == len(end)
    assert _takes(schema, begun + _text(found))


def test_a_text_that_no_longer_fits_has_no_end() -> None:
    assert Closing({"type": "string", "pattern": "^a+$"}).end('"ab') is None
    assert Closing({"type": "string", "pattern": "^a+$"}).end('"a\\N') is None
    assert Closing({"type": "string", "pattern": "b", "maxLength": 2}).end('"aa') is None


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)b", "(?!a)b", "(?<=a)b", r"(a)\1", r"\bab", "(?i)a", "(?i:a)", r"\p{L}", "[a&&b]", "[a-z--b]", "[[a]b]",
     "(", "[", "a**", r"\Z", "a{100000}", "(?:a{90}){90}"],
)  # fmt: skip
def test_what_cannot_be_followed_has_no_plan(pattern: str) -> None:
    with pytest.raises(NoPlan):
        automaton(pattern)


_PIECES = ("a", "b", "c", "0", "é", " ", "\n")
_ATOMS = ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", "(?:a|bc)", "(b|)", "é", "[a-c0-9]", r"\S"]
_REPEATS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "*?", "{0}"]


def test_automata_find_what_pythons_regular_expressions_find() -> None:
    chance = random.Random(5)
    for _ in range(400):
        body = "".join(chance.choice(_ATOMS) + chance.choice(_REPEATS) for _ in range(chance.randint(1, 4)))
        pattern = chance.choice(["", "^"]) + body + chance.choice(["", r"\Z"])
        mine = pattern.replace(r"\Z", "$")
        for _ in range(15):
            text = "".join(chance.choices(_PIECES, k=chance.randint(0, 6)))
            assert automaton(mine).matches(text) == bool(re.search(pattern, text, re.ASCII)), (mine, text)


def test_random_patterns_are_ended_as_the_grammar_has_it() -> None:
    chance = random.Random(6)
    for _ in range(120):
        body = "".join(chance.choice(_ATOMS) + chance.choice(_REPEATS) for _ in range(chance.randint(1, 4)))
        schema = {"type": "string", "pattern": chance.choice(["", "^"]) + body + chance.choice(["", "$"])}
        whole = _walk(schema, chance, 12)
        for length in range(len(whole) + 1):
            found = Closing(schema).end(whole[:length])
            assert found is not None, (schema, whole[:length])
            assert not found.steady
            assert _takes(schema, whole[:length] + _text(found)), (schema, whole[:length], found)


def _walk(schema: dict[str, Any], chance: random.Random, most: int) -> str:
    """A random legal beginning of a document, of printable ASCII and newlines."""
    matcher = compile_grammar(schema).bind(BYTES)
    written = ""
    while len(written) < most and not matcher.complete:
        allowed = [token for token in matcher.mask()[:127].nonzero()[0].tolist() if token >= 32]
        if not allowed or (matcher.can_stop and chance.random() < 0.1):
            break
        token = chance.choice(allowed)
        assert matcher.accept(token)
        written += chr(token)
    return written


@pytest.mark.parametrize("name", PATTERNS)
def test_each_format_has_an_end_from_where_a_random_writer_broke_off(name: str) -> None:
    schema = {"type": "string", "format": name}
    closing = Closing(schema)
    planned = 0
    for seed in range(12):
        whole = _walk(schema, random.Random(seed), 60)
        for length in range(len(whole) + 1):
            found = closing.end(whole[:length])
            planned += found is not None
            assert length > 0 or found is not None
            if found is not None:
                assert _takes(schema, whole[:length] + _text(found)), (whole[:length], found)
                json.loads(whole[:length] + _text(found))
        assert planned >= 0.98 * (length + 1), (name, whole)
        planned = 0
