"""The KV benchmark on a tiny random model: the script, the policies, what is counted, and its commands end to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import kv as benchmark
from localmem import Kind, compile_grammar
from localmem.bench.kv import Contest, Read, Taken
from localmem.bench.kv_answers import COUNT, SETS, Answered, run_answers, schedule, scores
from localmem.bench.kv_engine import Dictated, SpellingMatcher, cuts_offered
from localmem.bench.kv_figures import figures
from localmem.bench.kv_policies import OURS, POLICIES
from localmem.bench.kv_reopen import Openings, measure
from localmem.bench.kv_script import TURNS, script
from localmem.cli import bench_kv, main
from localmem.config import ModelConfig, load_config
from localmem.errors import ConfigError, GrammarError
from localmem.grammar.calls import Spoken, call_grammar
from localmem.grammar.schema import arguments, one_of, text

SHORT = 4


@pytest.fixture(scope="module")
def tiny(tiny_model_path: Path) -> ModelConfig:
    return replace(load_config().model(str(tiny_model_path)), threads=1)


@pytest.fixture(scope="module")
def measured(tiny: ModelConfig) -> Iterator[tuple[Contest, list[Taken]]]:
    with Contest(tiny) as contest:
        yield contest, contest.measure(SHORT)


# -- the script


def test_the_script_has_what_the_figures_are_about() -> None:
    turns = script()
    assert len(turns) == TURNS == 50
    assert sum(turn.edits for turn in turns) == 10
    assert sum(turn.summary is not None for turn in turns) == 3
    assert sum(turn.searches for turn in turns) == 3
    for turn in turns:
        assert [turn.calls[-1][1], turn.edits + turn.searches + 1] == ["send_message", len(turn.calls)]
        assert turn.summary is None or not (turn.edits or turn.searches)
    assert len({turn.user for turn in turns}) == TURNS


@pytest.mark.parametrize("count", range(1, TURNS))
def test_a_shorter_script_is_whole(count: int) -> None:
    turns = script(count)
    assert [turn.number for turn in turns] == list(range(1, count + 1))
    assert sum(turn.edits for turn in turns) == max(1, count // 5)
    assert sum(turn.summary is not None for turn in turns) == max(1, 3 * count // 50)


# -- dictation


def test_a_spelling_allows_one_token_at_a_time(tiny: ModelConfig) -> None:
    from localmem.engine.load import load_engine

    engine = load_engine(tiny, n_ctx=512)
    try:
        vocabulary = engine.vocabulary
        real = call_grammar({"send_message": [arguments({"message": text(50)})]}, Spoken(longest_thought=20))
        said = '{"thought": "", "function": "send_message", "arguments": {"message": "Hi."}}'
        matcher = SpellingMatcher(said, vocabulary, real.bind(vocabulary))
        for token in vocabulary.tokenize(said):
            assert (matcher.forced(), matcher.complete, matcher.end("")) == ([], False, None)
            assert matcher.mask().nonzero()[0].tolist() == [token]
            assert not matcher.accept(token + 1)
            assert matcher.accept(token)
        assert matcher.complete
        assert matcher.can_stop
        assert not matcher.mask().any()
        wrong = SpellingMatcher(said.replace("send_message", "page_out"), vocabulary, real.bind(vocabulary))
        with pytest.raises(GrammarError, match="cannot make here"):
            list(map(wrong.accept, wrong._tokens))

        dictated = Dictated(engine, lambda offered: offered[0])
        dictated.calls.append(said)
        done = dictated.generate(vocabulary.tokenize("Hello there."), constraint=real, max_tokens=64)
        assert (done.text, done.finish, done.forced_tokens) == (said, "stop", 0)
        assert [name for name, _ in dictated.generations] == ["send_message"]
        assert dictated.engine.n_ctx == engine.n_ctx
        dictated.interrupt()
        with pytest.raises(KeyboardInterrupt):
            dictated.generate([1, 2], constraint=real, max_tokens=64)
    finally:
        engine.close()


def test_a_page_out_that_is_asked_for_is_known_by_its_grammar() -> None:
    spoken = Spoken(longest_thought=0)
    page_out = {"page_out": [arguments({"through": one_of([3, 5]), "summary": text(20)})]}
    assert cuts_offered(call_grammar(page_out, spoken)) == [3, 5]
    one = {"page_out": [arguments({"through": one_of([3]), "summary": text(20)})]}
    assert cuts_offered(call_grammar(one, spoken)) == [3]
    message = {"send_message": [arguments({"message": text(9)})]}
    assert cuts_offered(call_grammar(message, spoken)) == cuts_offered(call_grammar(page_out | message, spoken)) == []
    assert cuts_offered(None) == []
    assert cuts_offered(compile_grammar({"type": "string"})) == []


# -- the policies


def test_all_policies_say_the_same_and_read_differently(measured: tuple[Contest, list[Taken]]) -> None:
    _, taken = measured
    found = figures(taken)
    assert (found["turns"], found["edits"], found["page_outs"], found["same_texts"]) == (SHORT, 1, 1, True)
    assert list(found["policies"]) == list(POLICIES)
    read = {policy: own["prefilled"] for policy, own in found["policies"].items()}
    assert min(read["clock"], read["memgpt"]) > read[OURS]
    assert found["ratios"]["clock"]["prefilled"] == round(read["clock"] / read[OURS], 2)
    after_edit = {policy: own["after_edit"]["tokens"] for policy, own in found["policies"].items()}
    assert min(after_edit["memgpt"]) > 5 * max(after_edit[OURS])
    assert found["policies"][OURS]["prefilled_idle"] > 0
    assert {found["policies"][policy]["prefilled_idle"] for policy in ("memgpt", "clock")} == {0}
    assert found["policies"][OURS]["page_out_turn_prefilled"] < 200
    assert {one.policy for one in taken if one.turn == 1} == set(POLICIES)


@pytest.mark.slow
def test_the_whole_script_is_the_same_under_all_policies(tiny: ModelConfig) -> None:
    """No policy's own warning or page-out comes before the script's, and all cut at the same messages."""
    with Contest(tiny) as contest:
        found = figures(contest.measure())
    assert (found["turns"], found["edits"], found["page_outs"], found["same_texts"]) == (TURNS, 10, 3, True)
    assert {own["generations"] for own in found["policies"].values()} == {50 + 10 + 3 + 3 + 1}  # the last: a merge
    ours = found["policies"][OURS]
    assert ours["prefix_hit"] >= 0.97
    assert ours["page_out_turn_prefilled"] <= 200
    assert found["ratios"]["clock"]["prefilled"] >= 10
    assert found["ratios"]["memgpt"]["prefilled"] >= 3


def test_each_yardstick_has_one_system_message_as_it_says(measured: tuple[Contest, list[Taken]]) -> None:
    contest, _ = measured
    systems = {}
    for side in contest.sides[1:]:
        prefix = side.agent.context.in_force
        systems[side.policy] = side.agent.engine.vocabulary.detokenize(prefix.system)
        assert not prefix.core_memory
        assert prefix.summaries  # of the page-out
    memgpt, clock = systems["memgpt"], systems["clock"]
    assert memgpt.index("recall memory") < memgpt.index("Name: Ada") < memgpt.index("- send_message")
    assert clock.index("- send_message") < clock.index("Messages in recall: ") < clock.index("Name: Ada")


def test_what_is_broken_off_is_not_counted() -> None:
    def turn(policy: str, number: int, prefilled: int) -> Taken:
        read = Read("send_message", 100, 100 - prefilled, 5, 0.1 * prefilled)
        return Taken(policy, number, (read,), 0, False, 0.1, 0, 0.0, 100, ("hello",))

    found = figures([turn(OURS, 1, 2), turn("clock", 1, 20), turn(OURS, 2, 2), turn("clock", 2, 60), turn(OURS, 3, 90)])
    assert found["turns"] == 2
    assert (found["policies"][OURS]["prefilled"], found["ratios"]["clock"]["prefilled"]) == (4, 20.0)
    assert found["ratios"]["clock"]["ttft"]["first"] == {"median": 20.0, "p95": 30.0}
    assert figures([])["policies"] == {}
    assert figures([turn("clock", 1, 2)])["ratios"] == {}


def test_an_unknown_policy_is_refused(tiny: ModelConfig) -> None:
    for policies in (["theirs"], []):
        with pytest.raises(ConfigError, match="policies are"):
            Contest(tiny, policies)


# -- openings and answers


def test_openings(tiny: ModelConfig, capsys: pytest.CaptureFixture[str]) -> None:
    with Openings(tiny, n_ctx=3072) as openings:
        prepared = openings.prepare(500)
        found = measure(openings, 1)
    assert prepared["context"] >= 500
    bench_kv._print_openings({**prepared, **found})
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-4:]]
    assert rows == [["reopened,", "cold"], ["reopened,", "ours"], ["new,", "cold"], ["new,", "ours"]]
    for kind in ("reopened", "new"):
        cold = found[kind]["cold"]
        assert cold["read"] == cold["prompt"] > 300
        assert 0 < cold["open_s"] < cold["ready_s"]
        assert min(found[kind]["ours"][name] for name in ("ready_s", "first_token_s")) > 0


def test_questions_lag_behind_their_facts() -> None:
    order = schedule()
    assert len(order) == 2 * COUNT == 50
    for number in range(COUNT):
        assert order.index(("tell", number)) < order.index(("ask", number))


def test_answers_are_the_models_own(tiny: ModelConfig) -> None:
    with Contest(tiny, [OURS, "memgpt"]) as contest:
        found = run_answers(contest, which=SETS - 1, count=2)
        assert [(one.policy, one.expected) for one in found] == [
            (OURS, "Biscuit"), ("memgpt", "Biscuit"), (OURS, "Bergen"), ("memgpt", "Bergen"),
        ]  # fmt: skip
        for side in contest.sides:
            assert "Cat: Biscuit\nGrew up in Bergen" in side.agent.core["human"].value
            assert len(side.agent.store.path(kinds=[Kind.ASSISTANT])) == 4
    assert scores(found)["questions"] == 2


def test_an_answer_is_right_if_the_word_is_in_it() -> None:
    for answer, right in (("You drink TEA.", True), ("Teas!", True), ("Your team.", False), ("", False)):
        assert Answered(OURS, 0, "What?", "tea", answer, 1, 2).right is right


def test_scores() -> None:
    cat = [Answered(policy, 0, "Cat?", "Miso", answer, 1, 2) for policy, answer in ((OURS, "It is MISO."), ("x", "?"))]
    dog = [Answered(policy, 0, "Dog?", "Rex", "Rex", 1, 2) for policy in (OURS, "x")]
    assert scores([*cat, *dog]) == {
        "questions": 2,
        "right": {OURS: 2, "x": 1},
        "differ": [{"set": 0, "question": "Cat?", OURS: True, "x": False}],
    }


# -- the commands


def test_the_benchmark_ends_with_one_line_of_json(
    tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kv.jsonl"
    common = ["--model", str(tiny_model_path), "--threads", "1", "--out", str(out)]
    benchmark.main([*common, "--turns", "1", "--samples", "0", "--policies", "clock,ours"])
    *lines, last = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(last)
    assert (found["benchmark"], found["turns"], found["n_ctx"]) == ("kv", 1, 4096)
    assert any(line.startswith("times ours") for line in lines)
    assert {"first", "all", "turn", "wait"} == set(found["ratios"]["clock"]["ttft"])
    benchmark.main([*common, "--answers", "--facts", "1"])
    scored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (scored["questions"], scored["ours_minus"]) == (1, "memgpt")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row.get("policy") for row in rows] == [OURS, "clock", None, OURS, "memgpt", None]


def test_bench_kv(tiny_model_path: Path) -> None:
    run: Callable[..., Any] = CliRunner().invoke
    flags = ["bench", "kv", "-m", str(tiny_model_path), "--threads", "1", "--samples", "0"]
    done = run(main, [*flags, "--turns", "1", "--policy", "clock", "--policy", "ours", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["benchmark"], list(found["policies"]), found["turns"]) == ("kv", ["ours", "clock"], 1)
    done = run(main, [*flags, "--turns", "1", "--policy", "clock"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["POLICY", "clock"]
    assert run(main, [*flags, "--n-ctx", "2048"]).exit_code == 2
