"""The shortest document of a JSON Schema, and how long an end may ever be. Knows schemas only, no text begun.

Schemas outside what can be planned raise `NoPlan`: a keyword that is not understood here is never ignored. Where other
branches of an anyOf are understood, a document of theirs will do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from localmem.grammar.literal_ends import Open
from localmem.grammar.merging import Form, Forms
from localmem.grammar.number_ends import finish_number
from localmem.grammar.pattern_ends import NoPlan
from localmem.grammar.string_ends import finish_string, matches

Schema = Mapping[str, Any]
_LAST_CHARACTERS = ".0aA-_ :/@1bB~é"


def dump(value: Any) -> str:
    """A value as the grammar writes it: DEL counts as a control character, which Python's JSON does not think.

    A number has no exponent, and no decimals that say nothing.
    """
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case float():
            return format(Decimal(repr(value)), "f").removesuffix(".0")
        case list() | tuple():
            return f"[{', '.join(map(dump, value))}]"
        case dict():
            return "{" + ", ".join(f"{dump(str(key))}: {dump(each)}" for key, each in value.items()) + "}"
        case _:
            return json.dumps(value)


@lru_cache(maxsize=4096)
def quoted(key: str) -> str:
    """A key as the grammar writes it."""
    return dump(key)


class Shapes:
    """The shortest documents of a schema's parts. All is worked out once."""

    def __init__(self, root: Schema) -> None:
        self._forms = Forms(root)
        self.plain = self._forms.plain
        self._least: dict[int, tuple[Form, Open | None]] = {}
        self._choices: dict[int, tuple[Form, list[str]]] = {}
        self._open: set[int] = set()

    def least(self, schema: Any) -> Open:
        """The shortest document of `schema`; its paths begin at the document itself. NoPlan if there is none."""
        found = self.shortest(schema)
        if found is None:
            raise NoPlan
        return found

    def shortest(self, schema: Any) -> Open | None:
        """The same; None where `schema` allows nothing, or has no end that does not lead back into itself."""
        plain = self.plain(schema)
        key = id(plain)
        if key in self._open:
            return None
        if key not in self._least:
            self._open.add(key)
            try:
                found = self._build(plain)
            finally:
                self._open.discard(key)
            if found is None and self._open:
                return None  # perhaps only because of what is being worked out further up
            self._least[key] = (plain, found)
        return self._least[key][1]

    def choices(self, form: Form) -> list[str]:
        """The values of an enum as they are written."""
        known = self._choices.get(id(form))
        if known is None:
            known = self._choices[id(form)] = (form, [dump(value) for value in form["enum"]])
        return known[1]

    def _build(self, schema: Form) -> Open | None:
        if "anyOf" in schema:
            return self._branches(schema["anyOf"])
        if "enum" in schema:
            texts = self.choices(schema)
            return Open(min(texts, key=len), ("",) if len(texts) > 1 else ()) if texts else None
        match schema["type"]:
            case "string":
                end = end_of_string(schema, "", "")
                return None if end is None else Open('"' + end, ("",))
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case _:
                number = finish_number("", schema)
                return None if number is None else Open(number, ("",))

    def _branches(self, branches: list[Any]) -> Open | None:
        ends, unknown = [], False
        for branch in branches:
            try:
                end = self.shortest(branch)
            except NoPlan:
                unknown = True
                continue
            if end is not None:
                ends.append(end)
        if unknown and not ends:
            raise NoPlan
        return min(ends, key=lambda end: len(end.suffix), default=None)

    def _array(self, schema: Form) -> Open | None:
        count, first = int(schema.get("minItems", 0)), schema.get("prefixItems", ())
        items = [self.shortest(first[i] if i < len(first) else schema.get("items", True)) for i in range(count)]
        ends = [item for item in items if item is not None]
        if len(ends) < count or count > schema.get("maxItems", count):
            return None
        paths = tuple(f"[{i}]{path}" for i, item in enumerate(ends) for path in item.cut)
        return Open(f"[{', '.join(item.suffix for item in ends)}]", paths)

    def _object(self, schema: Form) -> Open | None:
        members, cut = [], []
        missing = max(0, int(schema.get("minProperties", 0)) - len(schema.get("required", ())))
        for key, inner in [*schema["properties"].items(), *self._filling(schema, missing)]:
            required = key in schema.get("required", ())
            if not required and not missing:
                continue
            value = self.shortest(inner)
            if value is None and required:
                return None
            if value is not None:
                missing -= not required
                members.append(f"{quoted(key)}: {value.suffix}")
                cut += [f".{key}{path}" for path in value.cut]
        if missing or len(members) > schema.get("maxProperties", len(members)):
            return None
        return Open("{" + ", ".join(members) + "}", tuple(cut))

    def _filling(self, schema: Form, missing: int) -> Iterator[tuple[str, Any]]:
        """A key that no property names, of each sort, if one is asked for."""
        if missing:
            for pattern, inner in schema.get("patternProperties", {}).items():
                end = finish_string("", "", (pattern,), 0, None)
                if end is not None and (name := str(json.loads('"' + end))) not in schema["properties"]:
                    yield name, inner
            if schema.get("additionalProperties", True) is not False:
                free = free_key(schema, "")
                if free is not None:
                    yield free, schema.get("additionalProperties", True)

    def bound(self, schema: Any, seen: tuple[int, ...] = ()) -> int:
        """Bytes of the longest end that any text of `schema` may need. NoPlan if there is no such number."""
        plain = self.plain(schema)
        if id(plain) in seen:
            raise NoPlan
        seen = (*seen, id(plain))
        if "anyOf" in plain:
            return max((self.bound(branch, seen) for branch in plain["anyOf"]), default=0)
        if "enum" in plain:
            return max(map(_width, plain["enum"]), default=0)
        match plain["type"]:
            case "object":
                if plain.get("additionalProperties", True) is not False or plain.get("patternProperties"):
                    raise NoPlan
                members = plain["properties"].items()
                return 2 + sum(_width(key) + 4 + self.bound(value, seen) for key, value in members)
            case "array":
                first = sum(2 + self.bound(item, seen) for item in plain.get("prefixItems", ()))
                item = 2 + self.bound(plain.get("items", True), seen)
                return 2 + first + (int(plain.get("minItems", 0)) + 1) * item
            case "string":
                if plain.get("patterns") and "maxLength" not in plain:
                    raise NoPlan
                more = 6 * int(plain["maxLength"]) if plain.get("patterns") else int(plain.get("minLength", 0))
                return 2 + 6 + more
            case _:
                return 32 if "multipleOf" not in plain else 64


def end_of_string(schema: Schema, begun: str, escape: str) -> str | None:
    """What ends a string that broke off after the characters `begun`, or in an escape after them."""
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    patterns: tuple[str, ...] = schema.get("patterns", ())
    if patterns:
        return finish_string(begun, escape, patterns, least, None if most is None else int(most))
    fill = "." * max(0, least - len(begun))
    return None if most is not None and max(least, len(begun)) > most else fill + '"'


def free_key(schema: Schema, begun: str) -> str | None:
    """A key that begins with `begun`, that no property names and no pattern fits; None if none was found."""
    patterns = tuple(schema.get("patternProperties", ()))
    ends = ["", *_LAST_CHARACTERS, *(a + b for a in _LAST_CHARACTERS for b in _LAST_CHARACTERS)]
    for end in ends:
        key = f"{begun}{end}"
        if key not in schema["properties"] and not any(matches((pattern,), key) for pattern in patterns):
            return key
    return None


def _width(value: Any) -> int:
    """Bytes of a literal at most: a control character that was begun by its number is longer than `dump` makes it."""
    text = dump(value)
    return len(text.encode()) + (4 if "\\" in text else 0)
