"""What adapters learn from: texts of which splits share nothing, scenarios that the product lives through, records."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.memory.embedder import HashEmbedder
from training import remembering
from training.compose import PRACTICE, compose
from training.handwritten import handwritten, messages
from training.recorder import Recorder, Trace
from training.records import make, read, write
from training.replay import answers, prose
from training.scenario import SOURCE, Call, Expected, Scenario, Turn, UserFunction
from training.texts import KINDS, SPLITS, fill, load, overlaps, templates
from training.world import World


@pytest.fixture(scope="module")
def recorder(model_path: Path) -> Iterator[Recorder]:
    engine = LlamaEngine(model_path, LlamaOptions(n_ctx=8192, reads_ahead=False), name="smollm2-135m")
    yield Recorder(engine, HashEmbedder(384))
    engine.close()


# -- texts


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_splits_share_neither_templates_nor_values(one: str, other: str) -> None:
    assert overlaps(load(one), load(other)) == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_text_can_be_filled(split: str) -> None:
    texts, rng = load(split), random.Random(0)
    for kind in KINDS:
        for item in texts[kind]:
            values = {"old": "old", "text": "text", "title": "title"} | texts.draw(item, rng)
            for template in templates(item):
                assert "{" not in fill(template, values)


def test_a_slot_that_is_not_declared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "chat.yaml").write_text('- {kind: chat, say: ["Hello {who}"], reply: ["Hi"]}\n')
    monkeypatch.setattr("training.texts._FOLDER", tmp_path)
    with pytest.raises(ValueError, match="who"):
        load.__wrapped__("odd")


def test_nothing_written_by_hand_is_in_the_texts_to_learn_from_nor_what_guides_in_what_judges() -> None:
    learnt, judging = (
        {template.casefold() for kind in KINDS for item in load(split)[kind] for template in templates(item)}
        for split in ("train", "test")
    )
    reported, guiding = (
        {scenario.turns[-1].text.casefold() for scenario in found} for found in (handwritten(), messages())
    )
    assert (len(reported), len(guiding)) == (100, 320)
    assert not learnt & (reported | guiding)
    assert not guiding & (judging | reported)


# -- scenarios


def test_a_seed_makes_the_same_scenario_and_another_seed_another() -> None:
    texts = load("dev")
    assert compose(texts, 3) == compose(texts, 3)
    assert compose(texts, 3).turns != compose(texts, 4).turns


def test_a_name_alone_is_told_only_where_nothing_is_known() -> None:
    world = World(random.Random(1), load("train"), datetime(2024, 5, 1, 9))
    turn = remembering.introduced(world)
    assert turn is not None
    assert turn.calls[0].arguments["content"].startswith("Name: ")
    assert remembering.introduced(world) is None


def test_who_comes_back_a_day_later_asks_of_yesterday() -> None:
    texts = load("train")
    asked = [
        turn.text
        for seed in range(300)
        for turn in compose(texts, seed, PRACTICE).turns
        if turn.expected.kind == "said question"
    ]
    assert any("yesterday" in question.split("?")[-1] for question in asked)


def test_all_kinds_of_turns_are_composed() -> None:
    kinds = {turn.expected.kind for seed in range(150) for turn in compose(load("dev"), seed).turns}
    assert {"fact", "correction", "forget", "past question", "day", "document question", "function", "chat"} <= kinds
    assert {"missing", "page-out", "several facts", "fact in passing", "core question", "keep", "unknown"} <= kinds


def test_what_replaces_a_line_keeps_the_rest_of_it() -> None:
    for seed in range(60):
        for turn in compose(load("dev"), seed).turns:
            for call in turn.calls:
                if call.function == "core_memory_replace" and call.arguments["new_content"]:
                    assert call.arguments["new_content"] != call.arguments["old_content"]
                    assert turn.expected.fact[0] in call.arguments["new_content"]


# -- recording


def scenario(*turns: Turn, **changes: object) -> Scenario:
    plain = replace(
        compose(load("dev"), 0), human=(), told=(), past=(), summary="", documents=(), notes=(), functions=()
    )
    return replace(plain, turns=turns, **changes)  # type: ignore[arg-type]


def say(message: str) -> Call:
    return Call("Answer.", "send_message", {"message": message})


def texts_of(recorder: Recorder, trace: Trace) -> list[str]:
    detokenize = recorder._dictated.vocabulary.detokenize
    return [detokenize(trace.tokens[start:end]) for start, end in trace.written]


def test_what_is_recorded_is_what_was_dictated(recorder: Recorder) -> None:
    save = Call("Save it.", "core_memory_append", {"block": "human", "content": "Name: Ada"})
    told = Turn("I'm Ada.", (save, say("Hello, Ada!")), Expected("fact", ("core_memory_append",)))
    (trace,) = recorder.record(scenario(told, Turn("Bye!", (say("Bye, Ada!"),), Expected("chat"))))
    written = [json.loads(text) for text in texts_of(recorder, trace)]
    assert [call["function"] for call in written] == ["core_memory_append", "send_message", "send_message"]
    assert written[0]["arguments"] == {"block": "human", "content": "I'm Ada."}
    held = recorder._dictated.vocabulary.detokenize(trace.tokens)
    assert "ok: human is now:\nI'm Ada." in held


def test_a_call_that_the_agent_could_not_make_ends_the_scenario(recorder: Recorder) -> None:
    wrong = Call("", "core_memory_replace", {"block": "human", "old_content": "no such line", "new_content": "x"})
    turns = (
        Turn("Hi", (say("Hi!"),), Expected("chat")),
        Turn("Change it.", (wrong, say("Done.")), Expected("correction")),
        Turn("Hi", (say("Hi!"),), Expected("chat")),
    )
    (trace,) = recorder.record(scenario(*turns))
    assert len(trace.written) == 1


def test_a_reply_cites_the_hit_that_has_the_value(recorder: Recorder) -> None:
    search = Call("", "archival_memory_search", {"query": "", "page": 1})
    expected = Expected("document", ("archival_memory_search",), query=("pump", "filter"), found="every 9 weeks")
    ask = Turn("How often do I clean the filter?", (search, say(f"Every 9 weeks ({SOURCE}).")), expected)
    documents = (("pond.md", "Clean the filter every 9 weeks.\n\nThe pump is silent."),)
    (trace,) = recorder.record(scenario(ask, documents=documents))
    called, replied = map(json.loads, texts_of(recorder, trace))
    assert called["arguments"]["query"] == "How often do I clean the filter?"
    assert replied["arguments"]["message"].startswith("Every 9 weeks (pond.md")


def test_a_search_that_finds_something_else_ends_the_scenario(recorder: Recorder) -> None:
    search = Call("", "archival_memory_search", {"query": "", "page": 1})
    expected = Expected("document", ("archival_memory_search",), query=("filter",), found="every 9 weeks")
    ask = Turn("How often?", (search, say("Every 9 weeks.")), expected)
    assert recorder.record(scenario(ask, documents=(("pond.md", "Clean the filter monthly."),))) == []


def test_a_page_out_begins_a_new_trace_and_its_summary_says_what_went(recorder: Recorder) -> None:
    fact = Turn("I'm Ada.", (say("Hello!"),), Expected("chat"), gist="The user is called Ada")
    other = Turn("Bye", (say("Bye!"),), Expected("chat"), gist="The user said goodbye")
    page_out = Turn("", (Call("", "page_out", {"through": 0, "summary": ""}),), Expected("page-out"), begins="page_out")
    first, second = recorder.record(scenario(fact, fact, other, other, page_out, other))
    assert "The user is called Ada" in texts_of(recorder, first)[-1]
    assert "The user is called Ada" in recorder._dictated.vocabulary.detokenize(second.tokens)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    traces = [
        Trace([1, 2, 3, 4], [(1, 3)], [1, 2], [4.0, 0.5]),
        Trace([5, 6], [(0, 1), (1, 2)], [0], [2.0]),
        Trace([7], [(0, 1)]),
    ]
    about = write({0: traces}, tmp_path / "some.npz")
    assert (about["calls"], about["chosen"]) == (4, 3)
    found = read(tmp_path / "some.npz")
    assert [record.tokens.tolist() for record in found] == [[1, 2, 3, 4], [5, 6], [7]]
    assert [record.chosen.tolist() for record in found] == [[1, 2], [0], []]
    assert [record.weights.tolist() for record in found] == [[4.0, 0.5], [2.0], []]


def test_what_the_grammar_forces_is_not_chosen(recorder: Recorder) -> None:
    save = Call("Save it.", "core_memory_append", {"block": "human", "content": "Name: Ada"})
    told = Turn("I'm Ada.", (save, say("Hello, Ada!")), Expected("fact", ("core_memory_append",)))
    (trace,) = recorder.record(scenario(told))
    detokenize = recorder._dictated.vocabulary.detokenize
    chosen = detokenize([trace.tokens[at] for at in trace.chosen])
    assert "Save it." in chosen
    assert "Ada" in chosen
    assert "arguments" not in chosen
    assert '{"thought' not in chosen
    assert len(trace.weights) == len(trace.chosen)
    assert trace.weights[0] > 1 > trace.weights[-1]  # the decision, and a greeting of free wording


def test_the_end_of_a_line_is_a_decision(recorder: Recorder) -> None:
    save = Call("Save it.", "core_memory_append", {"block": "human", "content": "Name: Ada\nHome: Porto"})
    text = "I'm Ada. I live in Porto. Rain falls."
    told = Turn(text, (save, say("Hello!")), Expected("fact", ("core_memory_append",), fact=("Ada", "Porto")))
    (trace,) = recorder.record(scenario(told))
    token_bytes = recorder._dictated.vocabulary.token_bytes
    start, end = trace.written[0]
    weights = {at: weight for at, weight in zip(trace.chosen, trace.weights, strict=True) if start <= at < end}
    _, *ends = [at for at in weights if token_bytes(trace.tokens[at]).startswith((b'."', b".\\"))]
    assert len(ends) >= 2  # besides the thought's
    assert {weights[at] for at in ends} == {max(trace.weights)}


def test_the_texts_that_a_users_function_is_given_are_spelled_as_in_the_message(recorder: Recorder) -> None:
    """And which of its words are given is a decision."""
    function = UserFunction("court_hire", "Books a court.", {"surface": "str", "hours": "int"})
    arguments = {"surface": "clay", "hours": 2}
    book = Call("Function; call it.", "court_hire", arguments)
    expected = Expected("function", ("court_hire",), arguments=arguments, line="done")
    turn = Turn("Clay for 2 hours, please.", (book, say("Booked.")), expected)
    (trace,) = recorder.record(scenario(turn, functions=(function,)))
    called = json.loads(texts_of(recorder, trace)[0])
    assert (called["function"], called["arguments"]) == ("court_hire", {"surface": "Clay", "hours": 2})
    detokenize = recorder._dictated.vocabulary.detokenize
    start, end = trace.written[0]
    decided = [at for at, weight in zip(trace.chosen, trace.weights, strict=True) if weight == max(trace.weights)]
    assert "Cl" in detokenize([trace.tokens[at] for at in decided if start <= at < end])


def test_a_process_that_ends_early_ends_the_making_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.records._PATIENCE_S", 0.2)
    with pytest.raises(SystemExit, match="ended early"):
        make("no such split", range(2), 1)


def test_a_record_of_the_product_begins_with_its_static_prefix(recorder: Recorder) -> None:
    from localmem.prefix import static_prefix

    prefix = static_prefix(recorder._dictated.chat_format, [], "compact")
    (trace,) = recorder.record(scenario(Turn("Hi", (say("Hi!"),), Expected("chat"))))
    assert trace.tokens[: len(prefix)] == prefix


def test_what_is_replayed_is_what_the_model_wrote(recorder: Recorder) -> None:
    engine = recorder.engine
    traces = [*prose(engine, 1, most=6), *answers(engine, 2, most=6)]
    for trace in traces:
        ((start, end),) = trace.written
        assert end == len(trace.tokens)
        assert trace.chosen == list(range(start, end))
        assert len(trace.weights) == len(trace.chosen) >= 1
    again = [*prose(engine, 1, most=6), *answers(engine, 2, most=6)]
    assert [trace.tokens for trace in again] == [trace.tokens for trace in traces]
    assert traces[1].tokens[: traces[1].written[0][0]][-len(engine.chat_format.opening) :] == engine.chat_format.opening
