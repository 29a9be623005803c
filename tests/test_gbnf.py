"""Grammars run by llama.cpp: held against llguidance, jsonschema and llama.cpp's own reading of a grammar."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rule_texts import fits
from schemas_at_random import SCHEMAS, near

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.engine.vocabulary import LlamaVocabulary
from localmem.errors import GrammarError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.gbnf import GbnfGrammar, write_gbnf
from localmem.grammar.gbnf_text import read_gbnf
from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Rules, Seq, Text
from localmem.grammar.schema import arguments, call_schema, one_of, text
from localmem.grammar.shortest import dump
from localmem.grammar.sources import Choice, Gbnf, Json
from localmem.protocols import Matcher, TokenRules

CALL = call_schema(
    {
        "send_message": [arguments({"message": text(2000)})],
        "core_memory_append": [arguments({"block": one_of(["human", 'a "b"\\']), "content": text(300)})],
    },
    longest_thought=200,
)
_TREE = {
    "type": "object",
    "properties": {"v": {"type": "integer", "minimum": 0}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["v", "next"],
    "additionalProperties": False,
}
RANDOM = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=1024, threads=1))
    yield engine
    engine.close()


def writes(rules: TokenRules, vocabulary: LlamaVocabulary, document: str) -> bool:
    """Whether the document, as the model's own tokens, is taken as a whole text."""
    return all(rules.accept(token) for token in vocabulary.tokenize(document)) and rules.can_stop


def walk(matcher: Matcher, vocabulary: LlamaVocabulary, seed: int, most: int = 60) -> str:
    """A random legal text, ended by its plan where it grows long."""
    chance = random.Random(seed)
    tokens: list[int] = []
    while not matcher.complete and len(tokens) < most:
        allowed = np.flatnonzero(matcher.mask())
        token = int(chance.choice(allowed))
        if token in vocabulary.end_tokens:
            return vocabulary.detokenize(tokens)
        assert matcher.accept(token), vocabulary.token_bytes(token)
        tokens.append(token)
    data = b"".join(map(vocabulary.token_bytes, tokens))
    written = data.decode("utf-8", "ignore")
    end = matcher.end(written)
    assert end is not None, written
    return written + "".join(map(str, end.pieces))


# -- JSON Schema


@RANDOM
@given(schema=SCHEMAS, data=st.data())
def test_documents_are_those_of_llguidance_and_of_jsonschema(
    engine: LlamaEngine, schema: dict[str, Any], data: st.DataObject
) -> None:
    value = data.draw(near(schema))
    document = dump(value)
    mine = writes(GbnfGrammar(Json(schema)).bind(engine.vocabulary), engine.vocabulary, document)
    theirs = writes(compile_grammar(schema, backend="llguidance").bind(engine.vocabulary), engine.vocabulary, document)
    assert mine == theirs, document
    assert mine == jsonschema.Draft202012Validator(schema).is_valid(value), document


@settings(RANDOM, max_examples=15)
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_random_walks_write_valid_documents(engine: LlamaEngine, schema: dict[str, Any], seed: int) -> None:
    document = walk(GbnfGrammar(Json(schema)).bind(engine.vocabulary), engine.vocabulary, seed)
    jsonschema.validate(json.loads(document), schema)


@pytest.mark.parametrize("schema", [CALL, _TREE, {}, {"type": "object", "properties": {"a": {"type": "null"}}}])
@pytest.mark.parametrize("seed", range(2))
def test_random_walks_through_larger_schemas(engine: LlamaEngine, schema: dict[str, Any], seed: int) -> None:
    document = walk(GbnfGrammar(Json(schema)).bind(engine.vocabulary), engine.vocabulary, seed, 100)
    jsonschema.validate(json.loads(document), schema)


@pytest.mark.parametrize("schema", [CALL, _TREE])
@pytest.mark.parametrize("spare", [0, 1, 2, 3, 5, 9, 17, 40, 120])
def test_every_generation_is_whole_at_any_budget(engine: LlamaEngine, schema: dict[str, Any], spare: int) -> None:
    grammar = GbnfGrammar(Json(schema))
    shortest = grammar.bind(engine.vocabulary).end("")
    assert shortest is not None
    budget = shortest.most_tokens if spare else len(engine._spell.end(shortest))
    for seed in range(2):
        out = engine.generate("Go:", constraint=grammar, max_tokens=budget + spare, temperature=2.0, seed=seed)
        assert len(out.tokens) <= budget + spare
        assert out.finish in ("stop", "closed")
        assert writes(grammar.bind(engine.vocabulary), engine.vocabulary, out.text)
        jsonschema.validate(json.loads(out.text), schema)


def test_a_budget_below_the_shortest_document_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(GrammarError, match="shortest document"):
        engine.generate("Go:", constraint=GbnfGrammar(Json(CALL)), max_tokens=3)


def test_a_schema_is_refused_as_it_is_compiled() -> None:
    with pytest.raises(GrammarError, match="'uniqueItems'") as caught:
        GbnfGrammar(Json({"type": "array", "uniqueItems": True}))
    assert caught.value.path == "$.uniqueItems"
    with pytest.raises(GrammarError, match="not a JSON Schema"):
        GbnfGrammar(Json({"const": {1, 2}}))


@pytest.mark.parametrize(
    "meant", ['"', "\\", '\\"', "\n\r\t", "]^-[", "\x01\x7f", "é", "😀", "a#b // {2}", "$y", "\\n", "^a"]
)
def test_literals_mean_what_they_say(engine: LlamaEngine, meant: str) -> None:
    """In an enum, in a choice, and as a class of characters."""
    vocabulary = engine.vocabulary
    ranges = tuple((ord(c), ord(c)) for c in meant)
    for grammar, document in (
        (GbnfGrammar(Json({"enum": [meant, meant + "!"]})).text, dump(meant)),
        (GbnfGrammar(Choice((meant, meant + "!"))).text, meant),
        (write_gbnf(Rules({"root": Repeat(Chars(ranges), 1)})), meant),
        (write_gbnf(Rules({"root": Repeat(Chars(((0x78, 0x78),), negated=True))})), meant),
    ):
        assert writes(vocabulary.gbnf(grammar), vocabulary, document), grammar
        for other in ("x", dump("x"), document + "x"):
            assert not writes(vocabulary.gbnf(grammar), vocabulary, other)


@pytest.mark.parametrize("most", [12, 13, 2000, 2001, 2500, 5003, 100_000])
def test_lengths_are_exact_and_quick(engine: LlamaEngine, most: int) -> None:
    vocabulary = engine.vocabulary
    quote, letter = vocabulary.tokenize('"')[0], vocabulary.tokenize("é")
    started = time.perf_counter()
    grammar = GbnfGrammar(Json({"type": "string", "minLength": 11, "maxLength": most}))
    grammar.bind(vocabulary)
    assert time.perf_counter() - started < 1
    for count in {10, 11, 1500, most, most + 1} - {100_000, 100_001}:
        matcher = grammar.bind(vocabulary)
        assert matcher.accept(quote)
        taken = all(matcher.accept(token) for token in letter * count)
        assert taken == (count <= most)
        assert matcher.accept(quote) == (count >= 11) if taken else True
        assert matcher.complete == (taken and count >= 11)


@pytest.mark.parametrize(
    ("least", "most"), [(0, 15), (3, 30), (17, 17), (100, 123), (1234, None), (0, 2200), (999, 4100)]
)
def test_repetition_of_more_than_a_character(engine: LlamaEngine, least: int, most: int | None) -> None:
    vocabulary = engine.vocabulary
    grammar = write_gbnf(
        Rules({"root": Seq((Repeat(Seq((Text("x"), Ref("y"))), least, most), Text("."))), "y": Text("y")})
    )
    for count in {0, 1, least - 1, least, least + 1, (most or 1300) - 1, most or 1300, (most or 1300) + 1} - {-1}:
        assert writes(vocabulary.gbnf(grammar), vocabulary, "xy" * count + ".") == (
            least <= count and (most is None or count <= most)
        ), count


@pytest.mark.parametrize(
    ("rules", "cause"),
    [
        ({"root": Repeat(Text("a"), 0, 10**7)}, "too large"),
        ({"root": Repeat(Text("a"), 3, 2)}, "fits no text"),
        ({"root": Repeat(Repeat(Text("a")))}, "may be nothing"),
        ({"root": Repeat(Ref("a")), "a": Ref("b"), "b": Alt((Text(""), Text("x")))}, "may be nothing"),
        ({"root": Chars(())}, "no characters"),
        ({"root": Chars(((98, 97),))}, "ends before it begins"),
        ({"root": Alt(())}, "no text"),
        ({f"r{i}" if i else "root": Text("a") for i in range(20_001)}, "20,000 rules"),
    ],
)
def test_rules_that_cannot_be_run_are_refused(rules: dict[str, Rule], cause: str) -> None:
    with pytest.raises(GrammarError, match=cause):
        write_gbnf(Rules(rules))


def test_names_of_rules_are_made_legal_and_stay_apart(engine: LlamaEngine) -> None:
    rules = {
        "my rule": Seq((Ref("my_rule"), Ref("c"), Ref("c-to-20"), Ref("root"))),
        "my_rule": Text("1"),
        "root": Text("2"),
        "c": Repeat(Ref("d"), 0, 20),
        "d": Text("d"),
        "c-to-20": Text("3"),
        "d-to-20": Text("never"),
    }
    grammar = write_gbnf(Rules(rules, root="my rule"))
    for document, whole in (("1ddd32", True), ("1" + "d" * 20 + "32", True), ("1" + "d" * 21 + "32", False)):
        assert writes(engine.vocabulary.gbnf(grammar), engine.vocabulary, document) is whole


# -- choices, and a person's own GBNF


def test_a_choice_is_one_of_its_texts(engine: LlamaEngine) -> None:
    texts = ("yes", "yesterday", 'no "way"\\', "línea\n2", "")
    grammar = GbnfGrammar(Choice(texts))
    for one in texts:
        assert writes(grammar.bind(engine.vocabulary), engine.vocabulary, one)
        assert grammar.bind(engine.vocabulary).end(one[:2]) is not None
    for other in ("y", "yesterdays", "no", " yes"):
        assert not writes(grammar.bind(engine.vocabulary), engine.vocabulary, other)
    assert engine.generate("?", constraint=grammar, max_tokens=20, seed=3).text in texts
    with pytest.raises(GrammarError, match="at least one"):
        GbnfGrammar(Choice(()))


GOOD = [
    'root ::= "a" | "b" c*\nc ::= [^x-z] # not the last\n',
    'root ::= (\n  "a"\n  | # or\n  "b" )+ "!"?\r\n',
    'root ::= [a-c] {2,3} [-.] [\\]\\\\] "\\x41\\u00e9\\U0001F600\\t\\"" .',
    'root ::= item ("," item)*\nitem ::= "a"{3} | "b"{2,} | list\nlist ::= "[" root "]"',
    'root ::=\n  "" | "x" root',
    "root ::= [+-] [a-] [0-9]{0,3}",
]


@pytest.mark.parametrize("grammar", GOOD)
@settings(RANDOM, max_examples=60)
@given(seed=st.integers(0, 2**32), edit=st.integers(0, 3))
def test_gbnf_is_read_as_llama_cpp_reads_it(engine: LlamaEngine, grammar: str, seed: int, edit: int) -> None:
    """A random text of the original, edited or not, means the same to the grammar that was read and written again."""
    vocabulary, chance = engine.vocabulary, random.Random(seed)
    rules, written = vocabulary.gbnf(grammar), ""
    while len(written) < 12 and not rules.complete:
        legal = [
            c for c in 'ab!,x-.]\\A[é😀\t"5+' if vocabulary.gbnf(grammar) and _next(vocabulary, grammar, written + c)
        ]
        if not legal or (rules.can_stop and chance.random() < 0.2):
            break
        written += chance.choice(legal)
        rules = _next(vocabulary, grammar, written) or rules
    for _ in range(edit):
        at = chance.randrange(len(written) + 1)
        written = written[:at] + chance.choice(["a", "b", ",", "", "é"]) + written[at + chance.randrange(2) :]
    mine = GbnfGrammar(Gbnf(grammar)).bind(vocabulary)
    theirs = writes(vocabulary.gbnf(grammar), vocabulary, written)
    assert writes(mine, vocabulary, written) == theirs == fits(read_gbnf(grammar), written)


def _next(vocabulary: LlamaVocabulary, grammar: str, document: str) -> TokenRules | None:
    rules = vocabulary.gbnf(grammar)
    return rules if all(rules.accept(token) for token in vocabulary.tokenize(document)) else None


@pytest.mark.parametrize(
    ("grammar", "cause"),
    [
        ("", "no rule root"),
        ("# only a remark", "no rule root"),
        ('start ::= "a"', "no rule root"),
        ('root ::= "a', "Line 1 .* ends inside"),
        ('root ::= "a"\nitem ::= [a', "Line 2 .* ends inside"),
        ("root ::= item", "'item' .* not defined"),
        ('root ::= "a"\nroot ::= "b"', "Line 2 .* twice"),
        ('root ::= root "a" | "b"', "'root' .* begins with itself"),
        ('root ::= a "x" | "y"\na ::= "b"? root', "begins with itself"),
        ('root ::= a root "x" | "y"\na ::= b\nb ::= "" | "z"', "begins with itself"),
        ('root ::= "a" root', "'root' .* never ends"),
        ('root ::= ("a"*)*', "may be nothing"),
        ('root ::= ("a" | "")+', "may be nothing"),
        ('root ::= "a"{2', "Line 1 .* count"),
        ('root ::= "a"{,3}', "Line 1 .* count"),
        ('root ::= "a"{3,2}', "fits no text"),
        ('root ::= "a"{99999999}', "too large"),
        ('root ::= "a" ]', "is not expected"),
        ('root ::= ("a"', "'\\)' is expected"),
        ('root := "a"', "'::=' is expected"),
        ('root ::= "\\q"', "escape"),
        ('root ::= "\\U00110000"', "escape"),
        ("root ::= [z-a]", "ends before"),
        ("root ::= []", "no characters"),
        ("root ::= <|im_end|>", "single tokens"),
        ('my_rule ::= "a"', "'::=' is expected"),
        ('root ::= "a" | *', "is not expected"),
        ("root ::= " + "(" * 5000 + '"a"' + ")" * 5000, "too deep"),
    ],
)
def test_a_bad_grammar_is_told_by_its_line(grammar: str, cause: str) -> None:
    with pytest.raises(GrammarError, match=cause) as caught:
        GbnfGrammar(Gbnf(grammar))
    assert "\n" not in str(caught.value)


def test_a_large_limit_in_a_grammar_is_kept(engine: LlamaEngine) -> None:
    """llama.cpp itself silently drops it."""
    grammar = GbnfGrammar(Gbnf('root ::= "é"{0,2500} "!"'))
    for count, whole in ((2500, True), (2501, False)):
        assert writes(grammar.bind(engine.vocabulary), engine.vocabulary, "é" * count + "!") is whole


def test_the_end_of_a_persons_grammar_cannot_be_planned(engine: LlamaEngine) -> None:
    grammar = GbnfGrammar(Gbnf("root ::= [a-z ]+ [.]"))
    matcher = grammar.bind(engine.vocabulary)
    assert matcher.end("ab") is None
    assert matcher.end_bound is None
    out = engine.generate("?", constraint=grammar, max_tokens=5, seed=1)
    assert out.finish == "length" or out.text.endswith(".")
    assert set(out.text) <= set("abcdefghijklmnopqrstuvwxyz .")


def test_the_json_grammar_of_the_project(engine: LlamaEngine) -> None:
    source = (Path(__file__).parent.parent / "grammars" / "json.gbnf").read_text(encoding="utf-8")
    grammar = GbnfGrammar(Gbnf(source))
    for document, whole in (
        ('{"a": [1, -2.5e3, null]}', True),
        ('{\n  "é": ""\n}', True),
        ("{a: 1}", False),
        ("01", False),
    ):
        assert writes(grammar.bind(engine.vocabulary), engine.vocabulary, document) is whole
