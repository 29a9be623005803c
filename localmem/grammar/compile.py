"""compile_grammar: a JSON Schema or a Python type -> a Grammar, not yet bound to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from localmem.errors import GrammarError
from localmem.protocols import Grammar

Backend = Literal["llguidance"]
BACKENDS: tuple[Backend, ...] = ("llguidance",)


def compile_grammar(schema: Mapping[str, Any] | str | type, *, backend: Backend = "llguidance") -> Grammar:
    """The constraint that makes a generation a document of `schema`.

    `schema` is a JSON Schema (a mapping, or its JSON text) or a class with a `model_json_schema` (Pydantic). Documents
    are written without optional whitespace: `{"a": 1, "b": 2}`, keys in the schema's order.

    Raises GrammarError, whose `path` is the JSON path of the cause, if the schema cannot be enforced exactly.
    """
    if backend not in BACKENDS:
        raise GrammarError(f"There is no grammar backend {backend!r}; use one of: {', '.join(BACKENDS)}.")
    from localmem.grammar.llg import LLGuidanceGrammar  # heavy: loaded when a grammar is wanted

    return LLGuidanceGrammar(_json_schema(schema))


def _json_schema(schema: Mapping[str, Any] | str | type) -> Mapping[str, Any]:
    if isinstance(schema, Mapping):
        return schema
    if isinstance(schema, type):
        if hasattr(schema, "model_json_schema"):
            return dict(schema.model_json_schema())
        raise GrammarError(f"{schema.__name__} is not a Pydantic model; give a JSON Schema.")
    try:
        parsed = json.loads(schema)
    except ValueError as error:
        raise GrammarError(f"The schema is not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise GrammarError("A JSON Schema is an object.")
    return parsed
