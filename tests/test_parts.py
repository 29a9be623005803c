"""Grammars in parts: what each part takes, where it ends, and how it is ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tagged import TaggedVocabulary

from localmem.errors import GrammarError
from localmem.grammar.free_text import FreeText
from localmem.grammar.parts import Alternatives, Control, Document, Literal, Parts
from localmem.grammar.schema import arguments, text
from localmem.grammar.sequence import PartsGrammar, PartsMatcher
from localmem.protocols import Tag

VOCABULARY = TaggedVocabulary(["<call>", "</call>", "<end>"])
CALL, DONE = Tag(256, "<call>"), Tag(257, "</call>")
LINE = FreeText(10, "$.thought", never=("<call>",))


def bind(*parts: Any) -> PartsMatcher:
    return PartsGrammar(tuple(parts)).bind(VOCABULARY)


def take(matcher: PartsMatcher, *pieces: str | Tag) -> bool:
    """Write pieces; True if all of it was accepted, and every token was in its mask."""
    for piece in pieces:
        for token in VOCABULARY.tokenize(piece) if isinstance(piece, str) else [piece.id]:
            allowed = bool(matcher.mask()[token])
            accepted = matcher.accept(token)
            assert allowed == accepted, (piece, token)
            if not accepted:
                return False
    return True


TAKEN: list[tuple[str, Parts, tuple[str | Tag, ...], bool]] = [
    ("a line, then a tag", (LINE, Control(CALL)), ("hello", CALL), True),
    ("an empty line", (LINE, Control(CALL)), (CALL,), True),
    ("no line end in a line", (LINE, Control(CALL)), ("he\n",), False),
    ("too long a line", (LINE, Control(CALL)), ("0123456789a",), False),
    ("the tag as text", (LINE, Control(CALL)), ("<call>",), False),
    ("most of the tag as text", (LINE, Control(CALL)), ("<call ", CALL), True),
    ("another tag", (LINE, Control(CALL)), ("a", DONE), False),
    ("control characters", (LINE, Control(CALL)), ("a\x07",), False),
    ("characters of several bytes", (LINE, Control(CALL)), ("é😀中", CALL), True),
    ("an end that may come", (FreeText(9, "$", ends="\n"), Control(CALL)), ("a\n", CALL), True),
    ("or not", (FreeText(9, "$", ends="\n"), Control(CALL)), ("a", CALL), True),
    ("but not of nothing", (FreeText(9, "$", ends="\n"), Control(CALL)), ("\n",), False),
    ("nor twice", (FreeText(9, "$", ends="\n"), Control(CALL)), ("a\n\n",), False),
    ("an end that must come", (FreeText(9, "$", ends="\n", ended="said"), Literal("{")), ("a{",), True),
    ("an end that came", (FreeText(9, "$", ends="\n", ended="said"), Literal("{")), ("a\n{",), True),
    ("nothing said", (FreeText(9, "$", ends="\n", ended="said", not_first="{"), Literal("{}")), ("{}",), True),
    ("what begins the next", (FreeText(9, "$", ends="\n", ended="said", not_first="{"), Literal("{}")), ("{a",), False),
    ("an end always", (FreeText(9, "$", ends="!!", ended="always"), Literal("x")), ("!!x",), True),
    ("lines", (FreeText(9, "$", lines=True, never=("<call>",)), Control(CALL)), ("a\nb\n", CALL), True),
    ("too short", (FreeText(9, "$", shortest=2), Control(CALL)), ("a", CALL), False),
    ("long enough", (FreeText(9, "$", shortest=2), Control(CALL)), ("ab", CALL), True),
    ("no more tokens", (FreeText(99, "$", most_tokens=3), Control(CALL)), ("abcd",), False),
    ("a character ends though", (FreeText(99, "$", most_tokens=2), Control(CALL)), ("a😀", CALL), True),
    ("a number that may go on", (Document({"type": "integer"}), Literal(")")), ("12)",), True),
    ("a number that does not", (Document({"type": "integer"}), Literal(")")), ("1a",), False),
    ("no end token in a document", (Document({"type": "integer"}), Literal(")")), ("12", Tag(258, "<end>")), False),
    ("alternatives", (Alternatives(((Literal("ab"),), (Literal("ac"), Control(CALL)))),), ("ac", CALL), True),
    (
        "one that begins the other",
        (Alternatives(((Literal("a"), Control(CALL)), (Literal("ab"),))),),
        ("a", CALL),
        True,
    ),
    ("or the other", (Alternatives(((Literal("a"), Control(CALL)), (Literal("ab"),))),), ("ab",), True),
    ("none of them", (Alternatives(((Literal("ab"),), (Literal("ac"),))),), ("ad",), False),
]


@pytest.mark.parametrize(("parts", "written", "accepted"), [c[1:] for c in TAKEN], ids=[c[0] for c in TAKEN])
def test_what_is_taken(parts: Parts, written: tuple[str | Tag, ...], accepted: bool) -> None:
    assert take(bind(*parts), *written) == accepted


def test_a_refused_token_changes_nothing() -> None:
    matcher = bind(LINE, Control(CALL), Document(arguments({"a": text(5)})), Control(DONE))
    assert take(matcher, "hi")
    before = matcher.mask()
    assert not matcher.accept(DONE.id)
    assert not matcher.accept(10)
    assert np.array_equal(before, matcher.mask())
    assert take(matcher, CALL)


def test_no_tag_stands_within_a_character() -> None:
    matcher = bind(LINE, Control(CALL))
    first, second = "é".encode()
    assert matcher.accept(first)
    assert not matcher.accept(CALL.id)
    assert np.flatnonzero(matcher.mask()).tolist() == list(range(0x80, 0xC0))
    assert matcher.accept(second)
    assert matcher.accept(CALL.id)


def test_forced_tokens_reach_over_parts_as_far_as_there_is_no_choice() -> None:
    matcher = bind(Control(CALL), Literal("x"), Document(arguments({"a": text(5)})), Literal("y"), Control(DONE))
    forced = matcher.forced()
    assert VOCABULARY.read(forced) == '[[<call>]]x{"a": "'
    assert matcher.forced() == forced
    assert not matcher.complete
    assert [matcher.accept(token) for token in forced] == [True] * len(forced)
    assert take(matcher, 'hi"')
    assert VOCABULARY.read(matcher.forced()) == "}y[[</call>]]"
    assert all(matcher.accept(token) for token in matcher.forced())
    assert matcher.complete
    assert matcher.can_stop
    assert matcher.end('<call>x{"a": "hi"}y</call>') is not None


def test_of_several_ways_only_what_they_share_is_forced() -> None:
    matcher = bind(Alternatives(((Literal("say_a("),), (Literal("say_b("),))), Literal(")"))
    assert VOCABULARY.read(matcher.forced()) == "say_"
    assert not any(matcher.accept(token) for token in b"xy(")
    assert all(matcher.accept(token) for token in list(matcher.forced()))
    assert take(matcher, "b")
    assert VOCABULARY.read(matcher.forced()) == "()"


ENDS: list[tuple[str, tuple[str | int, ...], tuple[str, ...]]] = [
    ("", (256, '{"a": "."}', 257), ("$.thought", "$.arguments.a")),
    ("hi", (256, '{"a": "."}', 257), ("$.thought", "$.arguments.a")),
    ("hi<call>", ('{"a": "."}', 257), ("$.arguments.a",)),
    ('hi<call>{"a": "b', ('"}', 257), ("$.arguments.a",)),
    ('hi<call>{"a": "b"}', (257,), ()),
    ('hi<call>{"a": "b"}</call>', (), ()),
]


@pytest.mark.parametrize(("written", "pieces", "cut"), ENDS)
def test_an_end_is_the_rest_of_this_part_and_the_least_of_all_others(
    written: str, pieces: tuple[str | int, ...], cut: tuple[str, ...]
) -> None:
    document = Document(arguments({"a": text(5)}), (("$", "$.arguments"),))
    parts = (LINE, Control(CALL), document, Control(DONE))
    end = None
    for forcing in (False, True):
        matcher = bind(*parts)
        tokens = VOCABULARY.tokenize(written, special=True)
        for token in tokens:
            if forcing:
                matcher.forced()
            assert matcher.accept(token)
        if forcing:
            matcher.forced()  # looks ahead; the end is still that of what was accepted
        end = matcher.end(written)
        assert end is not None
        assert (end.pieces, end.cut) == (pieces, cut)
    assert end is not None
    assert end.most_tokens <= bind(*parts).end_bound  # type: ignore[operator]


def test_the_end_of_a_token_that_is_not_accepted_yet() -> None:
    matcher = bind(LINE, Control(CALL), Literal("x"))
    assert take(matcher, "hi")
    end = matcher.end("hi<call>")
    assert end is not None
    assert end.pieces == ("x",)
    assert matcher.end("hi\n") is None


def test_the_shortest_of_alternatives_ends_them_and_is_named_where_it_was_chosen() -> None:
    ways = Alternatives(((Literal("a long name(", "$.function", 11),), (Literal("now(", "$.function", 3),)))
    matcher = bind(ways, Literal(")"))
    cases: list[tuple[str, str, tuple[str, ...]]] = [
        ("", "now()", ("$.function",)),
        ("a lon", "g name()", ("$.function",)),
        ("now(", ")", ()),
    ]
    for written, rest, cut in cases:
        fresh = bind(ways, Literal(")"))
        assert take(fresh, written)
        end = fresh.end(written)
        assert end is not None
        assert (end.pieces, end.cut) == ((rest,), cut)
    assert matcher.end_bound == len("a long name()")


def test_a_recursive_document_has_no_bound() -> None:
    recursive = {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}
    assert bind(Document(recursive), Control(CALL)).end_bound is None


def test_a_text_that_a_vocabulary_cannot_write_is_refused() -> None:
    class Poor(TaggedVocabulary):
        def tokenize(self, text: str, *, special: bool = False) -> list[int]:
            return [t for t in super().tokenize(text, special=special) if t != ord("{")]

    with pytest.raises(GrammarError, match="cannot write"):
        PartsGrammar((Literal("{}"),)).bind(Poor(["<end>"]))


def test_a_thought_that_is_full_is_ended_for_the_model() -> None:
    matcher = bind(FreeText(3, "$.thought", ends="\n", ended="said"), Literal("{}"))
    assert take(matcher, "abc")
    assert VOCABULARY.read(matcher.forced()) == "\n{}"
    spent = bind(FreeText(99, "$.thought", lines=True, most_tokens=2), Control(DONE), Literal("x"))
    assert take(spent, "ab")
    assert spent.forced() == [DONE.id, ord("x")]
