"""Functions and live state -> the JSON Schema of one call.

The bounds that keep a small model in hand (length of strings, size of numbers and lists, no control characters) are
added here, to function schemas only; a user's own schema means exactly what it says. Knows no function by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

_CONTROLS = r"\x00-\x09\x0b-\x1f\x7f-\x9f"
#: The text that a model may write into a string of a function call: no control characters but the newline.
TEXT_PATTERN = f"^[^{_CONTROLS}]*$"
#: A character that is not in it.
NO_TEXT = re.compile(f"[{_CONTROLS}]")

MAX_STRING = 2000
MAX_ITEMS = 16
MAX_NUMBER = 10**12


def text(longest: int = MAX_STRING, *, shortest: int = 1) -> Schema:
    """A string of `shortest` to `longest` characters without control characters other than the newline."""
    return {"type": "string", "minLength": shortest, "maxLength": longest, "pattern": TEXT_PATTERN}


def one_of(values: Sequence[Any]) -> Schema:
    """One of the listed values."""
    return {"const": values[0]} if len(values) == 1 else {"enum": list(values)}


def arguments(properties: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Schema:
    """An object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in set(optional)],
        "additionalProperties": False,
    }


def call_schema(functions: Mapping[str, Sequence[Schema]], *, longest_thought: int) -> Schema:
    """The schema of one call: `functions` maps each name that exists now to the argument objects that it takes now.

    Thought first: a small model that names the function before it thinks picks the wrong one more often.
    """
    branches = [
        arguments({"thought": text(longest_thought, shortest=0), "function": {"const": name}, "arguments": variant})
        for name, variants in functions.items()
        for variant in variants
    ]
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def bounded(schema: Schema) -> Schema:
    """A function parameter's schema with every string, number and list in it bounded."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [bounded(branch) for branch in schema["anyOf"]]}
    if "enum" in schema or "const" in schema:
        return schema
    match schema.get("type"):
        case "string":
            return {**text(schema.get("maxLength", MAX_STRING), shortest=schema.get("minLength", 0)), **schema}
        case "integer" | "number":
            return {"minimum": -MAX_NUMBER, "maximum": MAX_NUMBER, **schema}
        case "array":
            return {"maxItems": MAX_ITEMS, **schema, "items": bounded(schema["items"])}
        case "object" if "properties" in schema:
            return {**schema, "properties": {key: bounded(value) for key, value in schema["properties"].items()}}
        case _:
            return schema


def quoting(schema: Schema, texts: Sequence[str]) -> Schema:
    """A function parameter's schema in which each string of free wording is one of `texts`, if any of them fits it."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [quoting(branch, texts) for branch in schema["anyOf"]]}
    if schema.get("type") == "array":
        return {**schema, "items": quoting(schema["items"], texts)}
    if schema.get("pattern") != TEXT_PATTERN:
        return schema
    fitting = [each for each in texts if schema["minLength"] <= len(each) <= schema["maxLength"]]
    return one_of(fitting) if fitting else schema
