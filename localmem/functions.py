"""What the model may call: a typed, documented Python function -> its name, schema and effect.

A function of a user's own is made callable by passing it to `open_agent(functions=[...])`, decorated or not. What
the model is told comes from the signature and the docstring, so both are required: a parameter without a type, or a
function without a docstring, is a ConfigError that names it, when it is registered and not when it is called.

The built-in functions are in `memory_functions`.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, Union

from localmem.errors import ConfigError, FunctionError
from localmem.grammar.schema import Schema, arguments, bounded, quoting

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to. `shown` are the sources that a search put before the model; `search` marks its result."""

    text: str
    ok: bool = True
    shown: tuple[int | str, ...] = ()
    search: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the user's: `run` gets the arguments as its parameters want them."""

    name: str
    description: str
    parameters: Mapping[str, Schema]
    optional: frozenset[str]
    run: Callable[..., Any] = field(repr=False)
    converters: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict, repr=False)

    @property
    def signature(self) -> str:
        """How the model sees it: `name(a, b?)`, optional parameters marked."""
        shown = (f"{name}?" if name in self.optional else name for name in self.parameters)
        return f"{self.name}({', '.join(shown)})"

    @property
    def subject(self) -> str:
        """What it is for, in words that can be compared with a message."""
        return " ".join((self.name, self.description, *self.parameters)).replace("_", " ")

    def variants(self, quotable: Sequence[str] = ()) -> list[Schema]:
        """The argument objects that it takes; its texts are some of `quotable`, if there are any."""
        parameters = {name: quoting(schema, quotable) for name, schema in self.parameters.items()}
        return [arguments(parameters, optional=self.optional)]

    def call(self, given: Mapping[str, Any]) -> Outcome:
        """Run it. Only its own exception makes a failed outcome."""
        values = {name: self.converters[name](value) for name, value in given.items()}
        try:
            result = self.run(**values)
            text = "done" if result is None else str(result)
        except FunctionError as error:
            return Outcome(str(error), ok=False)
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything; the model is told
            return Outcome(f"{type(error).__name__}: {error}".rstrip(": "), ok=False)
        return Outcome(text)


_marked: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def function(run: AnyFunction) -> AnyFunction:
    """Mark a typed, documented function as callable by the model. It is checked here, and returned as it is.

    >>> @function
    ... def add(a: int, b: int) -> int:
    ...     '''Add two numbers.'''
    ...     return a + b
    """
    describe(run)
    _marked.add(run)
    return run


def is_marked(run: object) -> bool:
    """Whether `function` has marked it: what is looked for in a file of functions."""
    return inspect.isfunction(run) and run in _marked


def describe(run: Callable[..., Any]) -> Function:
    """The Function that a Python function is. Raises ConfigError naming the function and the parameter at fault."""
    name = getattr(run, "__name__", repr(run))
    if not name.isidentifier():
        raise ConfigError(f"A function needs a name: {name!r} is none; use def, not lambda.")
    if inspect.iscoroutinefunction(run):
        raise ConfigError(f"Function {name} is async; give a plain function.")
    doc = inspect.getdoc(run)
    if not doc:
        raise ConfigError(f"Function {name} has no docstring; the model needs one line that says when to call it.")
    hints = _hints(run, name)
    parameters: dict[str, Schema] = {}
    converters: dict[str, Callable[[Any], Any]] = {}
    optional: set[str] = set()
    for parameter in inspect.signature(run).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"Function {name}: parameter {parameter.name} must be an ordinary, named one.")
        if parameter.name not in hints:
            raise ConfigError(f"Function {name}: parameter {parameter.name} has no type; annotate it.")
        schema, converters[parameter.name] = _schema_of(hints[parameter.name], f"{name}: parameter {parameter.name}")
        parameters[parameter.name] = bounded(schema)
        if parameter.default is not parameter.empty:
            optional.add(parameter.name)
    return Function(name, _first_paragraph(doc), parameters, frozenset(optional), run, converters)


def _hints(run: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(run)
    except NameError as error:
        raise ConfigError(
            f"Function {name}: a type cannot be resolved ({error}); import it at module level."
        ) from error


def _first_paragraph(doc: str) -> str:
    return " ".join(doc.split("\n\n", 1)[0].split())


def _same(value: Any) -> Any:
    return value


_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


def _schema_of(hint: Any, where: str) -> tuple[Schema, Callable[[Any], Any]]:
    """The JSON Schema of a type, and what makes a value of that type out of JSON."""
    if hint in _PLAIN:
        return _PLAIN[hint], float if hint is float else _same
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}, _same
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        if values and all(type(value) in (str, int, bool) for value in values):
            return {"enum": values}, hint
    if origin in (list, Sequence) and len(inner) == 1:
        schema, convert = _schema_of(inner[0], where)
        return {"type": "array", "items": schema}, lambda values: [convert(value) for value in values]
    if origin in (Union, types.UnionType):
        return _union(inner, where)
    raise ConfigError(
        f"Function {where} has the type {hint}, which a model cannot write; "
        "use str, int, float, bool, Literal, an Enum, list[...] or a union of these."
    )


def _union(members: Sequence[Any], where: str) -> tuple[Schema, Callable[[Any], Any]]:
    described = [_schema_of(member, where) for member in members]
    converting = [convert for _, convert in described if convert is not _same and convert is not float]
    if converting:
        raise ConfigError(f"Function {where}: a union of enums or lists is ambiguous; use one type.")
    return {"anyOf": [schema for schema, _ in described]}, _same


def check_names(functions: Sequence[Function], reserved: Sequence[str]) -> None:
    """Raise ConfigError for a name that is taken."""
    taken = set(reserved)
    for one in functions:
        if one.name in taken:
            raise ConfigError(f"There is already a function named {one.name}; rename yours.")
        taken.add(one.name)
