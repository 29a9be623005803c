"""What people may give where a grammar is wanted -> a `Source`, and the reader of the texts that the source allows.

Accepted: a Source; a JSON Schema as a mapping or as JSON text; a Pydantic model, a dataclass, a TypedDict, an Enum or
any other typing construct that Pydantic knows; and the output types of outlines (JsonSchema, Regex, CFG, Choice and the
terms of its regex language). Knows no backend: whether a source can be enforced is said by the one that compiles it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from localmem.errors import GrammarError
from localmem.grammar.sources import Cfg, Choice, Gbnf, Json, Regex, Source

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Reader = Callable[[str], Any]


def source_of(given: Any) -> Source:
    """The source that `given` stands for. Raises GrammarError, in one line, for what is none.

    A JSON Schema means exactly what it says. The document of a type has the type's own fields and no others, unless the
    type allows them (Pydantic's extra="allow").
    """
    if isinstance(given, Json | Regex | Choice | Cfg | Gbnf):
        return given
    if isinstance(given, Mapping):
        return Json(given)
    if isinstance(given, str):
        return Json(_parsed(given))
    if _is_of_outlines(given):
        return source_of(given.output_type) if _is_generator(given) else _outlines_source(given)
    return Json(_type_schema(given))


def reader_of(given: Any) -> Reader:
    """A function that makes the Python value of a whole text that `source_of(given)` allows.

    An instance for a Pydantic model, a dataclass or another type; what JSON says for a JSON Schema; the chosen item for
    a Choice of outlines; else the text itself. It raises ValueError for a text that is not whole, or that a validator
    of the type refuses: no schema says what a person's own validator does.
    """
    if isinstance(given, Json | Mapping | str):
        return json.loads
    if isinstance(given, Regex | Choice | Cfg | Gbnf):
        return str
    if not _is_of_outlines(given):
        return _adapter(given).validate_json
    if _is_generator(given):
        return reader_of(given.output_type)
    if _name(given) == "Choice":
        return _item_reader(given.items)
    return json.loads if _name(given) == "JsonSchema" else str


# -- JSON Schemas


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"The schema is not JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise GrammarError("A JSON Schema is an object.")
    return schema


def _adapter(given: Any) -> TypeAdapter[Any]:
    if given is None or isinstance(given, FunctionType):
        raise GrammarError(f"{_shown(given)} is no type; give a JSON Schema, a Pydantic model, a dataclass or a type.")
    from pydantic import TypeAdapter, errors  # takes a while to import, and few need it

    try:
        return TypeAdapter(given)
    except (errors.PydanticUserError, errors.PydanticUndefinedAnnotation, TypeError, SyntaxError) as error:
        raise GrammarError(
            f"{_shown(given)} is no type that has a JSON Schema ({_first_line(error)}); give a JSON Schema instead."
        ) from error


def _type_schema(given: Any) -> Mapping[str, Any]:
    adapter = _adapter(given)
    from pydantic import errors

    try:
        schema = adapter.json_schema()
    except errors.PydanticUserError as error:
        raise GrammarError(
            f"{_shown(given)} has no JSON Schema ({_first_line(error)}); give a JSON Schema instead."
        ) from error
    return cast("Mapping[str, Any]", _closed(schema))


def _closed(schema: Any) -> Any:
    """The schema of a type, with no members but those that the type has a place for."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in ("$defs", "properties", "patternProperties"):
        if key in closed:
            closed[key] = {name: _closed(part) for name, part in closed[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in closed:
            closed[key] = [_closed(part) for part in closed[key]]
    for key in ("items", "additionalProperties"):
        if key in closed:
            closed[key] = _closed(closed[key])
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _shown(given: Any) -> str:
    name = given.__name__ if isinstance(given, type) else repr(given)
    return " ".join(name.split())[:80]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:160]


# -- outlines: recognised by the module of its classes, so that nobody waits for the import of it


def _is_of_outlines(given: Any) -> bool:
    module = type(given).__module__
    return module == "outlines" or module.startswith("outlines.")


def _name(given: Any) -> str:
    return type(given).__name__


def _is_generator(given: Any) -> bool:
    return hasattr(given, "output_type")


def _outlines_source(given: Any) -> Source:
    match _name(given):
        case "JsonSchema":
            if given.whitespace_pattern is not None:
                raise GrammarError("A whitespace_pattern is not supported: documents have one fixed layout.")
            return Json(_parsed(given.schema))
        case "Regex":
            return Regex(given.pattern)
        case "CFG":
            return Cfg(given.definition)
        case "Choice":
            return Choice(tuple(map(_item, given.items)))
        case "String":
            return Choice((given.value,))
        case "Alternatives" if all(_name(term) == "String" for term in given.terms):
            return Choice(tuple(term.value for term in given.terms))
    _refuse_parts(given)
    from localmem.grammar.outlines import term_pattern

    return Regex(term_pattern(given))


def _refuse_parts(term: Any) -> None:
    """Terms that outlines would write as a regular expression that says less than they do."""
    if _name(term) in ("JsonSchema", "CFG"):
        raise GrammarError(f"A {_name(term)} cannot be a part of a regular expression; give it alone.")
    for part in (*getattr(term, "terms", ()), *([term.term] if hasattr(term, "term") else [])):
        _refuse_parts(part)


def _item(item: Any) -> str:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, int | float) and not isinstance(item, bool):
        return str(item)
    raise GrammarError(f"{_shown(item)} is no text or number, so no Choice can offer it.")


def _item_reader(items: Sequence[Any]) -> Reader:
    chosen = {_item(item): item for item in items}

    def read(text: str) -> Any:
        if text not in chosen:
            raise ValueError(f"{_shown(text)} is none of the items to choose from.")
        return chosen[text]

    return read
