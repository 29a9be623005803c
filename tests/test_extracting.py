"""extract: values of every kind of type, out of a text; what is refused; and that the agent is none the wiser."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any, Literal

import outlines.types
import pytest
from agents import agent_on, say, scripted
from pydantic import BaseModel, field_validator

from localmem import ContextError, GrammarError, Kind, ScriptedEngine
from localmem.engine.load import load_engine
from localmem.extracting import Asking, extract, write
from localmem.grammar.sources import Choice, Gbnf, Json, Regex
from localmem.protocols import Generation


class Person(BaseModel):
    name: str
    age: int


class Adult(Person):
    @field_validator("age")
    @classmethod
    def grown_up(cls, age: int) -> int:
        if age < 18:
            raise ValueError("too young")
        return age


@dataclasses.dataclass
class Boat:
    name: str
    metres: float


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ADA = '{"name": "Ada", "age": 36}'


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (Person, ADA, Person(name="Ada", age=36)),
        (Boat, '{"name": "Iris", "metres": 8.5}', Boat("Iris", 8.5)),
        (SCHEMA, ADA, {"name": "Ada", "age": 36}),
        (json.dumps(SCHEMA), ADA, {"name": "Ada", "age": 36}),
        (Json(SCHEMA), ADA, {"name": "Ada", "age": 36}),
        (list[int], "[1, 2]", [1, 2]),
        (Literal["yes", "no"], '"no"', "no"),
        (Colour, '"blue"', Colour.BLUE),
        (outlines.types.Choice([1, 2]), "2", 2),
        (outlines.types.JsonSchema(json.dumps(SCHEMA)), ADA, {"name": "Ada", "age": 36}),
        (Regex("[a-z]{3}"), "abc", "abc"),
        (Choice(("red", "blue")), "blue", "blue"),
    ],
    ids=repr,
)
def test_a_value_of_the_type(wanted: Any, answer: str, value: object) -> None:
    engine = ScriptedEngine([answer])
    found = extract(engine, "Ada is 36.", wanted)
    assert (type(found.value), found.value, found.whole(), found.cut) == (type(value), value, value, ())
    assert found.generation.text == answer
    assert "Ada is 36." in engine.prompts[0]


def test_the_prompt_names_what_is_wanted_behind_the_text() -> None:
    engine = ScriptedEngine([ADA])
    extract(engine, "Ada is 36.", Person)
    prompt = engine.prompts[0]
    assert prompt.index("You turn text into data.") < prompt.index("Ada is 36.") < prompt.index("- age (integer)")


def test_nothing_of_it_stays_with_the_agent(home: Path) -> None:
    engine_answers = [say("Hello."), ADA, say("Bye.")]
    with scripted(home, engine_answers) as agent:
        agent.reply("Hi")
        before, context = agent.store.path(), agent.context.prompt()
        assert agent.extract("Ada is 36.", Person) == Person(name="Ada", age=36)
        assert (agent.store.path(), agent.context.prompt()) == (before, context)
        assert "Hi" not in agent.engine.prompts[-1]  # type: ignore[attr-defined]
        assert agent.reply("Bye") == "Bye."
        assert [e.text for e in agent.store.path(kinds=[Kind.USER])] == ["Hi", "Bye"]
        assert "Ada is 36" not in agent.engine.prompts[-1]  # type: ignore[attr-defined]


def test_a_cut_value_is_valid_but_refused_unless_it_is_allowed(home: Path) -> None:
    answer = '{"name": "Augusta Ada King, Countess of Lovelace", "age": 36}'
    with scripted(home, [answer, answer]) as agent:
        with pytest.raises(GrammarError, match=r"cut at .*\$\.name.*max_tokens") as raised:
            agent.extract("Ada", Person, max_tokens=40)
        assert raised.value.path == "$.name"
        person = agent.extract("Ada", Person, max_tokens=40, allow_cut=True)
    assert isinstance(person, Person)
    assert "Augusta Ada King, Countess of Lovelace".startswith(person.name.rstrip())


def test_the_generation_tells_what_was_cut() -> None:
    found = extract(ScriptedEngine(['{"name": "Ada", "age": 36}']), "x", Person, Asking(max_tokens=24))
    assert found.generation.finish == "closed"
    assert found.cut
    assert isinstance(found.value, Person)


def test_an_unfinished_result_is_an_error_that_ends_with_what_there_is() -> None:
    with pytest.raises(GrammarError, match=r"unfinished after 4 tokens.*raise max_tokens.*: abcd$"):
        extract(ScriptedEngine(["abcdefgh"]), "x", Regex("[a-z]+!"), Asking(max_tokens=4))


def test_what_is_unfinished_is_shortened() -> None:
    with pytest.raises(GrammarError) as raised:
        extract(ScriptedEngine(["ab" * 400]), "x", Regex("[a-z]+!"), Asking(max_tokens=600))
    assert len(str(raised.value)) < 320


def test_the_type_has_the_last_word() -> None:
    with pytest.raises(GrammarError, match=r"type refuses .*too young.*\"age\": 9") as raised:
        extract(ScriptedEngine(['{"name": "Ada", "age": 9}']), "x", Adult)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ({"type": "object", "properties": {"a": {"type": "string", "format": "no-such"}}}, "$.properties.a"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "$.properties.a"),
        ("{", "$"),
        ("[]", "$"),
        (lambda: 1, "$"),
        (object(), "$"),
    ],
    ids=repr,
)
def test_what_cannot_be_enforced_is_refused_before_a_token(wanted: Any, path: str) -> None:
    engine = ScriptedEngine([ADA])
    with pytest.raises(GrammarError) as raised:
        extract(engine, "x", wanted)
    assert raised.value.path.startswith(path)
    assert engine.prompts == []


def test_a_text_that_is_too_long_says_by_how_much() -> None:
    engine = ScriptedEngine([ADA], n_ctx=2048)
    text = "a" * 3000
    with pytest.raises(ContextError, match=r"(\d+) tokens too long") as raised:
        extract(engine, text, Person, Asking(max_tokens=100))
    over = int(str(raised.value).split("tokens too long")[0].split()[-1])
    assert extract(engine, text[over:], Person, Asking(max_tokens=100)).value.age == 36  # a byte is a token here
    with pytest.raises(ContextError, match=r" 1 tokens too long"):
        extract(engine, text[over - 1 :], Person, Asking(max_tokens=100))


def test_an_interrupt_is_a_keyboard_interrupt() -> None:
    engine = ScriptedEngine()

    def stop(_: str) -> str:
        engine.interrupt()
        return ADA

    engine._script = stop
    with pytest.raises(KeyboardInterrupt):
        extract(engine, "x", Person)


def test_write_gives_whatever_there_is() -> None:
    done = write(ScriptedEngine(["abcdefgh"]), "x", Regex("[a-z]+!"), Asking(max_tokens=4))
    assert isinstance(done, Generation)
    assert (done.text, done.finish) == ("abcd", "length")


# -- the bundled model


def test_the_bundled_model(home: Path, model_path: Path) -> None:
    engine = load_engine(str(model_path), n_ctx=3072)
    try:
        with agent_on(home, engine, prompt="compact") as agent:
            text = "My name is Ada and I am 36 years old."
            person = agent.extract(text, Person)
            assert isinstance(person, Person)
            assert person == agent.extract(text, Person), "temperature 0 says the same again"
            assert agent.store.path() == []
            for given in (Person, Gbnf('root ::= "yes" | "no"')):
                value = extract(engine, text, given, Asking(temperature=2.0, seed=1)).value
                assert isinstance(value, Person) or value in ("yes", "no")
            for backend in ("gbnf", "outlines"):
                bounded = {
                    **SCHEMA,
                    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"enum": [1, 36]}},
                }
                assert set(extract(engine, text, bounded, Asking(backend=backend)).value) == {"name", "age"}
            with pytest.raises(GrammarError, match="unfinished"):
                extract(engine, text, Regex("[a-z ]{200,}"), Asking(max_tokens=8))
            with pytest.raises(GrammarError, match=r"shortest document .* max_tokens is 3"):
                agent.extract(text, Person, max_tokens=3)
    finally:
        engine.close()
