"""Events as messages, and the few-shot examples in the same format."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from agents import say

from localmem.engine.scripted import BYTES, ScriptedEngine
from localmem.events import Event, FunctionCall, Kind, write_call
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import arguments, call_schema, text
from localmem.memory.core import Block
from localmem.prefix import static_prefix
from localmem.rendering import core_text, render, render_all, summaries_text

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def event(id: int, kind: Kind, body: str = "", **details: object) -> Event:
    return Event(id, NOW, kind, id - 1 or None, body, details=details)


@pytest.mark.parametrize(
    ("one", "role", "shown"),
    [
        (event(3, Kind.USER, "Hi."), "user", "] Hi."),
        (event(3, Kind.USER, "long", shown_text="lo…"), "user", "] lo…"),
        (event(3, Kind.LOGIN, "login: Ada"), "system", "] login: Ada"),
        (event(3, Kind.ALERT, "Full."), "system", "] Full."),
        (event(3, Kind.RESULT, "Found.", status="ok"), "tool", "ok: Found."),
        (event(3, Kind.RESULT, "No.", status="failed"), "tool", "failed: No."),
    ],
)
def test_roles_and_texts(one: Event, role: str, shown: str) -> None:
    message = render(one)
    assert message is not None
    assert (message.role, message.events) == (role, (3,))
    assert message.text.endswith(shown)


@pytest.mark.parametrize("kind", [Kind.THOUGHT, Kind.ASSISTANT, Kind.SUMMARY])
def test_what_stands_elsewhere_has_no_message_of_its_own(kind: Kind) -> None:
    assert render(event(3, kind, "x")) is None


def test_thought_call_and_reply_are_one_message_as_the_grammar_writes_it() -> None:
    call = Event(3, NOW, Kind.CALL, 2, call=FunctionCall("send_message", {"message": 'Ünï "quoted"\n'}))
    events = [event(1, Kind.USER, "Hi."), event(2, Kind.THOUGHT, "Hm."), call, event(4, Kind.ASSISTANT, "Ünï")]
    by_id = {one.id: one for one in events}
    user, reply = render_all(events, lambda one: by_id.get(one.parent or 0))
    assert user.events == (1,)
    assert reply.events == (2, 3, 4)
    document = json.loads(reply.text)
    assert list(document) == ["thought", "function", "arguments"]
    matcher = compile_grammar(call_schema({"send_message": [arguments({"message": text()})]}, longest_thought=50)).bind(
        BYTES
    )
    assert all(matcher.accept(token) for token in BYTES.tokenize(reply.text))
    assert matcher.can_stop


def test_a_new_day_is_dated_and_the_same_day_is_not() -> None:
    first = event(1, Kind.USER, "a")
    same = Event(2, NOW + timedelta(minutes=1), Kind.USER, 1, "b")
    other = Event(3, NOW + timedelta(days=1), Kind.USER, 2, "c")
    texts = [
        m.text for one, before in ((first, None), (same, first), (other, same)) if (m := render(one, after=before))
    ]
    dated = [f"{NOW.astimezone():%Y-}" in one for one in texts]
    assert dated == [True, False, True]


def test_blocks_and_summaries() -> None:
    blocks = [Block("persona", "I am Lo.", 100, ""), Block("human", "", 100, "")]
    assert core_text(blocks, "Core:") == "Core:\n<persona>\nI am Lo.\n</persona>\n<human>\n(empty)\n</human>"
    assert summaries_text([], "Summaries:") == ""
    span = {"since": NOW.isoformat(), "until": (NOW + timedelta(days=2)).isoformat()}
    summary = event(9, Kind.SUMMARY, "Tea and more.", level=0, first=1, last=8, cut=False, **span)
    line = summaries_text([(summary, "Tea.")], "Summaries:")
    assert line.splitlines()[1].startswith("- [#1-8 2026-03-")
    assert line.endswith("Tea. (cut short)")


def test_the_examples_are_in_the_products_own_format() -> None:
    """Every example call is one that the grammar could have written."""
    engine = ScriptedEngine()
    prefix = engine.vocabulary.detokenize(static_prefix(engine.chat_format, [], "fewshot"))
    calls = [json.loads(line) for line in prefix.splitlines() if line.startswith('{"thought"')]
    assert len(calls) >= 8
    for one in calls:
        written = write_call(one["thought"], one["function"], one["arguments"])
        assert written in prefix
        assert list(one) == ["thought", "function", "arguments"]
    assert say("x")["function"] in {one["function"] for one in calls}


def test_the_static_prefix_is_frugal() -> None:
    """At most 600 tokens without examples, at the 4 bytes a token that English takes."""
    engine = ScriptedEngine()
    assert len(static_prefix(engine.chat_format, [], "compact")) / 4 < 600
