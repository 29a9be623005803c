"""Random JSON Schemas of the keywords that every backend enforces, and random documents near to them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from localmem.grammar.schema import TEXT_PATTERN

_TEXTS = st.text(alphabet='ab"\\/\n\té😀 ', max_size=4)
_LIMITS = st.integers(-60, 60)


@st.composite
def _strings(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if draw(st.booleans()):
        schema["minLength"] = draw(st.integers(0, 3))
    if draw(st.booleans()):
        schema["maxLength"] = schema.get("minLength", 0) + draw(st.integers(0, 15))
    if draw(st.booleans()):
        schema["pattern"] = TEXT_PATTERN
    return schema


@st.composite
def _numbers(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    if draw(st.booleans()):
        schema["minimum"] = draw(_LIMITS)
    if draw(st.booleans()):
        schema["maximum"] = schema.get("minimum", -60) + draw(st.integers(0, 200))
    return schema


_LITERALS = st.lists(st.one_of(_TEXTS, st.integers(-20, 20), st.booleans(), st.none()), min_size=1, max_size=4)


@st.composite
def _objects(draw: st.DrawFn, parts: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from(["a", "b", "ab", 'q"', "é"]), max_size=3, unique=True))
    return {
        "type": "object",
        "properties": {key: draw(parts) for key in keys},
        "required": [key for key in keys if draw(st.booleans())],
        "additionalProperties": False,
    }


@st.composite
def _arrays(draw: st.DrawFn, parts: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    least = draw(st.integers(0, 2))
    return {"type": "array", "items": draw(parts), "minItems": least, "maxItems": least + draw(st.integers(0, 3))}


_LEAVES = st.one_of(
    _strings(),
    _numbers(),
    _LITERALS.map(lambda v: {"enum": v}),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
)

SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    _LEAVES,
    lambda parts: st.one_of(
        _objects(parts), _arrays(parts), st.lists(parts, min_size=1, max_size=3).map(lambda ways: {"anyOf": ways})
    ),
    max_leaves=6,
)


@st.composite
def near(draw: st.DrawFn, schema: dict[str, Any]) -> Any:
    """A value that fits `schema`, or nearly."""
    if draw(st.integers(0, 30)) == 0:
        return draw(st.one_of(_TEXTS, st.integers(-100, 100), st.none(), st.just([]), st.just({})))
    if "anyOf" in schema:
        return draw(near(draw(st.sampled_from(schema["anyOf"]))))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    off = draw(st.integers(-1, 1)) if draw(st.integers(0, 8)) == 0 else 0
    match schema["type"]:
        case "object":
            keys = [k for k in schema["properties"] if k in schema["required"] or draw(st.booleans())]
            return {key: draw(near(schema["properties"][key])) for key in keys}
        case "array":
            length = draw(st.integers(schema["minItems"], schema["maxItems"])) + off
            return [draw(near(schema["items"])) for _ in range(length)]
        case "string":
            least = schema.get("minLength", 0)
            alphabet = 'ab"\\/\né😀 ' + ("" if "pattern" in schema and not off else "\t\x01")
            length = max(0, draw(st.integers(least, schema.get("maxLength", least + 4))) + off)
            return draw(st.text(alphabet=alphabet, min_size=length, max_size=length))
        case "boolean":
            return draw(st.booleans())
        case "null":
            return None
        case kind:
            low, high = schema.get("minimum", -99), schema.get("maximum", schema.get("minimum", 0) + 200)
            number = draw(st.integers(low, max(low, high))) + off
            return number + draw(st.sampled_from([0, 0.5, 0.25])) if kind == "number" else number
