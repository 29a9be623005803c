"""The schema benchmark: which of a value's texts are tried, what counts as wrong, and a run over a few schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import schemas
from benchmarks.bfcl import data_folder
from benchmarks.instances import Reader
from benchmarks.key_order import KeyOrder
from localmem import compile_grammar
from localmem.engine.scripted import BYTES
from localmem.grammar.schema import arguments

NUMBER = {"type": "integer"}
OPEN = {"type": "object", "properties": {"b": NUMBER, "a": NUMBER}, "required": ["a"]}


def reading(schema: dict[str, Any], instance: Any) -> Any:
    return Reader(compile_grammar(schema), BYTES, schema).read(instance)


@pytest.mark.parametrize(
    ("schema", "instance", "text"),
    [
        (OPEN, {"a": 1, "b": 2}, '{"b": 2, "a": 1}'),  # in the schema's order, whatever the instance's is
        (OPEN, {"c": "x", "a": 1}, '{"a": 1, "c": "x"}'),
        ({"type": "array", "items": OPEN}, [{"a": 1, "b": 2}], '[{"b": 2, "a": 1}]'),
        ({"$ref": "#/$defs/o", "$defs": {"o": OPEN}}, {"a": 1, "b": 2}, '{"b": 2, "a": 1}'),
        ({"type": "string"}, "é\x7f\n", '"é\\u007f\\n"'),
    ],
)
def test_the_first_text_is_the_schemas_own(schema: dict[str, Any], instance: Any, text: str) -> None:
    read = reading(schema, instance)
    assert (read.accepted, read.reordered, read.text, read.complaints) == (True, False, text, [])


def test_another_order_or_spelling_is_found_where_the_first_is_refused() -> None:
    # Which branch it is, and so which order, is said by the last key alone.
    two = {"anyOf": [arguments({"a": NUMBER, "b": NUMBER, "k": {"const": 1}}), arguments({"b": NUMBER, "a": NUMBER})]}
    read = reading({"anyOf": [two["anyOf"][0], arguments({"k": {"const": 2}, "b": NUMBER, "a": NUMBER})]}, {
        "a": 1, "b": 2, "k": 2,
    })  # fmt: skip
    assert (read.accepted, read.reordered, read.text) == (True, True, '{"k": 2, "b": 2, "a": 1}')
    read = reading(NUMBER, 3.0)
    assert (read.accepted, read.reordered, read.text) == (True, True, "3")


@pytest.mark.parametrize(
    ("schema", "instance", "text"),
    [
        (OPEN, {"b": 2}, '{"b": 2'),
        (OPEN, {"a": "1"}, '{"a": '),
        (NUMBER, 3.5, "3"),
        ({"type": "string", "maxLength": 2}, "abc", '"ab'),
        ({"type": "array", "items": NUMBER, "minItems": 2}, [1], "[1"),
        (arguments({"a": NUMBER}), {"a": 1, "b": 2}, '{"a": 1'),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_every_order(schema: dict[str, Any], instance: Any, text: str) -> None:
    read = reading(schema, instance)
    assert (read.accepted, read.undecided, read.text, read.complaints) == (False, False, text, [])
    assert read.probes > 0


def test_a_search_that_was_given_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.instances.MOST_PROBES", 5)
    free = {"type": "object", "additionalProperties": NUMBER}
    assert reading(free, {"a": 1, "b": 2, "c": 3, "d": "4"}).undecided
    late = Reader(compile_grammar(free), BYTES, free, most_seconds=0).read({"a": "1"})
    assert (late.accepted, late.undecided, late.probes) == (False, True, 0)


class Wrong:
    """A grammar whose mask, forced tokens or verdicts are made wrong on purpose."""

    def __init__(self, **wrong: Any) -> None:
        self._wrong = wrong

    def bind(self, vocabulary: Any) -> Any:
        matcher = compile_grammar(NUMBER).bind(vocabulary)
        given = {name: getattr(matcher, name) for name in ("accept", "mask", "forced")}
        return type(
            "Matcher", (), {**{k: staticmethod(v) for k, v in {**given, **self._wrong}.items()}, "can_stop": True}
        )


def test_contradictions_of_a_grammar_are_told() -> None:
    import numpy as np

    nothing = np.zeros(BYTES.size, np.bool_)
    (complaint,) = Reader(Wrong(mask=lambda: nothing), BYTES, NUMBER, masks=1).read(12).complaints
    assert complaint.startswith("mask and accept differ after b''")
    (complaint,) = Reader(Wrong(forced=lambda: [ord("7")]), BYTES, NUMBER, masks=1).read(12).complaints
    assert complaint == "forced b'7' after b'', yet accepted b'1'"


def test_the_order_of_keys_follows_references_branches_and_items() -> None:
    schema = {
        "allOf": [{"properties": {"b": True}}, {"$ref": "#/$defs/x"}],
        "properties": {"c": {"items": {"properties": {"z": True, "y": True}}}},
        "$defs": {"x": {"properties": {"a": True}, "required": ["d"], "$ref": "#"}},
    }
    order = KeyOrder(schema)
    assert order.sorted({"e": 1, "d": 1, "a": 1, "b": 1, "c": 1}, order.root) == ["c", "b", "a", "d", "e"]
    inside = order.of_item(3, order.of_key("c", order.root))
    assert order.sorted({"y": 1, "z": 1}, inside) == ["z", "y"]


CASES = [
    {"name": "Github_easy---1", "schema": OPEN, "tests": [{"valid": True, "data": {"a": 1}}]},
    {"name": "Handwritten---2", "schema": {"not": NUMBER}, "tests": [{"valid": False, "data": 1}]},
    # Labels that are wrong on purpose: the benchmark must tell both.
    {"name": "Github_easy---3", "schema": NUMBER, "tests": [{"valid": False, "data": 1}, {"valid": True, "data": "1"}]},
]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, dict[str, Any]]:
    schemas.main(arguments)
    shown = capsys.readouterr().out
    return shown, json.loads(shown.splitlines()[-1])


def test_what_is_reported(tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in CASES))
    shown, figures = run(capsys, "--model", str(tiny_model_path), "--data", str(tmp_path))
    assert (figures["schemas"], figures["compiled"], figures["without_handwritten_compiled"]) == (3, 2, 2)
    assert figures["causes"] == {"not": 1}
    assert (figures["wrongly_accepted"], figures["wrongly_refused"]) == (1, 1)
    assert [one["case"] for one in figures["wrong"]] == ["Github_easy---3"] * 2
    assert "wrong verdicts: 2" in shown
    assert figures["compile_ms"]["p50"] > 0
    assert figures["mask_ms"]["max"] > 0


def test_a_schema_that_takes_too_long_ends_its_process_only(
    tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in CASES[:2]))
    _, figures = run(capsys, "--model", str(tiny_model_path), "--data", str(tmp_path), "--seconds", "0", "--json")
    assert figures["causes"] == {"more than 0 s": 2}


def test_schemas_of_maskbench(tiny_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_folder("jsonschema")
    if not folder.is_dir():
        pytest.skip(f"no schemas in {folder}")
    _, figures = run(capsys, "--model", str(tiny_model_path), "--limit", "15", "--json")
    assert (figures["schemas"], figures["wrong"]) == (15, [])
    assert figures["instances"]["valid accepted"] > 0
    assert figures["instances"]["invalid refused"] > 0


def test_it_says_so_where_there_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schemas.main(["--data", str(tmp_path)])
    assert capsys.readouterr().out.startswith(f"skipped: there is no {tmp_path}")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ('This schema cannot be enforced: Unimplemented keys: ["else", "if", "then"]', "else, if, then"),
        ("The keyword 'uniqueItems' at $.a cannot be enforced exactly by this backend; take it out.", "uniqueItems"),
        ("not at $.properties.a cannot be enforced; leave it out.", "not"),
        ("This schema cannot be enforced at $.a.b: Unknown format: url.", "Unknown format: url"),
        ("This schema cannot be enforced: oneOf is not supported. Enable 'x' option", "oneOf is not supported"),
        ("This schema cannot be enforced: Cannot tell if regex is empty: (And (", "Cannot tell if regex is empty"),
        (
            "Backend outlines cannot follow values that nest; see there",
            "Backend outlines cannot follow values that nest",
        ),
    ],
)
def test_a_cause_is_a_keyword_or_the_message_without_what_is_special(message: str, name: str) -> None:
    assert schemas.cause(message) == name
