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
from functools import cached_property
from typing import Any

from localmem.grammar.literal_ends import Done, Open, Outcome, follow_literal
from localmem.grammar.number_ends import finish_number, fits
from localmem.grammar.pattern_ends import NoPlan
from localmem.grammar.schema import NO_TEXT
from localmem.grammar.shortest import Schema, Shapes, dump, end_of_string, free_key, quoted
from localmem.grammar.string_ends import matches
from localmem.protocols import End

Part = Callable[[int], Iterator[Outcome]]  # follows the text from a position on
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
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
            least = self._shapes.shortest(schema)
            if least is not None:
                yield Open(least.suffix, tuple(path + cut for cut in least.cut))
            return
        schema = self._shapes.plain(schema)
        if "anyOf" in schema:
            yield from self._branches(schema["anyOf"], at, path)
        elif "enum" in schema:
            yield from self._one_of(self._shapes.choices(schema), at, path)
        else:
            follow = {"object": self._object, "array": self._array, "string": self._string}
            yield from follow.get(schema["type"], self._number)(schema, at, path)

    def _branches(self, branches: Sequence[Any], at: int, path: str) -> Iterator[Outcome]:
        """Each branch that the text may be in; one whose end cannot be planned is left out if another's can be."""
        unknown = found = False
        for branch in branches:
            try:
                outcomes = list(self.value(branch, at, path))
            except NoPlan:
                unknown = True
                continue
            found = found or bool(outcomes)
            yield from outcomes
        if unknown and not found:
            raise NoPlan

    def _literal(self, literal: str, at: int) -> Iterator[Outcome]:
        return follow_literal(self._text, literal, at)

    def _one_of(self, choices: Sequence[str], at: int, path: str) -> Iterator[Outcome]:
        for choice in choices:
            for outcome in follow_literal(self._text, choice, at):
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
                    break
                suffix, cut = suffix + least.suffix, cut + least.cut
            else:
                yield Open(suffix, cut, outcome.steady)

    # -- objects

    def _object(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        members = self._members(schema, list(schema["properties"]), path, 0)
        yield from self._sequence([lambda i: self._literal("{", i), members], at)

    def _members(self, schema: Schema, keys: Sequence[str], path: str, count: int) -> Part:
        """The members from `keys` on after `count` others, those that no property names, and the closing brace."""
        separator = ", " if count else ""

        def follow(at: int) -> Iterator[Outcome]:
            if not keys:
                yield from self._last_members(schema, path, count, at)
                return
            key, rest = keys[0], keys[1:]
            required = key in schema.get("required", ())
            if required or ((at < len(self._text) or _wants(schema, rest, count)) and _takes(schema, count)):
                member = [
                    lambda i: self._literal(f"{separator}{quoted(key)}: ", i),
                    lambda i: self.value(schema["properties"][key], i, f"{path}.{key}"),
                    self._members(schema, rest, path, count + 1),
                ]
                yield from self._sequence(member, at)
            if not required:
                yield from self._members(schema, rest, path, count)(at)

        return follow

    def _last_members(self, schema: Schema, path: str, count: int, at: int) -> Iterator[Outcome]:
        missing = _wants(schema, (), count)
        if not missing:
            yield from self._literal("}", at)
        if (at < len(self._text) or missing) and _takes(schema, count):
            for pattern, inner in schema.get("patternProperties", {}).items():
                yield from self._other_member(schema, inner, pattern, path, count)(at)
            inner = schema.get("additionalProperties", True)
            if inner is not False:
                yield from self._other_member(schema, inner, None, path, count)(at)

    def _other_member(self, schema: Schema, inner: Any, pattern: str | None, path: str, count: int) -> Part:
        """A member whose key no property names: one that fits a pattern, or none of them."""
        separator = ", " if count else ""

        def follow(at: int) -> Iterator[Outcome]:
            match = _STRING.match(self._text, at + len(separator))
            name = match.group()[1:] if match is not None else ""
            member = [
                lambda i: self._literal(separator, i),
                lambda i: self._key(schema, pattern, i, path),
                lambda i: self._literal(": ", i),
                lambda i: self.value(inner, i, f"{path}.{name}"),
                self._members(schema, (), path, count + 1),
            ]
            yield from self._sequence(member, at)

        return follow

    def _key(self, schema: Schema, pattern: str | None, at: int, path: str) -> Iterator[Outcome]:
        """A key that no property names. Never steady: as it grows, it may become one that is named."""
        form = {} if pattern is None else {"patterns": (pattern,)}
        patterns = schema.get("patternProperties", {}) if pattern is None else ()
        for outcome in self._string(form, at, path):
            whole = outcome.position if isinstance(outcome, Done) else len(self._text)
            key = json.loads(self._text[at:whole] + (outcome.suffix if isinstance(outcome, Open) else ""))
            free = key not in schema["properties"] and not any(matches((each,), key) for each in patterns)
            if isinstance(outcome, Done) and free:
                yield outcome
            elif isinstance(outcome, Open) and free:
                yield Open(outcome.suffix, outcome.cut)
            elif isinstance(outcome, Open) and pattern is None:
                longer = free_key(schema, key)
                if longer is not None:
                    yield Open(outcome.suffix[:-1] + dump(longer)[len(dump(key)) - 1 :], outcome.cut)

    # -- arrays, strings, numbers

    def _array(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        first, items = schema.get("prefixItems", ()), schema.get("items", True)

        def follow(count: int) -> Part:
            def part(i: int) -> Iterator[Outcome]:
                if count >= least:
                    yield from self._literal("]", i)
                    if i == len(self._text):
                        return
                if most is None or count < most:
                    item = [
                        lambda j: self._literal(", " if count else "", j),
                        lambda j: self.value(first[count] if count < len(first) else items, j, f"{path}[{count}]"),
                        follow(count + 1),
                    ]
                    yield from self._sequence(item, i)

            return part

        yield from self._sequence([lambda i: self._literal("[", i), follow(0)], at)

    def _string(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        if at == len(self._text):
            end = end_of_string(schema, "", "")
            if end is not None:
                yield Open('"' + end, (path,))
            return
        match = _STRING.match(self._text, at)
        if match is None:
            return
        stop = match.end()
        if "patterns" in schema:
            yield from self._patterned(schema, at, stop, path)
            return
        ends = self._text.startswith('"', stop)
        escape = "" if ends else _finish_escape(self._text[stop:])
        if escape is None:
            return
        so_far = json.loads(self._text[at:stop] + ("" if ends else self._text[stop:] + escape) + '"')
        missing = int(schema.get("minLength", 0)) - len(so_far)
        if len(so_far) > schema.get("maxLength", len(so_far)) or ("pattern" in schema and NO_TEXT.search(so_far)):
            return  # another branch's
        if not ends:
            yield Open(escape + "." * missing + '"', (path,), steady=not escape and missing <= 0)
        elif missing <= 0:
            yield Done(stop + 1)

    def _patterned(self, schema: Schema, at: int, stop: int, path: str) -> Iterator[Outcome]:
        """A string with patterns. Never steady: any character may change how it has to end."""
        so_far = json.loads(self._text[at:stop] + '"')
        if self._text.startswith('"', stop):
            least, most = schema.get("minLength", 0), schema.get("maxLength", len(so_far))
            if least <= len(so_far) <= most and matches(schema["patterns"], so_far):
                yield Done(stop + 1)
            return
        end = end_of_string(schema, so_far, self._text[stop:])
        if end is not None:
            yield Open(end, (path,))

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


def _wants(schema: Schema, rest: Sequence[str], count: int) -> bool:
    """Whether an object of `count` members needs one more, besides those of `rest` that are required."""
    if "minProperties" not in schema:
        return False
    return count < int(schema["minProperties"]) - len(set(rest).intersection(schema.get("required", ())))


def _takes(schema: Schema, count: int) -> bool:
    return "maxProperties" not in schema or count < schema["maxProperties"]


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
