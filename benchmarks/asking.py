"""The ways in which a model is asked for a call: what it is told, what its grammar is, and how its answer is read.

Ways of one case differ only in the last sentence of the prompt, so that all before it stays in the KV cache. A free way
is told exactly what its constrained twin is told. Knows nothing of what the right answer is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bfcl import Case, parameters_schema, plain
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import Schema, arguments, bounded, call_schema, text
from localmem.protocols import ChatFormat, Grammar

LONGEST_THOUGHT = 120  # characters

_SYSTEM = "You answer each request by calling one of these functions, with the values that the request gives:\n\n{list}"
_THOUGHT = '"thought": "They ask for tomorrow only, so one day."'
_FUNCTION, _ARGUMENTS = '"function": "get_forecast"', '"arguments": {"city": "Oslo", "days": 1}'
_TELLING = (
    'Answer with one JSON object and nothing else. If the request were "Will it rain in Oslo tomorrow?" and there were '
    "a function get_forecast, it would be: {{{members}}}"
)
_THOUGHT_FIRST = _TELLING.format(members=f"{_THOUGHT}, {_FUNCTION}, {_ARGUMENTS}")
_FUNCTION_FIRST = _TELLING.format(members=f"{_FUNCTION}, {_THOUGHT}, {_ARGUMENTS}")
_NO_THOUGHT = _TELLING.format(members=f"{_FUNCTION}, {_ARGUMENTS}")

Functions = Mapping[str, Schema]


@dataclass(frozen=True, slots=True)
class Answer:
    """What could be read in a text. `form`: whole, fenced, found (text around it) or none; `call` is {name: arguments}.

    `renamed` says that it has name or parameters where it was told to write function or arguments.
    """

    form: str
    call: Mapping[str, Mapping[str, Any]] | None = None
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking. `schema` is what a call must fit; None where the model is free."""

    name: str
    telling: str
    schema: Callable[[Functions], Schema] | None = None

    def grammar(self, case: Case) -> Grammar | None:
        """What the model is held to for one case."""
        if self.schema is None:
            return None
        functions = {each["name"]: bounded(plain(parameters_schema(each["parameters"]))) for each in case.functions}
        return compile_grammar(self.schema(functions))

    def prompt(self, case: Case, chat: ChatFormat) -> list[int]:
        """The tokens of the prompt: the functions, the question, and last how to answer."""
        system = _SYSTEM.format(list="\n".join(map(_presented, case.functions)))
        question = f"{case.question}\n\n{self.telling}"
        return [*chat.message("system", system, first=True), *chat.message("user", question), *chat.opening]


def _presented(function: Mapping[str, Any]) -> str:
    shown = {
        "name": function["name"],
        "description": function["description"],
        "parameters": parameters_schema(function["parameters"]),
    }
    return json.dumps(shown, ensure_ascii=False)


def _thought_first(functions: Functions) -> Schema:
    return call_schema({name: [schema] for name, schema in functions.items()}, longest_thought=LONGEST_THOUGHT)


def _function_first(functions: Functions) -> Schema:
    thought = text(LONGEST_THOUGHT, shortest=0)
    return _any_of(
        arguments({"function": {"const": name}, "thought": thought, "arguments": schema})
        for name, schema in functions.items()
    )


def _no_thought(functions: Functions) -> Schema:
    return _any_of(arguments({"function": {"const": name}, "arguments": schema}) for name, schema in functions.items())


def _any_of(branches: Any) -> Schema:
    listed = list(branches)
    return listed[0] if len(listed) == 1 else {"anyOf": listed}


#: In the order in which they are asked.
WAYS = {
    way.name: way
    for way in (
        Way("thought", _THOUGHT_FIRST, _thought_first),
        Way("thought-free", _THOUGHT_FIRST),
        Way("plain", _NO_THOUGHT, _no_thought),
        Way("plain-free", _NO_THOUGHT),
        Way("function", _FUNCTION_FIRST, _function_first),
    )
}

#: What is compared: the first minus the second.
PAIRS = (
    ("thought", "thought-free"),
    ("plain", "plain-free"),
    ("thought", "function"),
    ("thought", "plain"),
)


def read(written: str) -> Answer:
    """The first JSON object in `written` that is a call. Nothing is repaired."""
    decoder = json.JSONDecoder()
    at = written.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(written, at)
        except (ValueError, RecursionError):
            found, end = None, at + 1
        answer = _call(found)
        if answer is not None:
            call, renamed = answer
            return Answer(_form(written[:at], written[end:]), call, renamed)
        at = written.find("{", end)
    return Answer("none")


def _call(found: Any) -> tuple[Mapping[str, Mapping[str, Any]], bool] | None:
    if not isinstance(found, dict):
        return None
    name, given = found.get("function", found.get("name")), found.get("arguments", found.get("parameters"))
    if not isinstance(name, str) or not isinstance(given, dict):
        return None
    return {name: given}, not {"function", "arguments"} <= set(found)


def _form(before: str, after: str) -> str:
    if not before.strip() and not after.strip():
        return "whole"
    around: Sequence[str] = (before.strip(), after.strip())
    return "fenced" if around[0] in ("```", "```json") and around[1] in ("", "```") else "found"
