"""The shipped fake: it writes what it is told under the real grammar, and says so where it cannot."""

from __future__ import annotations

import json

import pytest

from localmem.engine.scripted import BYTES, ScriptedEngine
from localmem.errors import ModelError
from localmem.events import write_call
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import arguments, call_schema, one_of, text

GRAMMAR = compile_grammar(
    call_schema(
        {
            "send_message": [arguments({"message": text(60)})],
            "append": [arguments({"block": one_of(["human", "persona"]), "content": text(30)})],
        },
        longest_thought=40,
    )
)


def test_answers_in_order_then_the_script_then_random_text() -> None:
    call = {"function": "append", "arguments": {"block": "persona", "content": 'é "x"\n'}, "thought": "t"}
    engine = ScriptedEngine(
        [call, write_call("", "send_message", {"message": "Hi"})],
        script=lambda prompt: {"function": "send_message", "arguments": {"message": prompt}} if "?" in prompt else None,
    )
    first = engine.generate("one", constraint=GRAMMAR, max_tokens=300)
    assert json.loads(first.text) == call
    assert first.finish == "stop"
    assert 0 < first.forced_tokens < len(first.tokens)
    assert json.loads(engine.generate("two", constraint=GRAMMAR).text)["arguments"] == {"message": "Hi"}
    assert json.loads(engine.generate("three?", constraint=GRAMMAR).text)["arguments"] == {"message": "three?"}
    assert json.loads(engine.generate("four", constraint=GRAMMAR, max_tokens=300).text)["function"]
    assert engine.prompts == ["one", "two", "three?", "four"]


def test_the_same_seed_writes_the_same() -> None:
    texts = [ScriptedEngine(seed=s).generate("x", constraint=GRAMMAR, max_tokens=200).text for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    "answer",
    [
        {"function": "nope", "arguments": {}},
        {"function": "append", "arguments": {"block": "other", "content": "x"}},
        {"function": "send_message", "arguments": {"message": ""}},
        {"function": "send_message", "arguments": {"message": "a\tb"}},
        "no call at all",
    ],
)
def test_an_answer_that_the_grammar_refuses_is_a_mistake_in_the_script(answer: object) -> None:
    with pytest.raises(AssertionError, match="scripted answer"):
        ScriptedEngine([answer]).generate("x", constraint=GRAMMAR, max_tokens=2000)  # type: ignore[list-item]


def test_free_text_and_figures() -> None:
    engine = ScriptedEngine(["hé", "more"])
    out = engine.generate("abc")
    assert (out.text, out.finish, out.prompt_tokens, out.reused_tokens) == ("hé", "stop", 3, 0)
    out = engine.generate([*b"abc", *"hé".encode(), *b"!"])
    assert (out.text, out.prompt_tokens, out.reused_tokens, out.diverged_at) == ("more", 7, 6, None)
    out = engine.generate("ab", max_tokens=1)
    assert (out.reused_tokens, out.diverged_at) == (2, 2)


def test_an_interrupt_and_a_window_too_small() -> None:
    engine = ScriptedEngine([write_call("", "send_message", {"message": "A long message"})], n_ctx=400)
    pieces: list[str] = []

    def on_text(piece: str) -> None:
        pieces.append(piece)
        if "long" in "".join(pieces):
            engine.interrupt()

    out = engine.generate("x", constraint=GRAMMAR, on_text=on_text)
    assert out.finish == "interrupted"
    assert out.text.endswith("A long")
    with pytest.raises(ModelError, match="n_ctx"):
        engine.generate("x" * 300, max_tokens=200)


def test_bytes_are_a_vocabulary() -> None:
    assert BYTES.tokenize("<|im_end|>é") == [*b"<|im_end|>", 0xC3, 0xA9]
    assert BYTES.tokenize("a<|im_end|>", special=True) == [ord("a"), 257]
    assert BYTES.detokenize([256, *"é".encode(), 257]) == "é"
    assert BYTES.token_bytes(256) == b"<|im_start|>"
