"""The shortest legal end of an unfinished JSON document, and which of its values are cut by it.

Works on text and a JSON Schema alone: the document so far is followed through the schema, and whatever is open where the
text ends is closed by the fewest characters that the schema allows. It assumes the layout that `compile_grammar` fixes:
keys in the schema's order, ", " and ": " as separators, no other whitespace.

A document is followed by generators of outcomes, since a prefix may fit several branches of an anyOf at once. An outcome
is `Done(position)`, the value ends there, or `Open(suffix, cut)`, the text ends inside the value and `suffix` closes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The text that a model may write into a string of a function call: no control characters but the newline.
TEXT_PATTERN = r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]*$"

Schema = Mapping[str, Any]


class NoPlan(Exception):
    """The schema has a part whose end cannot be planned from its text alone."""


@dataclass(frozen=True, slots=True)
class Done:
    position: int


@dataclass(frozen=True, slots=True)
class Open:
    suffix: str
    cut: tuple[str, ...] = ()


Outcome = Done | Open
Part = Callable[[int], Iterator[Outcome]]  # follows the text from a position on
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_NUMBER = re.compile(r"-?\d*(?:\.\d*)?(?:[eE][-+]?\d*)?")


class Closing:
    """Plans ends for documents of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema

    def end(self, text: str) -> tuple[str, tuple[str, ...]] | None:
        """The shortest text that makes `text` a whole document, and the JSON paths of the values that it cuts or fills.

        None if there is no plan: the schema uses a keyword whose end cannot be planned, or `text` does not fit it.
        """
        try:
            outcomes = list(_Follower(text, self._root).value(self._root, 0, "$"))
        except (NoPlan, RecursionError):
            return None
        if any(isinstance(o, Done) and o.position == len(text) for o in outcomes):
            return "", ()
        ends = [o for o in outcomes if isinstance(o, Open)]
        best = min(ends, key=lambda o: len(o.suffix), default=None)
        return None if best is None else (best.suffix, best.cut)

    def bound(self) -> int | None:
        """An upper bound, in bytes, of what `end` returns for any text; None if there is none (a recursive schema)."""
        try:
            return _bound(self._root, self._root, ())
        except NoPlan:
            return None


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        target: Any = root
        for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")] if part else target
        schema = target
    return schema


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _choices(schema: Schema) -> list[str] | None:
    """The literals that a schema lists, None if it lists none."""
    if "const" in schema:
        return [_dump(schema["const"])]
    if "enum" in schema:
        return [_dump(value) for value in schema["enum"]]
    return {"boolean": ["true", "false"], "null": ["null"]}.get(str(schema.get("type")))


class _Follower:
    """Follows one text through one schema."""

    def __init__(self, text: str, root: Schema) -> None:
        self._text = text
        self._root = root

    def value(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        schema = _resolve(schema, self._root)
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches is not None:
            for branch in branches:
                yield from self.value(branch, at, path)
            return
        choices = _choices(schema)
        if choices is not None:
            yield from self._one_of(choices, at, path)
            return
        follow = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._number,
            "number": self._number,
        }.get(str(schema.get("type")))
        if follow is None:
            raise NoPlan
        yield from follow(schema, at, path)

    def _literal(self, literal: str, at: int) -> Iterator[Outcome]:
        rest = len(self._text) - at
        if rest >= len(literal):
            if self._text.startswith(literal, at):
                yield Done(at + len(literal))
        elif literal.startswith(self._text[at:]):
            yield Open(literal[rest:])

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
            else:
                suffix, cut = outcome.suffix, outcome.cut
                for part in parts[1:]:
                    least = _shortest(part(len(self._text)))
                    suffix, cut = suffix + least.suffix, cut + least.cut
                yield Open(suffix, cut)

    def _object(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        if schema.get("additionalProperties", True) is not False or "patternProperties" in schema:
            raise NoPlan
        required = set(schema.get("required", ()))
        keys = list(schema.get("properties", {}))
        yield from self._sequence(
            [lambda i: self._literal("{", i), self._members(schema, keys, required, path, "")], at
        )

    def _members(self, schema: Schema, keys: list[str], required: set[str], path: str, separator: str) -> Part:
        """The members from `keys` on, and the closing brace."""

        def follow(at: int) -> Iterator[Outcome]:
            if not keys:
                yield from self._literal("}", at)
                return
            key, rest = keys[0], keys[1:]
            member = [
                lambda i: self._literal(f"{separator}{_dump(key)}: ", i),
                lambda i: self.value(schema["properties"][key], i, f"{path}.{key}"),
                self._members(schema, rest, required, path, ", "),
            ]
            yield from self._sequence(member, at)
            if key not in required:
                yield from self._members(schema, rest, required, path, separator)(at)

        return follow

    def _array(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        if "prefixItems" in schema:
            raise NoPlan
        least = int(schema.get("minItems", 0))
        most = schema.get("maxItems")
        items = schema.get("items")

        def follow(count: int) -> Part:
            def part(i: int) -> Iterator[Outcome]:
                if count >= least:
                    yield from self._literal("]", i)
                at_end = i == len(self._text)
                if (most is None or count < most) and not (at_end and count >= least):
                    if not isinstance(items, Mapping):
                        raise NoPlan
                    item = [
                        lambda j: self._literal(", " if count else "", j),
                        lambda j: self.value(items, j, f"{path}[{count}]"),
                        follow(count + 1),
                    ]
                    yield from self._sequence(item, i)

            return part

        yield from self._sequence([lambda i: self._literal("[", i), follow(0)], at)

    def _string(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        if "format" in schema or schema.get("pattern", TEXT_PATTERN) != TEXT_PATTERN:
            raise NoPlan
        if at == len(self._text):
            yield Open(_dump("." * int(schema.get("minLength", 0))), (path,))
            return
        match = _STRING.match(self._text, at)
        if match is None:
            return
        stop = match.end()
        if self._text.startswith('"', stop):
            yield Done(stop + 1)
            return
        escape = _finish_escape(self._text[stop:])
        if escape is not None:
            so_far = json.loads(self._text[at:] + escape + '"')
            missing = int(schema.get("minLength", 0)) - len(so_far)
            yield Open(escape + "." * missing + '"', (path,))

    def _number(self, schema: Schema, at: int, path: str) -> Iterator[Outcome]:
        match = _NUMBER.match(self._text, at)
        assert match is not None, "the pattern matches the empty text"
        stop = match.end()
        if stop == len(self._text):
            end = _finish_number(match.group(), schema)
            if end is not None:
                yield Open(end, (path,))
        elif stop > at:
            yield Done(stop)


def _shortest(outcomes: Iterator[Outcome]) -> Open:
    best = min((o for o in outcomes if isinstance(o, Open)), key=lambda o: len(o.suffix), default=None)
    if best is None:
        raise NoPlan
    return best


def _finish_escape(rest: str) -> str | None:
    """What completes an escape that the text broke off in; None if it is not one that ever was legal."""
    if not rest:
        return ""
    if rest == "\\":
        return "n"
    if re.fullmatch(r"\\u[0-9a-fA-F]{0,3}", rest):
        return "0020"[len(rest) - 2 :] if "0020".startswith(rest[2:]) else "0" * (6 - len(rest))
    return None


def _limits(schema: Schema) -> tuple[float, float]:
    low = max(schema.get("minimum", float("-inf")), schema.get("exclusiveMinimum", float("-inf")))
    high = min(schema.get("maximum", float("inf")), schema.get("exclusiveMaximum", float("inf")))
    return low, high


def _finish_number(begun: str, schema: Schema) -> str | None:
    """The fewest characters that make `begun` a number within the schema's limits."""
    if "multipleOf" in schema:
        raise NoPlan
    low, high = _limits(schema)

    def fits(text: str) -> bool:
        try:
            value = json.loads(text)
        except ValueError:
            return False
        if not low <= value <= high:
            return False
        return value not in (schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum"))

    if begun and fits(begun):
        return ""
    tails = ["0", "1", "9"] if begun and begun[-1] in ".eE+-" else []
    for end in [*tails, *_digits(begun, low, high), ".5", "0.5", ".0"]:
        if fits(begun + end):
            return end
    raise NoPlan


def _digits(begun: str, low: float, high: float) -> Iterator[str]:
    """Digits (and a sign) that take an integer begun as `begun` into the limits, shortest first."""
    if not re.fullmatch(r"-?\d*", begun):
        return
    signs = [""] if begun else ["", "-"]
    for length in range(1, 20):
        for sign in signs:
            head = sign + begun
            negative = head.startswith("-")
            smallest = int(f"{head.lstrip('-') or 0}") * 10**length
            largest = smallest + 10**length - 1
            near, far = (-largest, -smallest) if negative else (smallest, largest)
            if max(near, low) <= min(far, high):
                value = int(max(near, low) if low != float("-inf") and near < low else near)
                yield f"{sign}{abs(value) - smallest:0{length}d}"


def _bound(schema: Schema, root: Schema, seen: tuple[int, ...]) -> int:
    """Bytes of the longest end that any text of `schema` may need."""
    schema = _resolve(schema, root)
    if id(schema) in seen:
        raise NoPlan
    seen = (*seen, id(schema))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches is not None:
        return max(_bound(branch, root, seen) for branch in branches)
    choices = _choices(schema)
    if choices is not None:
        return max(len(choice.encode()) for choice in choices)
    kind = schema.get("type")
    if kind == "object":
        members = schema.get("properties", {}).items()
        return 2 + sum(len(_dump(key).encode()) + 4 + _bound(value, root, seen) for key, value in members)
    if kind == "array":
        items = schema.get("items", {})
        return 2 + (int(schema.get("minItems", 0)) + 1) * (2 + _bound(items, root, seen)) if items else 2
    if kind == "string":
        return 2 + int(schema.get("minLength", 0)) + 6
    return 24
