"""The benchmark of call formats: what is asked, how an answer is read, how sure a figure is, and whole runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import formats
from benchmarks.asking import WAYS, read_json
from benchmarks.bfcl import Case, data_folder
from benchmarks.intervals import paired, wilson
from localmem import ScriptedEngine

WEATHER = {
    "name": "get.weather",
    "description": "Weather.",
    "parameters": {
        "type": "dict",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "description": "How many."}},
        "required": ["city"],
    },
}
STOCKS = {"name": "stocks", "description": "", "parameters": {"type": "dict", "properties": {}, "required": []}}
RIGHT = {"city": ["Lisbon"], "days": [""]}
LISBON = Case("one", "multiple", "Rain in Lisbon?", (STOCKS, WEATHER), {"get.weather": RIGHT})
PORTO = Case(
    "two", "simple_python", "Rain in Porto?", (WEATHER,), {"get.weather": {"city": ["Porto"], "days": [2, ""]}}
)
JSON_WAYS = [way for way in WAYS.values() if way.keys]


@pytest.mark.parametrize(
    ("text", "form", "call"),
    [
        ('{"function": "f", "arguments": {"a": 1}}', "whole", {"f": {"a": 1}}),
        (' {"arguments": {}, "thought": "{", "function": "f"}\n', "whole", {"f": {}}),
        ('```json\n{"function": "f", "arguments": {}}\n```', "fenced", {"f": {}}),
        ('```\n{"function": "f", "arguments": {}}', "fenced", {"f": {}}),
        ('Sure! {"function": "f", "arguments": {}}', "found", {"f": {}}),
        ('{"function": "f", "arguments": {}} {"function": "g", "arguments": {}}', "found", {"f": {}}),
        ('[{"function": "f", "arguments": {}}]', "found", {"f": {}}),
        ('A set {1} and {"x": 1}: {"function": "f", "arguments": {}}', "found", {"f": {}}),
        ('{"name": "f", "parameters": {}}', "whole", {"f": {}}),
        # Nothing is repaired.
        ('{"function": "f", "arguments": {"a": 1}', "none", None),
        ('{"function": "f", "arguments": {"a": 1,}}', "none", None),
        ("{'function': 'f', 'arguments': {}}", "none", None),
        ('{"function": "f", "arguments": "{}"}', "none", None),
        ('{"function": {"name": "f"}, "arguments": {}}', "none", None),
        ('{"call": {"function": "f", "arguments": {}}}', "none", None),
        ("f(a=1)", "none", None),
        ("", "none", None),
        ("{" * 5000, "none", None),
    ],
)
def test_the_first_call_in_a_text(text: str, form: str, call: Any) -> None:
    answer = read_json(text)
    assert (answer.form, answer.call) == (form, call)
    assert answer.renamed == ('"name": "f", "p' in text)


def test_ways_share_a_prompt_up_to_the_examples() -> None:
    chat = ScriptedEngine().chat_format
    texts = {way.name: bytes(t for t in way.prompt(LISBON, chat) if t < 256).decode() for way in JSON_WAYS}
    assert texts["thought"] == texts["thought-free"] != texts["plain"] == texts["plain-free"] != texts["function"]
    for text in texts.values():
        head, _, rest = text.partition("Will it rain in Oslo tomorrow?")
        assert head == texts["thought"].partition("Will it rain in Oslo tomorrow?")[0]
        assert '"parameters": {"type": "object"' in head
        assert "Rain in Lisbon?" in rest
        assert '"function": "get_forecast"' in rest
    assert texts["function"].index('{"function": "get_f') > 0
    assert texts["plain"].count("thought") == 0


def test_the_grammar_of_a_way_allows_its_own_calls_only() -> None:
    given = {"thought": "t", "function": "get.weather", "arguments": {"city": "Lisbon"}}
    for way in JSON_WAYS:
        grammar = way.grammar(LISBON, ScriptedEngine().chat_format)
        assert (grammar is None) == way.free
        if grammar is not None:
            text = json.dumps({key: given[key] for key in way.keys})
            done = ScriptedEngine([text]).generate("x", constraint=grammar, max_tokens=400)
            assert (done.text, done.finish) == (text, "stop")
            with pytest.raises(AssertionError, match="does not allow"):
                ScriptedEngine([text.replace("get.weather", "get_weather")]).generate("x", constraint=grammar)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (0, 0, 0.0, 1.0)],
)
def test_wilson(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_paired() -> None:
    first = [True] * 60 + [True] * 12 + [False] * 2 + [False] * 26
    second = [True] * 60 + [False] * 12 + [True] * 2 + [False] * 26
    found = paired(first, second)
    assert (found.count, found.gained, found.lost, found.difference) == (100, 12, 2, 0.1)
    assert found.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)  # the binomial tail, both sides
    # The normal interval of a paired difference: 0.1 +- 1.96 * sqrt(14 - 10 ** 2 / 100) / 100
    assert (found.low, found.high) == pytest.approx((0.0293, 0.1707), abs=0.015)
    same = paired(first, first)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert paired([], []).count == 0


def options(tmp_path: Path, **other: Any) -> argparse.Namespace:
    given = {"ways": [way.name for way in JSON_WAYS], "max_tokens": 300, "out": tmp_path / "out.jsonl", "resume": False}
    return argparse.Namespace(**given | other)


def script(prompt: str) -> str:
    """Right in Lisbon, whatever the way; wrong in Porto."""
    keys = ["thought", "function", "arguments"] if '{"thought"' in prompt else ["function", "arguments"]
    if '"get_forecast", "thought"' in prompt:
        keys = ["function", "thought", "arguments"]
    given = {"city": "Lisbon"} if "Rain in Lisbon?" in prompt else {"city": "Porto", "days": 3}
    call = {"thought": "t", "function": "get.weather", "arguments": given}
    return json.dumps({key: call[key] for key in keys})


def test_a_run_from_end_to_end_and_its_resumption(tmp_path: Path) -> None:
    engine = ScriptedEngine(script=script)
    figures = formats.run(engine, [LISBON, PORTO], options(tmp_path))
    assert set(figures["accuracy"]) == {"both", "simple_python", "multiple"}
    for way in JSON_WAYS:
        whole = figures["accuracy"]["both"][way.name]
        assert (whole["cases"], whole["right"], whole["wrong_arguments"], whole["no_call"]) == (2, 1, 1, 0)
        assert figures["accuracy"]["multiple"][way.name]["right"] == 1
    assert set(figures["pairs"]["both"]) == {
        "thought - thought-free",
        "plain - plain-free",
        "thought - function",
        "thought - plain",
    }
    assert "1/2  50.0%" in formats.report(figures)

    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * len(JSON_WAYS)
    with pytest.raises(SystemExit, match="--resume"):
        formats.run(engine, [LISBON, PORTO], options(tmp_path))
    # Killed within a line: that result is asked for again, the others are not.
    (tmp_path / "out.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    asked = ScriptedEngine(script=script)
    again = formats.run(asked, [LISBON, PORTO], options(tmp_path, resume=True))
    assert len(asked.prompts) == 2 * len(JSON_WAYS) - 3
    assert again["accuracy"]["both"]["plain"]["right"] == 1
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(lines)
    with pytest.raises(SystemExit, match="another"):
        formats.run(engine, [LISBON], options(tmp_path, resume=True, max_tokens=99))


def test_a_free_model_is_stopped_at_its_first_call_and_may_write_none(tmp_path: Path) -> None:
    right = '{"thought": "t", "function": "get.weather", "arguments": {"city": "Lisbon"}}'
    engine = ScriptedEngine([f"Well: {right} And then", "Nothing."])
    free = formats.ask(engine, LISBON, WAYS["thought-free"], 200)
    assert (free["right"], free["form"], free["finish"]) == (True, "found", "interrupted")
    assert free["text"].endswith("}}")
    none = formats.ask(engine, LISBON, WAYS["thought-free"], 200)
    assert (none["right"], none["error"], none["form"]) == (False, "no call", "none")


def test_a_native_way_is_left_out_where_the_template_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = formats.run(ScriptedEngine(script=script), [LISBON], options(tmp_path, ways=["plain", "native"]))
    assert list(figures["accuracy"]["multiple"]) == ["plain"]
    assert "left out: native" in capsys.readouterr().err


def test_formats_of_a_real_model(tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not data_folder("bfcl").is_dir():
        pytest.skip(f"no BFCL cases in {data_folder('bfcl')}")
    arguments = ["--model", str(tiny_model_path), "--cases", "1", "--threads", "1", "--n-ctx", "2048"]
    formats.main([*arguments, "--ways", "plain-free,thought", "--out", str(tmp_path / "out.jsonl")])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    for suite in ("simple_python", "multiple"):
        # Random weights: what is constrained is a call all the same, what is free is none.
        assert figures["accuracy"][suite]["thought"]["no_call"] == 0
        assert figures["accuracy"][suite]["plain-free"]["no_call"] == 1
    assert figures["pairs"]["both"] == {}


def test_it_says_so_where_there_are_no_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.main(["--data", str(tmp_path / "absent")])
    assert capsys.readouterr().out.startswith("skipped: there is no")
