"""A JSON Schema brought to forms: branches, choices, or the keywords of one type. Knows no text.

Keywords that stand side by side ($ref and its siblings, allOf, anyOf beside properties) are merged into one form, in
llguidance's order, which decides the order of an object's keys. oneOf is taken for anyOf: backends let it pass only
where no document fits two of its branches. Words that are none of the standard's are documentation; keywords of the
standard that are not understood here raise `NoPlan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import chain
from typing import Any

from localmem.grammar.format_ends import PATTERNS
from localmem.grammar.intersecting_ends import apart, common, schema_of_key
from localmem.grammar.number_ends import is_multiple
from localmem.grammar.pattern_ends import NoPlan
from localmem.grammar.reference_ends import References
from localmem.grammar.schema import TEXT_PATTERN
from localmem.grammar.string_ends import matches

Schema = Mapping[str, Any]


class Form(dict[str, Any]):
    """A schema whose only keywords are anyOf, or enum, or those of one type. Branches and members may be any schema.

    A string's patterns are a tuple under "patterns", except for the text of function calls, whose one stays "pattern".
    An object's required keys all stand in its properties, those that were not there under "extra", too; an array's
    first items are its prefixItems.
    """


_NOT_UNDERSTOOD = {
    "$dynamicRef", "$recursiveRef", "contains", "dependencies", "dependentRequired", "dependentSchemas", "else", "if",
    "maxContains", "minContains", "not", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    "uniqueItems", "x-guidance",
}  # fmt: skip
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_KEYWORDS = {
    "number": _LIMITS,
    "integer": _LIMITS,
    "string": {"minLength", "maxLength", "pattern", "format"},
    "boolean": set(),
    "null": set(),
    "array": {"items", "prefixItems", "additionalItems", "minItems", "maxItems"},
    "object": {
        "properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties",
    },
}  # fmt: skip
_TYPED = {"type"}.union(*_KEYWORDS.values())
_MIXED = ("$ref", "oneOf", "anyOf", "allOf", "enum", "const")
_MOST_FORMS = 20_000

#: What a schema without a word about it allows.
ANY = Form(anyOf=[{"type": kind} for kind in ("number", "string", "boolean", "null", "array", "object")])
NEVER = Form(anyOf=[])


class Forms:
    """The forms of one schema's parts. Each is worked out once."""

    def __init__(self, root: Schema) -> None:
        self._references = References(root)
        self._known: dict[int, tuple[Any, Form]] = {}

    def plain(self, schema: Any) -> Form:
        """The form of a schema. Raises NoPlan for what is not understood."""
        if isinstance(schema, Form):
            return schema
        known = self._known.get(id(schema))
        if known is None:
            if len(self._known) >= _MOST_FORMS:
                raise NoPlan
            known = self._known[id(schema)] = (schema, self._simplify(schema))
        return known[1]

    def _simplify(self, schema: Any) -> Form:
        if schema is True or schema is False:
            return ANY if schema else NEVER
        if not isinstance(schema, Mapping):
            raise NoPlan
        for word in _NOT_UNDERSTOOD.intersection(schema):
            if word != "uniqueItems" or schema[word] is not False:
                raise NoPlan
        typed = {word: schema[word] for word in schema if word in _TYPED}
        parts = chain([_typed(typed)] if typed else [], *(self._parts(schema, word) for word in _MIXED))
        return reduce(self._both, parts, ANY)

    def _parts(self, schema: Schema, word: str) -> Iterable[Form]:
        if word not in schema:
            return ()
        value = schema[word]
        if word == "$ref":
            return (self.plain(self._references.target(schema)),)
        if word == "const":
            return (Form(enum=[value]),)
        if not isinstance(value, list):
            raise NoPlan
        if word == "allOf":
            return (self.plain(each) for each in value)
        return (Form(enum=value) if word == "enum" else Form(anyOf=value),)

    def _both(self, one: Form, other: Form) -> Form:
        """What both forms allow."""
        if one is ANY:
            return other
        if other is ANY:
            return one
        if "enum" in one or "enum" in other:
            values, rest = (one, other) if "enum" in one else (other, one)
            return Form(enum=[value for value in values["enum"] if self.admits(rest, value)])
        if "anyOf" in one:
            return Form(anyOf=[{"allOf": [branch, other]} for branch in one["anyOf"] if not apart(branch, other)])
        if "anyOf" in other:
            return Form(anyOf=[{"allOf": [one, branch]} for branch in other["anyOf"] if not apart(branch, one)])
        merged = common(one, other)
        return NEVER if merged is None else Form(merged)

    def admits(self, schema: Any, value: Any) -> bool:
        """Whether a schema allows a value."""
        form = self.plain(schema)
        if "anyOf" in form:
            return any(self.admits(branch, value) for branch in form["anyOf"])
        if "enum" in form:
            return any(same(value, each) for each in form["enum"])
        match form["type"], value:
            case ("integer" | "number", int() | float()) if not isinstance(value, bool):
                return _within(form, value)
            case "string", str():
                patterns = (form["pattern"],) if "pattern" in form else form.get("patterns", ())
                return _counted(form, "Length", len(value)) and matches(patterns, value)
            case "array", list():
                first, rest = form.get("prefixItems", []), form.get("items", True)
                schemas = [*first[: len(value)], *[rest] * (len(value) - len(first))]
                return _counted(form, "Items", len(value)) and all(map(self.admits, schemas, value))
            case "object", dict():
                missing = set(form.get("required", ())) - set(value)
                every = all(self.admits(schema_of_key(form, key), each) for key, each in value.items())
                return not missing and every and _counted(form, "Properties", len(value))
        return False


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON: true is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def _counted(form: Form, what: str, count: int) -> bool:
    return bool(form.get(f"min{what}", 0) <= count <= form.get(f"max{what}", count))


def _within(form: Form, value: int | float) -> bool:
    if form["type"] == "integer" and value != int(value):
        return False
    low, high = form.get("minimum", value), form.get("maximum", value)
    if not low <= value <= high or value in (form.get("exclusiveMinimum"), form.get("exclusiveMaximum")):
        return False
    beyond = value < form.get("exclusiveMinimum", value) or value > form.get("exclusiveMaximum", value)
    return not beyond and ("multipleOf" not in form or is_multiple(value, form["multipleOf"]))


def _typed(schema: Schema) -> Form:
    """The form of keywords that speak of types only."""
    kind = schema.get("type")
    if kind is None:
        return Form(anyOf=[{**schema, "type": each} for each in _KEYWORDS if each != "integer"])
    if isinstance(kind, list):
        return Form(anyOf=[{**schema, "type": each} for each in kind])
    if kind == "boolean" or kind == "null":
        return Form(enum=[True, False] if kind == "boolean" else [None])
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        raise NoPlan
    form = Form((word, schema[word]) for word in schema if word in _KEYWORDS[kind])
    form["type"] = kind
    {"string": _string, "array": _array, "object": _object}.get(kind, _number)(form)
    return form


def _number(form: Form) -> None:
    """Limits as the newer standards have them: draft 4 says of a limit whether it is exclusive."""
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(form.get(exclusive), bool) and form.pop(exclusive) and limit in form:
            form[exclusive] = form.pop(limit)
    numbers = [form[word] for word in _LIMITS & set(form)]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise NoPlan
    if form.get("multipleOf") == 0:
        raise NoPlan


def _string(form: Form) -> None:
    patterns = []
    if "format" in form:
        if form["format"] not in PATTERNS:
            raise NoPlan
        patterns = [PATTERNS[form.pop("format")]]
    if form.get("pattern") == TEXT_PATTERN and not patterns:
        return
    if "pattern" in form:
        patterns.append(form.pop("pattern"))
    said = tuple(pattern for pattern in patterns if pattern)
    if said:
        form["patterns"] = said


def _array(form: Form) -> None:
    if isinstance(form.get("items"), list):
        if "prefixItems" in form:
            raise NoPlan
        form["prefixItems"], form["items"] = form["items"], form.get("additionalItems", True)
    form.pop("additionalItems", None)


def _object(form: Form) -> None:
    """All keys that are named stand in the properties, each with all that is said of it."""
    if not isinstance(form.get("required", []), list | tuple):
        raise NoPlan
    patterns = form.get("patternProperties") or {}
    if not patterns:
        form.pop("patternProperties", None)
    properties = dict(form.get("properties") or {})
    for key in properties:
        fitting = [schema for pattern, schema in patterns.items() if matches((pattern,), key)]
        if fitting:
            properties[key] = {"allOf": [properties[key], *fitting]}
    form["extra"] = tuple(key for key in form.get("required", ()) if key not in properties)
    form["properties"] = properties | {key: schema_of_key(form, key) for key in form["extra"]}
