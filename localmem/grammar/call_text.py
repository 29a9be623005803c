"""A call as text: written as the model itself would write it, and read back from what it wrote.

The JSON object that localmem uses by itself is one format among those of `protocols.CallFormat`. Reading never repairs:
the grammar has made the text. Where control tokens stand, the text has their names; what the grammar lets a model write
before and inside a call never contains the name that ends it, so each is found where it first stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localmem.events import write_call as write_json
from localmem.protocols import CallFormat, Marks, Tag

#: The format that every model can write: one JSON object, thought first.
JSON = CallFormat("json", thought="inside")


@dataclass(frozen=True, slots=True)
class Writing:
    """How a shape that is no JSON writes values: words for true, false and null, and what stands between things."""

    words: Mapping[str, str]
    equals: str
    comma: str


WRITING = {
    "python": Writing({"true": "True", "false": "False", "null": "None"}, "=", ", "),
    "gemma": Writing({"true": "true", "false": "false", "null": "null"}, ":", ","),
}


def name_of(mark: str | Tag) -> str:
    """What a text or a control token reads as."""
    return mark if isinstance(mark, str) else mark.name


def write_value(value: Any, form: CallFormat) -> Marks:
    """One argument, in a shape that is no JSON.

    Where a text holds the name of the quote that would end it, it is written as JSON, which is read back as it was.
    """
    writing = WRITING[form.shape]
    if isinstance(value, str) and form.shape == "gemma" and joined_names(form.quote) not in value:
        return _met((*form.quote, value, *form.quote))
    if isinstance(value, list | tuple):
        items = [
            mark for i, item in enumerate(value) for mark in (writing.comma if i else "", *write_value(item, form))
        ]
        return _met(("[", *items, "]"))
    written = json.dumps(value, ensure_ascii=False)
    return (writing.words.get(written, written),)


def _met(marks: Sequence[str | Tag]) -> Marks:
    met: list[str | Tag] = []
    for mark in marks:
        if isinstance(mark, str) and met and isinstance(met[-1], str):
            met[-1] += mark
        elif mark:
            met.append(mark)
    return tuple(met)


def write_call(thought: str, function: str, given: Mapping[str, Any], form: CallFormat) -> Marks:
    """A call as the grammar makes the model write it. What the form of a thought cannot hold is left out of it."""
    if form.thought == "inside":
        return (write_json(thought, function, given),)
    if form.thought == "thinking":
        before: Marks = (*form.think_open, thought, *line_before(form), *form.think_close)
    else:
        line = " ".join(thought.split())
        tagged = bool(form.head) and isinstance(form.head[0], Tag)
        before = (line, form.between if tagged else form.between or "\n") if line else ()
    return _met((*before, *write_call_proper(function, given, form)))


def line_before(form: CallFormat) -> Marks:
    """Models close their thinking on a line of its own where they open it on one."""
    opened = form.think_open[-1] if form.think_open else ""
    return ("\n",) if isinstance(opened, str) and opened.endswith("\n") else ()


def write_call_proper(function: str, given: Mapping[str, Any], form: CallFormat) -> Marks:
    """The call after the thought."""
    if form.shape == "object":
        document = {form.keys[0]: function, form.keys[1]: dict(given), **dict(form.constants)}
        inner: Marks = (json.dumps(document, ensure_ascii=False),)
    elif form.shape == "named":
        inner = (function, *form.middle, json.dumps(dict(given), ensure_ascii=False))
    else:
        writing = WRITING[form.shape]
        pairs: list[str | Tag] = []
        for number, (key, value) in enumerate(given.items()):
            pairs += [f"{writing.comma if number else ''}{key}{writing.equals}", *write_value(value, form)]
        inner = (function, *form.middle, *pairs)
    return _met((*form.head, *inner, *form.tail))


# -- reading


def joined_names(marks: Marks) -> str:
    """What these texts and control tokens read as."""
    return "".join(map(name_of, marks))


def read_call(text: str, form: CallFormat) -> tuple[str, str, dict[str, Any]]:
    """The thought, the function's name and its arguments of a whole generation."""
    if form.thought == "inside":
        document = json.loads(text)
        return document["thought"], document["function"], document["arguments"]
    thought, at = _read_thought(text, form)
    at += len(joined_names(form.head))
    if form.shape == "object":
        call, _ = _JSON.raw_decode(text, at)
        return thought, call[form.keys[0]], call[form.keys[1]]
    middle = joined_names(form.middle)
    stop = text.index(middle, at)
    name, at = text[at:stop], stop + len(middle)
    if form.shape == "named":
        return thought, name, _JSON.raw_decode(text, at)[0]
    return thought, name, _Reader(text, form).pairs(at)


def _read_thought(text: str, form: CallFormat) -> tuple[str, int]:
    """The thought, and where the call begins."""
    if form.thought == "thinking":
        begin = len(joined_names(form.think_open))
        stop = text.index(name_of(form.think_close[0]), begin)
        return text[begin:stop].strip(), stop + len(joined_names(form.think_close))
    start = name_of(form.head[0]) if form.head else "{"
    if form.head and isinstance(form.head[0], Tag):
        at = text.index(start)
        return text[:at].strip(), at
    if text.startswith(start):
        return "", 0
    ends = form.between or "\n"
    at = text.index(ends)
    return text[:at].strip(), at + len(ends)


_JSON = json.JSONDecoder()


class _Reader:
    """Reads arguments in the shapes that are no JSON."""

    def __init__(self, text: str, form: CallFormat) -> None:
        self._text, self._form = text, form
        self._writing = WRITING[form.shape]
        self._words = {word: json.loads(meant) for meant, word in self._writing.words.items()}

    def pairs(self, at: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        tail = joined_names(self._form.tail)
        while not self._text.startswith(tail, at):
            at += len(self._writing.comma) if found else 0
            stop = self._text.index(self._writing.equals, at)
            found[self._text[at:stop]], at = self._value(stop + len(self._writing.equals))
        return found

    def _value(self, at: int) -> tuple[Any, int]:
        quote = joined_names(self._form.quote)
        if quote and self._text.startswith(quote, at):
            stop = self._text.index(quote, at + len(quote))
            return self._text[at + len(quote) : stop], stop + len(quote)
        if self._text.startswith("[", at):
            return self._items(at + 1)
        for word, value in self._words.items():
            if self._text.startswith(word, at):
                return value, at + len(word)
        return _JSON.raw_decode(self._text, at)

    def _items(self, at: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while not self._text.startswith("]", at):
            item, at = self._value(at + (len(self._writing.comma) if items else 0))
            items.append(item)
        return items, at + 1
