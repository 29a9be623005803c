"""Strings out of unfinished JSON: the same text wherever the pieces are cut, and never half a character."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmem.grammar.streaming import CallStream, StringStream


def _feed(raw: str, cuts: list[int]) -> tuple[list[str], str]:
    stream = StringStream()
    pieces, rest = [], ""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if stream.ended:
            rest += raw[start:end]
            continue
        text, rest = stream.feed(raw[start:end])
        pieces.append(text)
    assert stream.ended
    return pieces, rest


TEXTS = ["", "plain", 'a "quoted" b', "line\nline", "back\\slash", "é😀中", "\\u0041", "\t/\b", "end\\"]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_split_at_every_position(text: str, ascii_only: bool) -> None:
    raw = json.dumps(text, ensure_ascii=ascii_only)[1:] + ", tail"
    for cut in range(len(raw)):
        pieces, rest = _feed(raw, [cut])
        assert "".join(pieces) == text
        assert rest == ", tail"
        assert not any("\ud800" <= c <= "\udfff" for piece in pieces for c in piece)
    assert "".join(_feed(raw, list(range(1, len(raw))))[0]) == text


@given(text=st.text(), data=st.data())
def test_any_text_in_any_pieces(text: str, data: st.DataObject) -> None:
    raw = json.dumps(text, ensure_ascii=data.draw(st.booleans()))[1:]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    assert "".join(_feed(raw, cuts)[0]) == text


def _call(function: str, argument: str, said: str, thought: str = "Hm \u00e9.") -> str:
    return json.dumps({"thought": thought, "function": function, "arguments": {argument: said}}, ensure_ascii=False)


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_a_call_hands_on_its_thought_and_its_message(step: int) -> None:
    thoughts: list[str] = []
    said: list[str] = []
    stream = CallStream("send_message", "message", thoughts.append, said.append)
    document = _call("send_message", "message", 'Hi "Ada"\n😀')
    for at in range(0, len(document), step):
        stream.feed(document[at : at + step])
    assert "".join(thoughts) == stream.thought == "Hm é."
    assert "".join(said) == stream.text == 'Hi "Ada"\n😀'


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_nothing_of_another_functions_call_is_for_the_user(step: int) -> None:
    stream = CallStream("send_message", "message", lambda _: None, lambda _: None)
    document = _call("send_messages", "message", "secret")
    for at in range(0, len(document), step):
        stream.feed(document[at : at + step])
    assert (stream.thought, stream.text) == ("Hm é.", "")
