"""The grammar that makes a model write one call, in localmem's own JSON or in the model's native format.

Knows no function by name, and no model: a format is data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localmem.errors import GrammarError
from localmem.grammar.call_text import JSON, WRITING, line_before, name_of, write_value
from localmem.grammar.compile import Backend, compile_grammar
from localmem.grammar.free_text import FreeText
from localmem.grammar.parts import Alternatives, Control, Document, Literal, Part, Parts
from localmem.grammar.schema import TEXT_PATTERN, Schema, arguments, call_schema
from localmem.grammar.sequence import PartsGrammar
from localmem.grammar.sources import Json
from localmem.protocols import CallFormat, Grammar, Marks, Tag

_MOST_CHARACTERS_A_TOKEN = 16  # for thinking, whose bound is tokens


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a call is to be written: its format, and how much may be thought before it.

    `longest_thought` is in characters, `thinking_tokens` bounds free thinking in a format that has it.
    """

    format: CallFormat = JSON
    longest_thought: int = 200
    thinking_tokens: int = 256
    backend: Backend = "llguidance"


# -- the grammar


def call_grammar(functions: Mapping[str, Sequence[Schema]], spoken: Spoken) -> Grammar:
    """The constraint that makes a generation one call of `functions`: name -> the argument objects that it takes now.

    Raises GrammarError for arguments that the format cannot write.
    """
    form = spoken.format
    if form.thought == "inside":
        schema = call_schema(functions, longest_thought=spoken.longest_thought)
        return compile_grammar(Json(schema, plain=True), backend=spoken.backend)
    return PartsGrammar(_meeting((*_thought(spoken), *_call(functions, spoken))))


def _parts(marks: Marks) -> Parts:
    return tuple(Literal(mark) if isinstance(mark, str) else Control(mark) for mark in marks)


def _thought(spoken: Spoken) -> Parts:
    form = spoken.format
    if form.thought == "thinking":
        most = spoken.thinking_tokens
        if most <= 0:
            return _parts((*form.think_open, *line_before(form), *form.think_close))
        first = form.think_close[0]
        free = FreeText(
            most * _MOST_CHARACTERS_A_TOKEN,
            "$.thought",
            lines=True,
            never=(name_of(first),) if isinstance(first, Tag) else (),
            ends=first if isinstance(first, str) else "",
            ended="always",
            most_tokens=most,
        )
        close = form.think_close[1:] if isinstance(first, str) else form.think_close
        return (*_parts(form.think_open), free, *_parts(close))
    start = form.head[0] if form.head else "{"
    if isinstance(start, Tag):
        return (FreeText(spoken.longest_thought, "$.thought", ends=form.between, never=(start.name,)),)
    line = FreeText(
        spoken.longest_thought,
        "$.thought",
        ends=form.between or "\n",
        ended="said",
        never=(start.strip(),) if len(start.strip()) > 1 else (),
        not_first=start[0],
    )
    return (line,)


def _call(functions: Mapping[str, Sequence[Schema]], spoken: Spoken) -> Parts:
    form = spoken.format
    head, tail = _parts(form.head), _parts(form.tail)
    if form.shape == "object":
        renamed = ((f"$.{form.keys[0]}", "$.function"), (f"$.{form.keys[1]}", "$.arguments"))
        return (*head, Document(_object(functions, form), renamed, spoken.backend), *tail)
    path = "$.function" if len(functions) > 1 else ""
    branches: list[Parts] = []
    for name, variants in functions.items():
        named = (Literal(name, path, len(name) if path else 0), *_parts(form.middle))
        if form.shape == "named":
            schema = variants[0] if len(variants) == 1 else {"anyOf": list(variants)}
            branches.append((*head, *named, Document(schema, (("$", "$.arguments"),), spoken.backend), *tail))
        else:
            values = _Values(form, spoken.backend)
            branches += [(*head, *named, *values.pairs(variant), *tail) for variant in variants]
    return (Alternatives(tuple(map(_meeting, branches))),)


def _object(functions: Mapping[str, Sequence[Schema]], form: CallFormat) -> Schema:
    constants = {key: {"const": value} for key, value in form.constants}
    branches = [
        arguments({form.keys[0]: {"const": name}, form.keys[1]: variant, **constants})
        for name, variants in functions.items()
        for variant in variants
    ]
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def _meeting(parts: Parts) -> Parts:
    """The same parts, texts that meet made one: the tokens of a text depend on what stands beside it."""
    met: list[Part] = []
    for part in parts:
        last = met[-1] if met else None
        if isinstance(part, Literal) and isinstance(last, Literal) and not (part.path and last.path):
            decided = len(last.text) + part.decided if part.path else last.decided
            met[-1] = Literal(last.text + part.text, part.path or last.path, decided)
        else:
            met.append(part)
    return tuple(met)


class _Values:
    """Arguments as parts, in one of the shapes that are no JSON."""

    def __init__(self, form: CallFormat, backend: Backend) -> None:
        self._form, self._backend = form, backend
        self._writing = WRITING[form.shape]

    def pairs(self, schema: Schema) -> Parts:
        """`key=value` of each property, those that are optional left out or not."""
        return self._pairs(list(schema["properties"].items()), frozenset(schema.get("required", ())), "")

    def _pairs(self, left: Sequence[tuple[str, Schema]], required: frozenset[str], comma: str) -> Parts:
        if not left:
            return ()
        (key, schema), rest = left[0], left[1:]
        here = (
            Literal(f"{comma}{key}{self._writing.equals}"),
            *self.value(schema, f"$.arguments.{key}"),
            *self._pairs(rest, required, self._writing.comma),
        )
        if key in required:
            return _meeting(here)
        return (Alternatives((_meeting(here), self._pairs(rest, required, comma))),)

    def value(self, schema: Schema, path: str) -> Parts:
        if "anyOf" in schema:
            return (Alternatives(tuple(self.value(branch, path) for branch in schema["anyOf"])),)
        if "const" in schema or "enum" in schema:
            values = schema["enum"] if "enum" in schema else [schema["const"]]
            return self._one_of(values, path)
        match schema.get("type"):
            case "boolean":
                return self._one_of([True, False], path)
            case "null":
                return self._one_of([None], path)
            case "array":
                return (Literal("["), *self._items(schema, path, 0))
            case "string" if self._form.shape == "gemma" and schema.get("pattern", TEXT_PATTERN) == TEXT_PATTERN:
                quote, longest = self._form.quote[0], int(schema.get("maxLength", 2000))
                least = int(schema.get("minLength", 0))
                free = FreeText(longest, path, shortest=least, lines=True, never=(name_of(quote),))
                return (*_parts((quote,)), free, *_parts((quote,)))
            case "string" | "integer" | "number":
                return (Document(schema, (("$", path),), self._backend),)
            case kind:
                raise GrammarError(f"The call format {self._form.name} cannot write a value of type {kind}.", path=path)

    def _one_of(self, values: Sequence[Any], path: str) -> Parts:
        if len(values) == 1:
            return _parts(write_value(values[0], self._form))
        branches = []
        for value in values:
            marks = write_value(value, self._form)
            branches.append(
                tuple(Literal(mark, path, len(mark)) if isinstance(mark, str) else Control(mark) for mark in marks)
            )
        return (Alternatives(tuple(branches)),)

    def _items(self, schema: Schema, path: str, count: int) -> Parts:
        """The items from number `count` on, and the bracket that ends them."""
        end: Parts = (Literal("]"),)
        if count == int(schema.get("maxItems", 16)):
            return end
        comma: Parts = (Literal(self._writing.comma),) if count else ()
        item = _meeting((*comma, *self.value(schema["items"], f"{path}[{count}]")))
        more = (*item, *self._items(schema, path, count + 1))
        return more if count < int(schema.get("minItems", 0)) else (Alternatives((end, more)),)
