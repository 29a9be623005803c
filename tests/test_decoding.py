"""The decode loop: whatever the budget, a whole document; forced tokens in the batch of the sampled one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from localmem.engine.decoding import Decoded, DecodeLoop, Interrupted
from localmem.engine.scripted import BYTES, ScriptedEngine
from localmem.engine.spelling import TokenBytes
from localmem.errors import GrammarError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import arguments, call_schema, one_of, text
from localmem.grammar.sources import Choice
from localmem.protocols import End, Vocabulary

SCHEMA = call_schema(
    {
        "send_message": [arguments({"message": text(60)})],
        "append": [arguments({"block": one_of(["human", "persona"]), "content": text(30)})],
    },
    longest_thought=40,
)
SHORTEST = len('{"thought": "", "function": "send_message", "arguments": {"message": "."}}')


class Pieces:
    """A vocabulary of bytes and of longer pieces, some of which break characters."""

    def __init__(self, pieces: Sequence[bytes], end: bytes = b"<end>") -> None:
        self._pieces = [bytes([b]) for b in range(256)] + list(pieces) + [end]
        self.size = len(self._pieces)
        self.end_tokens = self.control_tokens = frozenset({self.size - 1})

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return TokenBytes(self).tokens(text)

    def token_bytes(self, token: int) -> bytes:
        return self._pieces[token]

    def detokenize(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")


class Wanting:
    """A source that wants these tokens, in order, and takes the first that is allowed where its own is not."""

    def __init__(self, wanted: Sequence[int], *, interrupt_after: int | None = None) -> None:
        self.wanted = list(wanted)
        self.fed: list[int] = []
        self.batches: list[int] = []
        self.masks = 0
        self._left = interrupt_after

    def feed(self, tokens: Sequence[int]) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Interrupted
        self.fed += tokens
        self.batches.append(len(tokens))

    def sample(self, allowed: NDArray[np.bool_] | None) -> int:
        if allowed is not None:
            self.masks += 1
            return ord("x") if allowed[ord("x")] else int(np.flatnonzero(allowed)[-1])
        return self.wanted.pop(0) if self.wanted else ord("é".encode()[:1])

    def drop(self, count: int) -> None:
        del self.fed[len(self.fed) - count :]


def _run(
    source: Wanting, vocabulary: Vocabulary, schema: dict[str, Any] | None, max_tokens: int
) -> tuple[DecodeLoop, Decoded, str]:
    matcher = None if schema is None else compile_grammar(schema).bind(vocabulary)
    loop = DecodeLoop(source, vocabulary, TokenBytes(vocabulary), matcher=matcher, max_tokens=max_tokens)
    shown: list[str] = []
    out = loop.run([1, 2, 3], shown.append)
    loop.settle()
    return loop, out, "".join(shown)


@pytest.mark.parametrize("budget", range(SHORTEST, SHORTEST + 75))
def test_every_budget_gives_a_whole_document(budget: int) -> None:
    grammar = compile_grammar(SCHEMA)
    for seed in range(3):
        shown: list[str] = []
        out = ScriptedEngine(seed=seed).generate("x", constraint=grammar, max_tokens=budget, on_text=shown.append)
        assert len(out.tokens) <= budget
        call = json.loads(out.text)
        matcher = grammar.bind(BYTES)
        assert all(matcher.accept(byte) for byte in out.text.encode())
        assert matcher.complete
        assert (out.finish, out.closed_by) in [("stop", None), ("closed", "budget")]
        assert bool(out.closed_paths) == (out.finish == "closed")
        assert "".join(shown) == out.text
        assert call["function"] in ("send_message", "append")


@pytest.mark.parametrize("budget", range(1, 5))
def test_a_text_that_could_go_on_is_whole_when_the_budget_ends(budget: int) -> None:
    for wanted, answer in (({"type": "integer"}, "12345"), (Choice(("a", "aa", "aaaaa")), "aaaaa")):
        out = ScriptedEngine([answer]).generate("x", constraint=compile_grammar(wanted), max_tokens=budget)
        assert out.text in ("1", "12", "123", "1234", "a", "aa")
        assert (out.finish, out.closed_by) == ("closed", "budget")


def test_a_budget_below_the_shortest_document_is_refused_before_anything_is_decoded() -> None:
    engine = ScriptedEngine()
    with pytest.raises(GrammarError, match=str(SHORTEST)):
        engine.generate("x", constraint=compile_grammar(SCHEMA), max_tokens=SHORTEST - 1)


@pytest.mark.parametrize("budget", range(2, 14))
def test_characters_are_never_cut(budget: int) -> None:
    """é is two bytes and 😀 four: the budget ends inside them, or before."""
    vocabulary = Pieces([])
    source = Wanting('"é😀é😀é'.encode())
    loop, out, shown = _run(source, vocabulary, {"type": "string"}, budget)
    value = json.loads(loop.text)
    assert "é😀é😀é".startswith(value)
    assert len(out.tokens) <= budget
    assert source.fed == [1, 2, 3, *out.tokens]
    assert shown == loop.text


@pytest.mark.parametrize("budget", range(2, 10))
def test_a_token_that_ends_one_character_and_begins_another_may_be_taken_back_whole(budget: int) -> None:
    vocabulary = Pieces([b"ab\xf0\x9f", b"\x98\x80", b'"x\xc3'])
    source = Wanting([258, 256, 257, 256, 257, 256])
    loop, out, _ = _run(source, vocabulary, {"type": "string"}, budget)
    json.loads(loop.text)
    assert len(out.tokens) <= budget
    assert source.fed == [1, 2, 3, *out.tokens]


LOOP = arguments({"a": {"type": "string"}, "b": {"type": "string"}})


@pytest.mark.parametrize("gram", ["ha ", "0123456789abcdef", "no\\n", 'so \\"what\\" '])
def test_a_string_that_only_repeats_itself_is_ended(gram: str) -> None:
    """The string is cut; the rest is the model's own again."""
    repeated = (gram * 40)[: max(40, 4 * len(gram))]
    written = f'{{"a": "Well:{repeated}", "b": "after"}}'
    out = ScriptedEngine([written]).generate("x", constraint=compile_grammar(LOOP), max_tokens=1000)
    assert out.text == written
    assert (out.finish, out.closed_by, out.closed_paths) == ("closed", "loop", ("$.a",))


def test_a_loop_is_not_ended_before_the_string_may_be() -> None:
    grammar = compile_grammar({"type": "string", "minLength": 120})
    out = ScriptedEngine([f'"{"ha" * 60}"']).generate("x", constraint=grammar, max_tokens=1000)
    assert (out.text, out.closed_by) == (f'"{"ha" * 60}"', "loop")


def test_what_is_unfinished_is_not_called_closed_for_a_loop_that_was_ended_in_it() -> None:
    class Unplanned:
        """A matcher that knows no end once its second string has begun."""

        def __init__(self) -> None:
            self._matcher = compile_grammar(LOOP).bind(BYTES)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._matcher, name)

        def end(self, text: str) -> End | None:
            return None if '"b": ' in text else self._matcher.end(text)

        end_bound = None

    source = Wanting(b"ha " * 20 + b"x" * 80)
    matcher: Any = Unplanned()
    out = DecodeLoop(source, BYTES, TokenBytes(BYTES), matcher=matcher, max_tokens=80).run([1], lambda _: None)
    assert (out.finish, out.closed_by) == ("length", "loop")


@pytest.mark.parametrize("kind", ["integer", pytest.param("number", marks=pytest.mark.slow)])
def test_a_number_of_thousands_of_digits_is_ended_too(kind: str) -> None:
    grammar = compile_grammar({"type": "array", "items": {"type": kind}})
    # Python's int() takes 4,300 digits at most.
    out = ScriptedEngine([f"[{'1' * 4400}]"]).generate("x", constraint=grammar, max_tokens=4350)
    assert (out.text, out.finish) == (f"[{'1' * 4348}]", "closed")


def test_free_text_may_repeat_itself() -> None:
    _, out, shown = _run(Wanting(b"ha " * 50), BYTES, None, 150)
    assert (shown, out.closed_by) == ("ha " * 50, None)


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"type": "array", "items": {"type": "integer"}}, json.dumps([0] * 60)),
        ({"type": "array", "items": {"type": "string"}}, json.dumps(["no"] * 60)),
        ({"type": "string"}, f'"{"-" * 39}"'),
        ({"type": "string"}, f'"{"0123456789abcdefghij" * 3}"'),
        ({"const": "ha" * 80}, f'"{"ha" * 80}"'),
        ({"enum": ["ha" * 80, "ha" * 79 + "!"]}, f'"{"ha" * 80}"'),
    ],
    ids=["numbers", "strings", "a rule", "three times", "const", "enum"],
)
def test_what_is_meant_to_repeat_is_left_alone(schema: dict[str, Any], written: str) -> None:
    out = ScriptedEngine([written]).generate("x", constraint=compile_grammar(schema), max_tokens=1000)
    assert out.text == written
    assert (out.finish, out.closed_by) == ("stop", None)


def test_forced_tokens_share_the_batch_of_the_sampled_one() -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "name": {"type": "string"}},
        "required": ["kind", "name"],
        "additionalProperties": False,
    }
    source = Wanting(b'ax"')
    loop, out, _ = _run(source, Pieces([]), schema, 100)
    assert loop.text == '{"kind": "a", "name": "x"}'
    assert out.finish == "stop"
    assert out.forced == len(out.tokens) - 3
    # the prompt and {"kind": " | a", "name": " | x | "}
    assert source.batches == [3 + len('{"kind": "'), len('a", "name": "'), 1, 2]
    assert source.masks == 0


def test_a_refused_token_costs_one_mask_and_a_control_token_is_never_text() -> None:
    vocabulary = Pieces([])
    end = vocabulary.size - 1
    source = Wanting([end, ord('"')])
    loop, out, _ = _run(source, vocabulary, {"type": "string"}, 4)
    assert source.masks == 1
    assert "<end>" not in loop.text
    assert end not in out.tokens


def test_without_a_grammar_text_stops_at_an_end_token_or_the_budget() -> None:
    vocabulary = Pieces([])
    end = vocabulary.size - 1
    loop, out, shown = _run(Wanting([*b"hi", end]), vocabulary, None, 10)
    assert (loop.text, out.finish, shown, out.tokens) == ("hi", "stop", "hi", [*b"hi"])
    loop, out, shown = _run(Wanting("hé".encode()), vocabulary, None, 2)
    assert (loop.text, out.finish, shown) == ("h", "length", "h")
    loop, out, shown = _run(Wanting(b"a\xff\xffb"), vocabulary, None, 4)
    assert (loop.text, shown) == ("a\ufffd\ufffdb", "a\ufffd\ufffdb")


@pytest.mark.parametrize("after", range(6))
def test_an_interrupt_keeps_what_was_written(after: int) -> None:
    source = Wanting(b"abcdefgh", interrupt_after=after)
    loop, out, shown = _run(source, Pieces([]), None, 8)
    assert out.finish == "interrupted"
    assert bytes(out.tokens) == b"abcdefgh"[:after]
    assert shown == loop.text
    assert source.fed == [1, 2, 3, *out.tokens][: len(source.fed)]


def test_a_schema_without_a_plan_ends_by_length_and_says_so() -> None:
    loop, out, _ = _run(Wanting(b"aaaa"), Pieces([]), {"type": "string", "pattern": "^(?i:a)+$"}, 4)
    assert (out.finish, out.closed_by) == ("length", None)
    assert loop.text == '"aaa'


class Lacking(Pieces):
    """A vocabulary that cannot write one character."""

    def __init__(self, lost: str) -> None:
        super().__init__([])
        self._pieces[ord(lost)] = b""


def test_a_vocabulary_that_lacks_a_byte_is_one_clear_error() -> None:
    with pytest.raises(GrammarError, match="vocabulary"):
        _run(Wanting(b"x"), Lacking("z"), {"const": "z"}, 20)


def test_spelling_is_exact_and_shortest() -> None:
    vocabulary = Pieces([b"ab", b"abc", b"cde", b""])
    spell = TokenBytes(vocabulary)
    assert [vocabulary.token_bytes(t) for t in spell.tokens("abcde")] == [b"ab", b"cde"]
    assert spell.tokens("") == []
    for value in ("é", "abcabcde", "xabdecd", '"}'):
        assert b"".join(map(vocabulary.token_bytes, spell.tokens(value))) == value.encode()
