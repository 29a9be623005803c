"""The benchmark of memory's calls: prompts by hand as scenarios, whole runs, what ends one early, general chat."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
from agents import call, say

from benchmarks import calls
from benchmarks.calls import ask_all, scenarios
from benchmarks.judging import judge, says
from benchmarks.perplexity import QUESTIONS, Reader, perplexity
from benchmarks.scores import report
from localmem import ScriptedEngine
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.memory.embedder import HashEmbedder, SentenceEmbedder
from localmem.protocols import Generation
from training.compose import compose
from training.handwritten import handwritten, messages
from training.recorder import Recorder
from training.scenario import SOURCE, Call, Expected, Scenario, Turn
from training.texts import load


def recorder(engine: Any) -> Recorder:
    return Recorder(cast(LlamaEngine, engine), HashEmbedder(), quoting=False, max_steps=3)


def options(tmp_path: Path, **other: Any) -> argparse.Namespace:
    given = {"set": "handwritten", "turns": 3, "seed": 0, "max_steps": 3, "out": tmp_path / "o.jsonl", "resume": False}
    return argparse.Namespace(**given | other)


def right(turn: Turn) -> list[dict[str, Any]]:
    """The calls of a turn as answers of an engine."""
    return [call(each.function, each.thought, **each.arguments) for each in turn.calls]


def test_each_prompt_by_hand_is_a_scenario_with_one_judged_turn() -> None:
    found = handwritten()
    assert len({scenario.id for scenario in found}) == len(found) == 100
    for scenario in found:
        assert [calls.is_judged(turn) for turn in scenario.turns] == [False] * (len(scenario.turns) - 1) + [True]
        expected = scenario.turns[-1].expected
        assert expected.old is None or expected.old in scenario.human
        assert (expected.days is not None) == (expected.kind == "day")
    by_id = {scenario.id: scenario for scenario in found}
    assert by_id["h059"].turns[-1].expected.days == ("2026-06-08", "2026-06-08")
    assert by_id["h054"].turns[-1].expected.nothing
    assert by_id["h042"].turns[-1].expected.kind == "forget"
    assert by_id["h089"].turns[-1].expected.kind == "chat"
    assert by_id["h083"].turns[0].calls[-1].arguments["message"].startswith("A British pint")


def test_each_message_by_hand_is_a_scenario_of_one_turn() -> None:
    found = messages()
    assert len({scenario.id for scenario in found}) == len(found) == 320
    assert list(calls.scenarios("messages", 0)) == list(found)
    for scenario in found:
        (turn,) = scenario.turns
        expected, known = turn.expected, "\n".join(scenario.human)
        assert calls.is_judged(turn)
        assert expected.old is None or expected.old in scenario.human
        assert all(any(says(part, turn.text) for part in fact.split("|")) for fact in expected.fact), turn.text
        assert all(any(says(part, known) for part in value.split("|")) for value in expected.answer), turn.text
    kinds = Counter(scenario.turns[0].expected.kind for scenario in found)
    told = {"fact": 105, "correction": 40, "forget": 10, "keep": 5}
    assert kinds == told | {"chat": 110, "core question": 25, "past question": 25}


HAND = [
    call("core_memory_append", block="human", content="Name: Seun"),
    say("Hello Seun!"),
    call("core_memory_append", block="human", content="Works nights"),
    say("Sleep well!"),
    say("I see."),  # which forgets to save
]


def test_a_run_and_its_resumption(tmp_path: Path) -> None:
    engine = ScriptedEngine(HAND)
    first = calls.head(recorder(engine), options(tmp_path))
    figures = calls.run(recorder(engine), options(tmp_path), first)
    scores = figures["sets"]["handwritten"]["all"]
    assert (scores["turns"], scores["choice"]["right"], scores["stored"]["right"]) == (3, 2, 2)
    assert scores["chain"]["share"] == pytest.approx(2 / 3, abs=1e-4)
    assert "66.7 (21-94)" in report(figures)
    lines = (tmp_path / "o.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["scenario"] for line in lines[1:]] == ["h001", "h002", "h003"]
    with pytest.raises(SystemExit, match="--resume"):
        calls.run(recorder(engine), options(tmp_path), first)
    (tmp_path / "o.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    again = calls.run(recorder(ScriptedEngine(HAND[4:])), options(tmp_path, resume=True), first)
    assert again["sets"]["handwritten"]["all"]["chain"] == scores["chain"]
    with pytest.raises(SystemExit, match="another"):
        calls.run(recorder(engine), options(tmp_path, resume=True), {**first, "prompt": "fewshot"})


def settled(scenario: Scenario) -> bool:
    """Whether all that its turns say is known before they are taken, and fits a block in a vocabulary of bytes."""
    made = [each for turn in scenario.turns for each in turn.calls]
    plain = not any("search" in each.function or SOURCE in str(each.arguments) for each in made)
    lines = [*scenario.human, *(str(each.arguments.get("content", "")) for each in made)]
    return plain and all(turn.begins == "user" for turn in scenario.turns) and sum(map(len, lines)) < 170


def test_right_answers_are_right_and_leave_no_trace() -> None:
    scenario = next(s for n in range(400) if settled(s := compose(load("test"), n)))
    answers = [answer for turn in scenario.turns if calls.is_judged(turn) for answer in right(turn)]
    engine = ScriptedEngine(answers)
    rows = list(ask_all(recorder(engine), iter([scenario]), set()))
    assert len(rows) == sum(map(calls.is_judged, scenario.turns))
    assert [row["message"] for row in rows if not row["chain"]] == []
    for prompt in engine.prompts:  # what the model did itself is taken back: each call stands there once
        stored = re.findall(r'"content": "([^"]+)"', prompt)
        assert len(stored) == len(set(stored))


def test_a_turn_whose_right_answer_the_grammar_has_no_room_for_is_wrong() -> None:
    """And the scenario ends there."""
    scenario = next(s for n in range(400) if settled(s := compose(load("test"), n)))
    call = Call("Think.", "core_memory_replace", {"block": "human", "old_content": "no such line", "new_content": "x"})
    wanted = Expected("correction", ("core_memory_replace",), fact=("x",), old="no such line")
    impossible = Turn("It is x now.", (call,), wanted)
    rows = list(ask_all(recorder(ScriptedEngine([])), iter([replace(scenario, turns=(impossible,) * 2)]), set()))
    assert [(row["kind"], row["choice"], row["stored"], row["chain"]) for row in rows] == [
        ("correction", False, False, False)
    ]


class Stopped(ScriptedEngine):
    """Ctrl-C in the third generation: an engine says so, and raises nothing."""

    def generate(self, *given: Any, **named: Any) -> Generation:
        done = super().generate(*given, **named)
        return replace(done, finish="interrupted") if len(self.prompts) == 3 else done


def test_ctrl_c_ends_a_run_with_what_was_asked_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Stopped(HAND)
    found = calls.run(recorder(engine), options(tmp_path), {"model": "scripted", "prompt": "compact"})
    assert found["interrupted"]
    assert found["sets"]["handwritten"]["all"]["turns"] == 1
    assert "interrupted" in capsys.readouterr().err
    assert "handwritten" in report(found)


def test_a_real_model(tiny_model_path: Path, tmp_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=4096, threads=1))
    try:
        lived = Recorder(engine, HashEmbedder(), quoting=False, max_steps=3)
        found = calls.run(lived, options(tmp_path, set="both", turns=1, out=None), {"benchmark": "calls"})
    finally:
        engine.close()
    assert [scores["all"]["turns"] for scores in found["sets"].values()] == [1, 1]
    assert found["sets"]["test"]["all"]["tokens"] > 0


def test_scenarios_of_the_test_set_do_not_end() -> None:
    listed = scenarios("test", 7)
    assert [next(listed).id for _ in range(2)] == ["test-7", "test-8"]


def test_perplexity_of_a_real_model(tiny_model_path: Path) -> None:
    reader = Reader(tiny_model_path, LlamaOptions(threads=1), 256)
    try:
        tokens = [(7 * n * n + n) % 40000 for n in range(1, 500)]
        losses = reader.losses(tokens[:256])
        # However the tokens are dealt into batches, each is read behind all those before it.
        assert reader.losses(tokens[:130]) == pytest.approx(losses[:129], rel=1e-3)
        assert perplexity(reader, tokens)["tokens"] == len(tokens) - 1
        # Random weights: no better than a guess.
        assert perplexity(reader, tokens)["perplexity"] > 10_000
    finally:
        reader.close()


def test_plain_questions_do_not_hold_their_answers() -> None:
    assert len(QUESTIONS) == 30
    for question, word in QUESTIONS:
        assert not any(part.casefold() in question.casefold().split() for part in word.split("|"))


def test_what_a_quoting_agent_is_taught_is_right(model_path: Path, embedder_folder: Path) -> None:
    engine = LlamaEngine(model_path, LlamaOptions(n_ctx=8192, reads_ahead=False), name="smollm2-135m")
    embedder = SentenceEmbedder(embedder_folder, "minilm")
    lived, wrong, quoted = Recorder(engine, embedder), [], 0
    try:
        for scenario in islice(scenarios("dev", 3), 3):
            with lived.opened(scenario) as agent:
                for turn in scenario.turns:
                    known = agent.core["human"].value.splitlines()
                    made, reply = calls._made(lived.take(agent, turn))
                    verdict = judge(lived.expected(turn), turn.text, made, reply, known)
                    if calls.is_judged(turn) and not verdict.chain:
                        wrong.append((turn, made, reply))
                    stored = [
                        str(call.arguments.get("content", call.arguments.get("new_content", ""))) for call in made
                    ]
                    quoted += sum(line in turn.text for content in stored for line in content.splitlines())
    finally:
        engine.close()
        embedder.close()
    assert wrong == []
    assert quoted >= 3
