"""Functions of a scenario's user, as an agent takes them: real Python functions, whose results are dictated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any, Literal

from training.scenario import UserFunction

_TYPES: Mapping[str, Any] = {"str": str, "int": int, "float": float, "bool": bool}


def callable_of(function: UserFunction, ran: Callable[[str], str]) -> Callable[..., Any]:
    """A Python function with the described name, signature and docstring. `ran` says what a call of a name returns."""

    def run(**_given: Any) -> str:
        return ran(function.name)

    kinds = {
        name: _TYPES[kind] if isinstance(kind, str) else Literal[tuple(str(choice) for choice in kind)]
        for name, kind in function.parameters.items()
    }
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in kinds.items()]
    run.__name__, run.__doc__ = function.name, function.doc
    run.__annotations__ = dict(kinds)
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return run
