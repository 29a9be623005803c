"""The ways in which a model is asked for a call: what it is told, what its grammar is, and how its answer is read.

The prompt of every way is the functions, two examples of how to answer (with functions of their own), and the question.
The functions stay in the KV cache from way to way; those of a native way are presented by the chat template. A free way
is told exactly what its constrained twin is told. Knows nothing of what the right answer is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bfcl import Case, parameters_schema, plain
from localmem.errors import GrammarError
from localmem.grammar.call_text import read_call, write_call
from localmem.grammar.calls import Spoken, call_grammar
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import Schema, arguments, bounded, text
from localmem.protocols import CallFormat, ChatFormat, Content, Grammar

LONGEST_THOUGHT = 120  # characters

_SYSTEM = "You answer each request by calling one of the functions, with the values that the request gives."
_JSON_ONLY = "An answer is one JSON object and nothing else. The functions:"

#: What was asked, the thought, the function, the arguments.
_EXAMPLES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("Will it rain in Oslo tomorrow?", "Oslo, and only one day.", "get_forecast", {"city": "Oslo", "days": 1}),
    (
        "Put milk and two loaves of bread on my list.",
        "Two things, with how many of each.",
        "shopping.add",
        {"items": ["milk", "bread"], "counts": [1, 2]},
    ),
)


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
    """One way of asking: a JSON object with these `keys` in this order; none of them for the model's native format.

    `free`: no grammar holds the model to it.
    """

    name: str
    free: bool
    keys: tuple[str, ...] = ()

    def offered(self, chat: ChatFormat) -> bool:
        """Whether the model can be asked so: a native call needs a template that presents functions."""
        return bool(self.keys) or _native(chat) is not None

    def prompt(self, case: Case, chat: ChatFormat) -> list[int]:
        """The tokens of the prompt: the functions, the examples, and last the question."""
        tokens = self._introduction(list(map(_presented, case.functions)), chat)
        for asked, thought, function, given in _EXAMPLES:
            answer = self._written(thought, function, given, chat)
            tokens += [*chat.message("user", asked), *chat.message("assistant", answer)]
        return [*tokens, *chat.message("user", case.question), *chat.opening]

    def _introduction(self, functions: Sequence[Mapping[str, Any]], chat: ChatFormat) -> list[int]:
        if not self.keys:
            presented = chat.introduction(_SYSTEM, [{"type": "function", "function": each} for each in functions])
            if presented is None:
                raise GrammarError("The chat template cannot present these functions.")
            return presented
        listed = "\n".join(json.dumps(each, ensure_ascii=False) for each in functions)
        return chat.message("system", f"{_SYSTEM} {_JSON_ONLY}\n\n{listed}", first=True)

    def _written(self, thought: str, function: str, given: Mapping[str, Any], chat: ChatFormat) -> Content:
        form = _native(chat)
        if self.keys or form is None:
            call = {"thought": thought, "function": function, "arguments": given}
            return json.dumps({key: call[key] for key in self.keys})
        return [mark if isinstance(mark, str) else mark.id for mark in write_call(thought, function, given, form)]

    def grammar(self, case: Case, chat: ChatFormat) -> Grammar | None:
        """What the model is held to for one case."""
        if self.free:
            return None
        functions = {each["name"]: bounded(plain(parameters_schema(each["parameters"]))) for each in case.functions}
        if self.keys:
            return compile_grammar(_any_of([self._schema(name, schema) for name, schema in functions.items()]))
        form = _native(chat)
        assert form is not None
        spoken = Spoken(form, longest_thought=LONGEST_THOUGHT, thinking_tokens=LONGEST_THOUGHT // 4)
        return call_grammar({name: [schema] for name, schema in functions.items()}, spoken)

    def _schema(self, name: str, given: Schema) -> Schema:
        parts = {"thought": text(LONGEST_THOUGHT, shortest=0), "function": {"const": name}, "arguments": given}
        return arguments({key: parts[key] for key in self.keys})

    def read(self, written: str, chat: ChatFormat) -> Answer:
        """What call stands in a text."""
        form = None if self.keys else _native(chat)
        if form is not None and not (self.free and form.shape == "object"):
            try:
                _, name, given = read_call(written, form)
            except (ValueError, LookupError, TypeError):
                return Answer("none")
            return Answer("whole", {name: given}) if isinstance(given, dict) else Answer("none")
        return read_json(written)


def _native(chat: ChatFormat) -> CallFormat | None:
    form = chat.call_format
    return form if form is not None and form.lists_functions else None


def _presented(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": function["name"],
        "description": function["description"],
        "parameters": parameters_schema(function["parameters"]),
    }


def _any_of(branches: list[Schema]) -> Schema:
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


#: In the order in which they are asked.
WAYS = {
    way.name: way
    for way in (
        Way("thought", False, ("thought", "function", "arguments")),
        Way("thought-free", True, ("thought", "function", "arguments")),
        Way("plain", False, ("function", "arguments")),
        Way("plain-free", True, ("function", "arguments")),
        Way("function", False, ("function", "thought", "arguments")),
        Way("native", False),
        Way("native-free", True),
    )
}

#: What is compared: the first minus the second.
PAIRS = (
    ("thought", "thought-free"),
    ("plain", "plain-free"),
    ("thought", "function"),
    ("thought", "plain"),
    ("native", "native-free"),
    ("native", "thought"),
)

#: Says whether two runs asked in the same words.
PROMPTS = hashlib.sha256(repr((_SYSTEM, _JSON_ONLY, _EXAMPLES, list(WAYS.values()))).encode()).hexdigest()[:12]


def read_json(written: str) -> Answer:
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
