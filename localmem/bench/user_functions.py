"""The functions of a person's own file: those that are decorated with `localmem.function`, found by running the file.

Knows Python files; what is done with the functions is said elsewhere.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localmem.errors import ConfigError
from localmem.functions import is_marked


def functions_of(file: Path) -> list[Callable[..., Any]]:
    """The decorated functions of `file`, in its order. ConfigError if it cannot be run or has none."""
    spec = importlib.util.spec_from_file_location("localmem_user_functions", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"{file} is no Python file; check its path and that its name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass in it looks its own module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a person's own code may raise anything
        about = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{file} cannot be run ({about}); correct it.") from error
    found = [value for value in vars(module).values() if is_marked(value)]
    if not found:
        raise ConfigError(f"{file} has no function decorated with @localmem.function; decorate at least one.")
    return list(dict.fromkeys(found))


def bound_only(run: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for `run` that looks the same to a model, binds the arguments to its parameters, and does nothing."""
    signature = inspect.signature(run)

    @functools.wraps(run)
    def bind(**given: Any) -> str:
        signature.bind(**given)
        return "bound"

    return bind
