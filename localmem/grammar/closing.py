"""The shortest legal end of an unfinished JSON document, and which of its values are cut by it.

Works on text and a JSON Schema alone: the document so far is followed through the schema, and whatever is open where
the text ends is closed by the fewest characters that the schema allows. It assumes the layout that `compile_grammar`
fixes: keys in the schema's order, ", " and ": " as separators, no other whitespace.

A document is followed by generators of outcomes, since a prefix may fit several branches of an anyOf at once. An
outcome is `Done(position)`, the value ends there, or `Open(suffix, cut)`, the text ends inside the value and `suffix`
closes it. A value that the text has not reached is not followed: its shortest document is known (see `shortest`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localmem.grammar.number_ends import finish_number, fits
from localmem.grammar.shortest import NoPlan, Open, Schema, Shapes, dump, extra_required
from localmem.protocols import End


@dataclass(frozen=True, slots=True)
class Done:
    """A value that ends before the text does."""

    position: int


Outcome = Done | Open
Part = Callable[[int], Iterator[Outcome]]  # follows the text from a position on
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_NO_TEXT = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # what TEXT_PATTERN excludes
_UNIT = re.compile(r"\\u[0-9a-f]{4}|\\.|.", re.DOTALL)
_NUMBER = re.compile(r"-?\d*(?:\.\d*)?(?:[eE][-+]?\d*)?")


class Closing:
    """Plans ends for documents of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._shapes = Shapes(schema)

    def end(self, text: str) -> End | None:
        """The shortest text that makes `text` a whole document, and the JSON paths of the values that it cuts or fills.

        None if there is no plan: the schema uses a keyword whose end cannot be planned, or `text` does not fit it.
        """
        try:
            outcomes = list(_Follower(text, self._shapes).value(self._root, 0, "$"))
        except (NoPlan, RecursionError):
            return None
        if any(isinstance(o, Done) and o.position == len(text) for o in outcomes):
            return End()
        best = _shortest(outcomes)
        return None if best is None else End((best.suffix,), best.cut, best.steady)

    def bound(self) -> int | None:
        """An upper bound, in bytes, of what `end` returns for any text; None if there is none (a recursive schema)."""
        return self._bound

    @cached_property
    def _bound(self) -> int | None:
        try:
            self._shapes.least(self._root)
            return self._shapes.bound(self._root)
        except (NoPlan, RecursionError):
            return None


def _shortest(outcomes: Sequence[Outcome]) -> Open | None:
    return min((o for o in outcomes if isinstance(o, Open)), key=lambda o: len(o.suffix), default=None)


class _Follower:
    """Follows one text through one schema."""

    def __init__(self, text: str, shapes: Shapes) -> None:
        self._text = text
        self._shapes = shapes

    def value(self, schema: Any, at: int, path: str) -> Iterator[Outcome]:
        if at == len(self._text):
            least = self._shapes.least(schema)
            yield Open(least.suffix, tuple(path + cut for cut in least.cut))
            return
        schema = self._shapes.plain(schema)
        if "anyOf" in schema:
            for branch in schema["anyOf"]:
                yield from self.value(branch, at, path)
        elif "enum" in schema:
            yield from self._one_of([dump(value) for value in schema["enum"]], at, path)
        else:
            follow = {"object": self._object, "array": self._array, "string": self._string}
            yield from follow.get(schema["type"], self._number)(schema, at, path)

    def _literal(self, literal: str, at: int) -> Iterator[Outcome]:
        rest = len(self._text) - at
        if "\\" in literal:
            yield from self._escaped(_UNIT.findall(literal), at)
        elif rest >= len(literal):
            if self._text.startswith(literal, at):
                yield Done(at + len(literal))
        elif literal.startswith(self._text[at:]):
            yield Open(literal[rest:])

    def _escaped(self, units: Sequence[str], at: int) -> Iterator[Outcome]:
        """A literal with escapes: a control character in it may be spelled in more than one way."""
        for done, unit in enumerate(units):
            rest = self._text[at : at + 6]
            spellings = _spellings(unit)
            written = next((s for s in spellings if rest.lower().startswith(s.lower())), None)
            if written is None:
                ends = [s[len(rest) :] for s in spellings if s.lower().startswith(rest.lower())]
                if at + len(rest) == len(self._text) and ends:
                    yield Open(min(ends, key=len) + "".join(units[done + 1 :]))
                return
            at += len(written)
        yield Done(at)

    def _one_of(self, choices: Sequence[str], at: int, path: str) -> Iterator[Outcome]:
        for choice in choices:
            for outcome in self._literal(choice, at):
                if isinstance(outcome, Open) and len(choices) > 1:
                    yield Open(outcome.suffix, (path,))
                else:
                    yield outcome

    def _sequence(self, parts: Sequence[Part], at: int) -> Iterator[Outcome]:
        """One part after the other; the shortest ends of the parts not begun are added to an open one."""
        if not parts:
            yield Done(at)
            return
        for outcome in parts[0](at):
            if isinstance(outcome, Done):
                yield from self._sequence(parts[1:], outcome.position)
                continue
            suffix, cut = outcome.suffix, outcome.cut
            for part in parts[1:]:
                least = _shortest(list(part(len(self._text))))
                if least is None:
                    raise NoPlan
                suffix, cut = suffix + least.suffix, cut + least.cut
            yield Open(suffix, cut, outcome.steady)

    # -- objects

    def _object(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        keys = [*schema.get("properties", {}), *extra_required(schema)]
        members = self._members(schema, keys, path, "")
        yield from self._sequence([lambda i: self._literal("{", i), members], at)

    def _members(self, schema: Schema, keys: Sequence[str], path: str, separator: str) -> Part:
        """The members from `keys` on, those that no property describes, and the closing brace."""

        def follow(at: int) -> Iterator[Outcome]:
            others = schema.get("additionalProperties", True)
            if not keys:
                yield from self._literal("}", at)
                if others is not False and at < len(self._text):
                    yield from self._other_member(schema, path, separator, at)
                return
            key, rest = keys[0], keys[1:]
            required = key in schema.get("required", ())
            if required or at < len(self._text):
                member = [
                    lambda i: self._literal(f"{separator}{dump(key)}: ", i),
                    lambda i: self.value(schema.get("properties", {}).get(key, others), i, f"{path}.{key}"),
                    self._members(schema, rest, path, ", "),
                ]
                yield from self._sequence(member, at)
            if not required:
                yield from self._members(schema, rest, path, separator)(at)

        return follow

    def _other_member(self, schema: Schema, path: str, separator: str, at: int) -> Iterator[Outcome]:
        known = {dump(key)[1:-1] for key in (*schema.get("properties", {}), *extra_required(schema))}
        match = _STRING.match(self._text, at + len(separator))
        name = match.group()[1:] if match is not None else ""

        def key(i: int) -> Iterator[Outcome]:
            for outcome in self._string({}, i, path):
                if isinstance(outcome, Open) and name in known:
                    yield Open("." + outcome.suffix, outcome.cut)
                elif isinstance(outcome, Open):
                    yield Open(outcome.suffix, outcome.cut)  # not steady: it may become one of the known names
                elif name not in known:
                    yield outcome

        member = [
            lambda i: self._literal(separator, i),
            key,
            lambda i: self._literal(": ", i),
            lambda i: self.value(schema.get("additionalProperties", True), i, f"{path}.{name}"),
            self._members(schema, (), path, ", "),
        ]
        yield from self._sequence(member, at)

    # -- arrays, strings, numbers

    def _array(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        items = schema.get("items", True)

        def follow(count: int) -> Part:
            def part(i: int) -> Iterator[Outcome]:
                if count >= least:
                    yield from self._literal("]", i)
                    if i == len(self._text):
                        return
                if most is None or count < most:
                    item = [
                        lambda j: self._literal(", " if count else "", j),
                        lambda j: self.value(items, j, f"{path}[{count}]"),
                        follow(count + 1),
                    ]
                    yield from self._sequence(item, i)

            return part

        yield from self._sequence([lambda i: self._literal("[", i), follow(0)], at)

    def _string(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        if at == len(self._text):
            yield Open(dump("." * int(schema.get("minLength", 0))), (path,))
            return
        match = _STRING.match(self._text, at)
        if match is None:
            return
        stop = match.end()
        ends = self._text.startswith('"', stop)
        escape = "" if ends else _finish_escape(self._text[stop:])
        if escape is None:
            return
        so_far = json.loads(self._text[at:stop] + ("" if ends else self._text[stop:] + escape) + '"')
        missing = int(schema.get("minLength", 0)) - len(so_far)
        if len(so_far) > schema.get("maxLength", len(so_far)) or ("pattern" in schema and _NO_TEXT.search(so_far)):
            return  # another branch's
        if not ends:
            yield Open(escape + "." * missing + '"', (path,), steady=not escape and missing <= 0)
        elif missing <= 0:
            yield Done(stop + 1)

    def _number(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        match = _NUMBER.match(self._text, at)
        assert match is not None, "the pattern matches the empty text"
        stop = match.end()
        if stop == len(self._text):
            end = finish_number(match.group(), schema)
            if end is not None:
                yield Open(end, (path,))
        elif fits(match.group(), schema):
            yield Done(stop)


def _spellings(unit: str) -> list[str]:
    """How a character may be written in a literal: as `dump` does, and a control character by its number too."""
    code = dict(zip("bfnrt", "\b\f\n\r\t", strict=True)).get(unit[1]) if unit[0] == "\\" else None
    return [unit] if code is None else [unit, f"\\u{ord(code):04x}"]


def _finish_escape(rest: str) -> str | None:
    """What completes an escape that the text broke off in; None if it is not one that ever was legal."""
    if not rest:
        return ""
    if rest == "\\":
        return "n"
    if re.fullmatch(r"\\u[0-9a-fA-F]{0,3}", rest):
        # Only control characters are written by number, but in a key that no property describes any character may be.
        digits = rest[2:].lower()
        codes = ("000a", "0010", "007f", digits.ljust(4, "0"))
        return next(code[len(digits) :] for code in codes if code.startswith(digits))
    return None
