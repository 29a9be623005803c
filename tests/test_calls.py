"""Calls in every format: on bytes, and on a real tokenizer with a model that writes at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from agents import agent_on
from call_templates import CALL_TEMPLATES
from numpy.typing import NDArray
from tagged import tagged
from tiny_gguf import CONTROL, USER_DEFINED, Tokenizer, write_tiny

from localmem.config import ModelConfig, Paths, PathSource, load_config
from localmem.engine.decoding import Decoded, DecodeLoop
from localmem.engine.llama import LlamaEngine, LlamaOptions
from localmem.engine.scripted import BYTES, ScriptedEngine
from localmem.engine.spelling import TokenBytes
from localmem.errors import ConfigError, GrammarError
from localmem.events import Kind
from localmem.events import write_call as write_json
from localmem.grammar.call_text import JSON, joined_names, read_call, write_call
from localmem.grammar.calls import Spoken, call_grammar
from localmem.grammar.compile import compile_grammar
from localmem.grammar.free_text import FreeText
from localmem.grammar.schema import Schema, arguments, call_schema, text
from localmem.grammar.streaming import CallStream
from localmem.memory.embedder import HashEmbedder
from localmem.opening import Setting, open_agent
from localmem.protocols import CallFormat, Marks, Sampling, Vocabulary

_OPTIONAL = {
    "count": {"type": "integer", "minimum": -5, "maximum": 120},
    "share": {"type": "number", "minimum": 0, "maximum": 1},
    "names": {"type": "array", "items": text(10), "maxItems": 3},
    "maybe": {"anyOf": [text(20), {"type": "null"}]},
}
FUNCTIONS: dict[str, list[Schema]] = {
    "send_message": [arguments({"message": text(200)})],
    "note": [
        arguments({"block": {"const": "human"}, "content": text(80)}),
        arguments({"block": {"const": "persona"}, "content": text(60)}),
    ],
    "note_all": [arguments({"level": {"enum": [1, 2, 30]}, "word": {"enum": ["a b", "it's", 'q"q']}})],
    "measure": [arguments(_OPTIONAL, optional=("share", "names", "maybe"))],
    "switch": [arguments({"on": {"type": "boolean"}})],
    "now": [arguments({})],
}

# What a string argument, a thought or a user's text may hold without becoming anything else.
HOSTILE = (
    "<tool_call></tool_call> [TOOL_CALLS] [ARGS] <|tool_call_start|> <|tool_call|> <|/tool_call|> <escape> "
    '<|"|> </think> <|im_end|> <|python_tag|> <end_function_call> </s> "} )]'
)


def fits(function: str, given: Mapping[str, Any]) -> bool:
    return any(jsonschema.Draft202012Validator(schema).is_valid(given) for schema in FUNCTIONS[function])


def form_of(name: str) -> CallFormat:
    form = tagged(name)[0].call_format
    assert form is not None
    return form


def tokens_of(marks: Marks, vocabulary: Vocabulary) -> list[int]:
    return [t for m in marks for t in (vocabulary.tokenize(m) if isinstance(m, str) else [m.id])]


@cache
def grammar_of(name: str, thinking: int = 40) -> Any:
    return call_grammar(FUNCTIONS, Spoken(form_of(name), 60, thinking))


class Random:
    """Draws any token, control tokens and quotes often."""

    def __init__(self, seed: int, size: int) -> None:
        self._random = random.Random(seed)
        self._size = size

    def feed(self, tokens: Sequence[int]) -> None:
        """Nothing is kept."""

    def sample(self, allowed: NDArray[np.bool_] | None) -> int:
        if allowed is None:
            return self._random.choice([*range(256, self._size), *range(32, 127), *b'\n"""""""'])
        for token in (34, *range(256, self._size)):
            if allowed[token] and self._random.random() < 0.15:
                return token
        choices = np.flatnonzero(allowed)
        return int(choices[self._random.randrange(len(choices))])

    def drop(self, count: int) -> None:
        """Nothing was kept."""


def generate(name: str, seed: int, budget: int) -> tuple[Decoded, str]:
    vocabulary = tagged(name)[1]
    source = Random(seed, vocabulary.size)
    matcher = grammar_of(name).bind(vocabulary)
    loop = DecodeLoop(source, vocabulary, TokenBytes(vocabulary), matcher=matcher, max_tokens=budget)
    return loop.run([1], lambda _: None), loop.text


def shortest(name: str) -> int:
    vocabulary = tagged(name)[1]
    end = grammar_of(name).bind(vocabulary).end("")
    assert end is not None
    return len(TokenBytes(vocabulary).end(end))


@pytest.mark.parametrize("name", CALL_TEMPLATES)
def test_random_text_at_any_budget_is_a_call_that_fits(name: str) -> None:
    form, vocabulary = form_of(name), tagged(name)[1]
    least, finished = shortest(name), set()
    for seed in range(60):
        budget = least + (seed if seed < 30 else seed * 5)
        out, written = generate(name, seed, budget)
        assert len(out.tokens) <= budget
        assert out.finish in ("stop", "closed")
        thought, function, given = read_call(written, form)
        assert fits(function, given), written
        # Control tokens stand where the format has them, and nowhere else.
        again = tokens_of(write_call(thought, function, given, form), vocabulary)
        special = vocabulary.control_tokens
        assert [t for t in out.tokens if t in special] == [t for t in again if t in special]
        finished.add(out.finish)
    assert finished == {"stop", "closed"}
    with pytest.raises(GrammarError, match="shortest"):
        generate(name, 0, least - 1)


def test_thinking_that_plain_text_ends_is_ended_at_its_bound() -> None:
    form = replace(form_of("qwen3"), think_open=("<think>\n",), think_close=("</think>\n\n",))
    vocabulary = tagged("qwen3")[1]
    for most in (1, 40):
        matcher = call_grammar(FUNCTIONS, Spoken(form, thinking_tokens=most)).bind(vocabulary)
        source = Random(most, vocabulary.size)
        loop = DecodeLoop(source, vocabulary, TokenBytes(vocabulary), matcher=matcher, max_tokens=500)
        assert loop.run([1], lambda _: None).finish == "stop"
        _, function, given = read_call(loop.text, form)
        assert fits(function, given)


@pytest.mark.parametrize("name", CALL_TEMPLATES)
def test_a_choice_that_a_broken_character_made_is_taken_back_with_it(name: str) -> None:
    """The first byte of é decides for a text that the budget has no room for."""
    form, vocabulary = form_of(name), tagged(name)[1]
    functions = {"replace": [arguments({"old": {"enum": ["é" * 60, "x", "😀" * 20]}})]}
    grammar, spell = call_grammar(functions, Spoken(form, 0, 0)), TokenBytes(vocabulary)
    end = grammar.bind(vocabulary).end("")
    assert end is not None
    for first in (0xC3, 0xF0):
        for more in range(1, 6):

            class First(Random):
                def sample(self, allowed: NDArray[np.bool_] | None, first: int = first) -> int:
                    return first if allowed is None or allowed[first] else super().sample(allowed)

            loop = DecodeLoop(
                First(more, vocabulary.size),
                vocabulary,
                spell,
                matcher=grammar.bind(vocabulary),
                max_tokens=len(spell.end(end)) + more,
            )
            assert loop.run([1], lambda _: None).finish == "closed"
            assert read_call(loop.text, form)[2] == {"old": "x"}


@pytest.mark.parametrize("name", CALL_TEMPLATES)
def test_no_end_takes_more_than_its_bound(name: str) -> None:
    vocabulary = tagged(name)[1]
    spell = TokenBytes(vocabulary)
    for seed in range(10):
        out, _ = generate(name, seed, 300)
        matcher = grammar_of(name).bind(vocabulary)
        data = b""
        for at, token in enumerate(out.tokens):
            if at % 3:
                matcher.forced()
            end = matcher.end(data.decode("utf-8", "ignore"))
            assert end is not None
            assert len(spell.end(end)) <= matcher.end_bound
            assert not at or matcher.mask().any()
            assert matcher.accept(token)
            data += vocabulary.token_bytes(token)
        assert matcher.can_stop or matcher.complete
        assert matcher.end(data.decode()).pieces == ()


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("Greet.", "send_message", {"message": 'Hi "Ada"\n😀'}),
    ("", "send_message", {"message": "Hi"}),
    ("A fact.", "note", {"block": "persona", "content": "x = y, z: (1) {2}"}),
    ("Choose.", "note_all", {"level": 30, "word": 'q"q'}),
    ("Count.", "measure", {"count": -5}),
    ("Count.", "measure", {"count": 120, "share": 0.5, "names": ["a", "b, c"], "maybe": None}),
    ("Count.", "measure", {"count": 7, "names": [], "maybe": "True"}),
    ("On.", "switch", {"on": True}),
    ("Now.", "now", {}),
]


@pytest.mark.parametrize("name", [*CALL_TEMPLATES, "json"])
@pytest.mark.parametrize(("thought", "function", "given"), CALLS)
def test_what_is_written_is_what_the_grammar_allows_and_is_read_again(
    name: str, thought: str, function: str, given: dict[str, Any]
) -> None:
    form, vocabulary = (JSON, BYTES) if name == "json" else (form_of(name), tagged(name)[1])
    marks = write_call(thought, function, given, form)
    assert read_call(joined_names(marks), form) == (thought, function, given)
    matcher = call_grammar(FUNCTIONS, Spoken(form, 60, 40)).bind(vocabulary)
    tokens = tokens_of(marks, vocabulary)
    for at, token in enumerate(tokens):
        assert matcher.mask()[token], vocabulary.detokenize(tokens[: at + 1])
        assert matcher.accept(token)
    assert matcher.complete or matcher.can_stop


REFUSED: list[tuple[str, str]] = [
    ("hermes", "a thought\n\n"),
    ("hermes", "a\tthought"),
    ("hermes", "<tool_call>"),
    ("hermes", '[[<tool_call>]]{"'),
    ("hermes", '[[<tool_call>]]\n{"name": "never"'),
    ("hermes", '[[<tool_call>]]\n{"name": "switch", "arguments": {"on": 1'),
    ("hermes", '[[<tool_call>]]\n{"name": "now", "arguments": {}}[['),
    ("hermes", "thought[[</tool_call>]]"),
    ("hermes", "thought[[<|im_end|>]]"),
    ("hermes untagged", "thought <tool_call>"),
    ("llama3", "{not a thought"),
    ("qwen3", "no thinking"),
    ("qwen3", "[[<think>]]\na </think>"),
    ("qwen3", "[[<think>]]\na [[<tool_call>]]"),
    ("mistral-args", "[[[TOOL_CALLS]]]not[[[ARGS]]]"),
    ("mistral-args", "[[[TOOL_CALLS]]]note_al[[[ARGS]]]"),
    ("mistral-args", "[[[TOOL_CALLS]]]now{"),
    ("gemma4", "[[<|tool_call>]]call:note{content:"),
    ("gemma4", '[[<|tool_call>]]call:send_message{message:"'),
    ("gemma4", '[[<|tool_call>]]call:send_message{message:[[<|"|>]]a<|"|>'),
    ("gemma4", '[[<|tool_call>]]call:send_message{message:[[<|"|>]][[<|"|>]]'),
    ("gemma4", "[[<|tool_call>]]call:measure{count:121"),
    ("lfm2", "[[<|tool_call_start|>]][switch(on=true"),
    ("lfm2", "[[<|tool_call_start|>]][measure(count=1, maybe=null"),
    ("lfm2", "[[<|tool_call_start|>]][measure(share=0.5"),
    ("lfm2", "[[<|tool_call_start|>]][now(), now"),
]


@pytest.mark.parametrize(("name", "written"), REFUSED)
def test_what_the_grammar_refuses(name: str, written: str) -> None:
    """Somewhere in the text a token is refused, and the mask says the same."""
    vocabulary = tagged(name)[1]
    matcher = grammar_of(name).bind(vocabulary)
    spelled = written if not written.endswith("[[") else f"{written}<|im_end|>]]"
    tokens = list(_doubly_bracketed(spelled, name))
    taken = 0
    while taken < len(tokens) and matcher.accept(tokens[taken]):
        taken += 1
    assert taken < len(tokens), "all of it was accepted"
    assert not matcher.mask()[tokens[taken]]


def _doubly_bracketed(written: str, name: str) -> Iterator[int]:
    vocabulary = tagged(name)[1]
    while written:
        named = next((n for n in CALL_TEMPLATES[name][3] if written.startswith(f"[[{n}]]")), None)
        if named is None:
            yield from vocabulary.tokenize(written[0])
            written = written[1:]
        else:
            yield vocabulary.id(named)
            written = written[len(named) + 4 :]


@pytest.mark.parametrize("name", CALL_TEMPLATES)
def test_look_alikes_in_what_is_enumerated_are_read_as_they_were(name: str) -> None:
    form, vocabulary = form_of(name), tagged(name)[1]
    lines = [f"a {HOSTILE} b", joined_names(form.quote) or "<tool_call>"]
    for only in (lines, lines[:1]):
        old = {"enum": only} if len(only) > 1 else {"const": only[0]}
        grammar = call_grammar({"replace": [arguments({"old": old, "new": text(20)})]}, Spoken(form, 60, 40))
        for line in only:
            written = write_call("Correct it.", "replace", {"old": line, "new": "x"}, form)
            matcher = grammar.bind(vocabulary)
            assert all(map(matcher.accept, tokens_of(written, vocabulary)))
            assert matcher.can_stop
            assert read_call(joined_names(written), form)[2] == {"old": line, "new": "x"}


def test_json_is_what_it_was() -> None:
    """The default format: the same grammar, and the same text."""
    assert write_call("t", "now", {"a": "ü"}, JSON) == (write_json("t", "now", {"a": "ü"}),)
    old = compile_grammar(call_schema(FUNCTIONS, longest_thought=60)).bind(BYTES)
    new = call_grammar(FUNCTIONS, Spoken(JSON, 60)).bind(BYTES)
    assert type(old) is type(new)
    for token in BYTES.tokenize(write_json("Hm.", "switch", {"on": False})):
        assert np.array_equal(old.mask(), new.mask())
        assert old.accept(token)
        assert new.accept(token)


@pytest.mark.parametrize(
    ("name", "so_far", "cut"),
    [
        ("hermes", "Hm", {"$.thought", "$.arguments.message"}),
        ("hermes", '[[<tool_call>]]\n{"name": "send_message", "arguments": {"message": "a', {"$.arguments.message"}),
        ("llama3", '{"name": "send_message", "parameters": {"message": "a', {"$.arguments.message"}),
        ("mistral-args", "[[[TOOL_CALLS]]]send_message[[[ARGS]]]{", {"$.arguments.message"}),
        ("gemma4", '[[<|tool_call>]]call:send_message{message:[[<|"|>]]a', {"$.arguments.message"}),
        ("lfm2", '[[<|tool_call_start|>]][send_message(message="', {"$.arguments.message"}),
        ("qwen3", "[[<think>]]\nHm", {"$.thought", "$.arguments.message"}),
    ],
)
def test_what_a_budget_cuts_has_the_same_name_in_every_format(name: str, so_far: str, cut: set[str]) -> None:
    vocabulary = tagged(name)[1]
    only = {"send_message": FUNCTIONS["send_message"]}
    matcher = call_grammar(only, Spoken(form_of(name), 60, 40)).bind(vocabulary)
    data = b""
    for token in _doubly_bracketed(so_far, name):
        assert matcher.accept(token)
        data += vocabulary.token_bytes(token)
    end = matcher.end(data.decode())
    assert end is not None
    assert set(end.cut) == cut


@pytest.mark.parametrize("name", ["lfm2", "gemma4", "mistral-args"])
def test_a_function_that_the_budget_chose_is_named(name: str) -> None:
    end = grammar_of(name).bind(tagged(name)[1]).end("")
    assert end is not None
    assert "$.function" in end.cut


def test_what_a_format_cannot_write_is_refused_with_its_place() -> None:
    functions = {"f": [arguments({"where": {"type": "object", "properties": {}}})]}
    with pytest.raises(GrammarError, match="lfm2 cannot write") as caught:
        call_grammar(functions, Spoken(form_of("lfm2")))
    assert caught.value.path == "$.arguments.where"


@pytest.mark.parametrize("name", [*CALL_TEMPLATES, "json"])
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_thought_and_message_stream_in_every_format(name: str, step: int) -> None:
    form = JSON if name == "json" else form_of(name)
    for thought in ("Greet <her>.", ""):
        said: list[str] = []
        stream = CallStream("send_message", "message", lambda _: None, said.append, form)
        written = joined_names(write_call(thought, "send_message", {"message": 'Hi "Ada" <b>\n😀'}, form))
        for at in range(0, len(written), step):
            stream.feed(written[at : at + step])
        assert (stream.thought, stream.text) == (thought, 'Hi "Ada" <b>\n😀')
        assert "".join(said) == stream.text


@pytest.mark.parametrize("name", CALL_TEMPLATES)
def test_nothing_of_another_functions_call_is_streamed(name: str) -> None:
    form = form_of(name)
    stream = CallStream("send_message", "message", lambda _: None, lambda _: None, form)
    for character in joined_names(write_call("Hm.", "send_messages", {"message": "secret"}, form)):
        stream.feed(character)
    assert (stream.thought, stream.text) == ("Hm.", "")


# -- a real tokenizer, a real engine, random weights


@pytest.fixture(scope="module")
def speaking(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LlamaEngine]]:
    """Gives a random-weight engine whose vocabulary and template are those of a format."""
    tokenizer = Tokenizer.of_file(model_path)
    folder = tmp_path_factory.mktemp("speaking")
    engines: dict[str, LlamaEngine] = {}

    def load(name: str) -> LlamaEngine:
        for other in [n for n in engines if n != name]:
            engines.pop(other).close()
        if name not in engines:
            source, bos, eos, names = CALL_TEMPLATES[name]
            kind = USER_DEFINED if name in ("hermes", "qwen3") else CONTROL
            own = tokenizer.with_tokens(names, source, eos=eos, bos=bos, kind=kind)
            path = write_tiny(folder / f"{name}.gguf", own, n_ctx=8192)
            options = LlamaOptions(n_ctx=8192, threads=1, sampling=Sampling(temperature=1.5, seed=7))
            engines[name] = LlamaEngine(path, options)
        return engines[name]

    yield load
    for engine in engines.values():
        engine.close()


@pytest.mark.parametrize("name", CALL_TEMPLATES)
def test_on_a_real_tokenizer_tags_are_single_tokens_and_every_budget_suffices(
    name: str, speaking: Callable[[str], LlamaEngine]
) -> None:
    engine = speaking(name)
    form = engine.chat_format.call_format
    assert form is not None
    assert replace_ids(form) == replace_ids(form_of(name))
    special = engine.vocabulary.control_tokens
    grammar = call_grammar(FUNCTIONS, Spoken(form, 60, 20))
    end = grammar.bind(engine.vocabulary).end("")
    assert end is not None
    least = len(TokenBytes(engine.vocabulary).end(end))
    for extra in (0, 1, 2, 5, 13, 34, 120):
        made = engine.generate("Say something.", constraint=grammar, max_tokens=least + extra, seed=extra)
        assert len(made.tokens) <= least + extra
        thought, function, given = read_call(made.text, form)
        assert fits(function, given), made.text
        again = tokens_of(write_call(thought, function, given, form), engine.vocabulary)
        assert [t for t in made.tokens if t in special] == [t for t in again if t in special]
    with pytest.raises(GrammarError, match="shortest"):
        engine.generate("x", constraint=grammar, max_tokens=least - 1)


def replace_ids(form: CallFormat) -> list[str]:
    """What a format reads as, whatever its tokens' ids."""
    marks = (form.head, form.middle, form.tail, form.quote, form.think_open, form.think_close)
    return [form.name, form.shape, form.thought, *map(joined_names, marks)]


@pytest.mark.parametrize("name", ["hermes", "mistral", "gemma4", "lfm2", "phi4"])
def test_look_alikes_in_an_argument_stay_text(name: str, speaking: Callable[[str], LlamaEngine]) -> None:
    engine = speaking(name)
    form = engine.chat_format.call_format
    assert form is not None
    hostile = HOSTILE.replace(joined_names(form.quote) or "\0", "")
    marks = write_call(hostile, "send_message", {"message": hostile}, form)
    special = engine.vocabulary.control_tokens
    tokens = tokens_of(marks, engine.vocabulary)
    tags = [mark.id for mark in marks if not isinstance(mark, str)]
    assert [t for t in tokens if t in special] == tags
    content = [mark if isinstance(mark, str) else mark.id for mark in marks]
    message = engine.chat_format.message("assistant", content)
    around = engine.chat_format.message("assistant", "")
    assert sorted(t for t in message if t in special) == sorted([t for t in around if t in special] + tags)
    if form.shape == "python":
        return  # rendered as one text, its tokens may reach over a border that the grammar has
    # The grammar takes the argument as it is, token by token.
    thoughtless = tokens_of(write_call("", "send_message", {"message": hostile}, form), engine.vocabulary)
    matcher = call_grammar({"send_message": [arguments({"message": text(400)})]}, Spoken(form)).bind(engine.vocabulary)
    assert all(matcher.accept(token) for token in thoughtless)


@pytest.mark.parametrize(
    "name",
    [
        "qwen3",
        "gemma4",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("hermes", "mistral", "lfm2.5", "deepseek")),
    ],
)
def test_a_turn_in_a_native_format_is_reopened_and_continued(
    name: str, speaking: Callable[[str], LlamaEngine], tmp_path: Path
) -> None:
    engine = speaking(name)
    form = engine.chat_format.call_format
    assert form is not None
    tags = [mark.id for mark in (*form.head, *form.tail) if not isinstance(mark, str)]
    with native(tmp_path, engine) as agent:
        streamed: list[str] = []

        def show(kind: Kind, piece: str) -> None:
            streamed.append(piece if kind is Kind.ASSISTANT else "")

        events = list(agent.send(HOSTILE, on_text=show))
        reply = next(event for event in events if event.kind is Kind.ASSISTANT)
        assert "".join(streamed).endswith(reply.text)
        assert "<|im_end|> <|python_tag|>" in events[0].text
        calls = [e for e in events if e.call is not None]
        prompt = agent.context.prompt()
        assert sum(t == tags[0] for t in prompt) >= len(calls)
    with native(tmp_path, engine) as agent:
        again = agent.context.prompt()
        for tag in set(tags):
            assert again.count(tag) == prompt.count(tag)
        shown = [m for m in agent.context.messages if any(e.id in m.events for e in calls)]
        assert len(shown) == len(calls)
        for event, message in zip(calls, shown, strict=True):
            assert event.call is not None
            whole = b"".join(map(engine.vocabulary.token_bytes, message.tokens)).decode()
            opening = b"".join(map(engine.vocabulary.token_bytes, engine.chat_format.opening)).decode()
            _, function, given = read_call(whole.removeprefix(opening), form)
            assert (function, given) == (event.call.function, dict(event.call.arguments))
        assert any(event.kind is Kind.ASSISTANT for event in agent.send("And now?"))


def native(home: Path, engine: LlamaEngine) -> Any:
    return agent_on(home, engine, call_format="native", max_steps=4)


@pytest.mark.parametrize("so_far", ["", "Hello", "Hello <tool_c", "<", "a {", "é", "x" * 60, "x" * 58])
def test_the_mask_of_free_text_is_what_it_accepts(so_far: str, speaking: Callable[[str], LlamaEngine]) -> None:
    vocabulary = speaking("hermes").vocabulary
    parts = [
        FreeText(60, "$", ends="\n", never=("<tool_call>",)),
        FreeText(60, "$", ends="\n", ended="said", not_first="{", never=("{a",)),
        FreeText(60, "$", lines=True, never=("<tool_call>", "</think>")),
        FreeText(60, "$", lines=True, ends="</think>", ended="always", most_tokens=40),
    ]
    for part in parts:
        rules = part.begin(vocabulary)
        assert all(rules.accept(token) for token in vocabulary.tokenize(so_far)), part
        mask = rules.mask()
        taken = [token for token in range(vocabulary.size) if rules._after(token) is not None]
        assert np.flatnonzero(mask).tolist() == taken


# -- agents


def test_a_model_without_a_format_of_its_own_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scripted has no way to write a function call") as caught:
        agent_on(tmp_path, ScriptedEngine(), call_format="native")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "agents" / "test").exists()


@pytest.mark.parametrize("call_format", [None, "auto", "json"])
def test_json_is_spoken_unless_another_format_is_asked_for(
    call_format: Any, speaking: Callable[[str], LlamaEngine], tmp_path: Path
) -> None:
    engine = speaking("hermes")
    with agent_on(tmp_path, engine, call_format=call_format) as agent:
        shown = engine.vocabulary.detokenize(agent.context.prompt())
    assert "Write one JSON object a step" in shown
    assert "# Tools" not in shown


def test_models_yaml_says_which_format_and_how_much_is_thought(tmp_path: Path, model_path: Path) -> None:
    path = tmp_path / "thinking.gguf"
    source, bos, eos, names = CALL_TEMPLATES["qwen3"]
    config, tokenizer = load_config(), Tokenizer.of_file(model_path)
    write_tiny(path, tokenizer.with_tokens(names, source, eos=eos, bos=bos), n_ctx=8192)
    for thinking in (0, 5):
        own = ModelConfig("own", PathSource(path), call_format="native", thinking=thinking, n_ctx=8192, threads=1)
        setting = Setting(replace(config, models={"own": own}), Paths.under(tmp_path), embedder=HashEmbedder())
        with open_agent(f"a{thinking}", model="own", setting=setting, max_steps=2) as agent:
            list(agent.send("Hi."))
            prompt = agent.context.prompt()
            vocabulary = agent.engine.vocabulary
            start, stop = (vocabulary.tokenize(name, special=True)[0] for name in ("<think>", "</think>"))
            thoughts = [
                message.tokens[message.tokens.index(start) + 1 : message.tokens.index(stop)]
                for message in agent.context.messages
                if start in message.tokens
            ]
            assert thoughts
            assert prompt.count(start) == prompt.count(stop) == len(thoughts)
            # The line end after <think>, and at most so many tokens; without thinking, the empty lines of the template.
            assert all(len(tokens) <= 1 + max(thinking, 1) for tokens in thoughts)
