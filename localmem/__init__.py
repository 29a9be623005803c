"""localmem: a fully offline agent with long-term memory, on a small open model that runs on your own machine.

The public names; each is loaded when it is first used (PEP 562), so that importing localmem costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localmem.agent import Agent
    from localmem.engine.load import load_engine
    from localmem.engine.scripted import ScriptedEngine
    from localmem.errors import (
        ConfigError,
        ContextError,
        FunctionError,
        GrammarError,
        LocalmemError,
        ModelError,
        StoreError,
    )
    from localmem.events import Event, FunctionCall, Kind
    from localmem.functions import function
    from localmem.grammar.compile import compile_grammar
    from localmem.opening import open_agent
    from localmem.protocols import Generation, Sampling

__version__ = "0.1.0"

_HOME_OF = {
    "Agent": "agent",
    "ConfigError": "errors",
    "ContextError": "errors",
    "Event": "events",
    "FunctionCall": "events",
    "FunctionError": "errors",
    "Generation": "protocols",
    "GrammarError": "errors",
    "Kind": "events",
    "LocalmemError": "errors",
    "ModelError": "errors",
    "Sampling": "protocols",
    "ScriptedEngine": "engine.scripted",
    "StoreError": "errors",
    "compile_grammar": "grammar.compile",
    "function": "functions",
    "load_engine": "engine.load",
    "open_agent": "opening",
}

__all__ = [
    "Agent",
    "ConfigError",
    "ContextError",
    "Event",
    "FunctionCall",
    "FunctionError",
    "Generation",
    "GrammarError",
    "Kind",
    "LocalmemError",
    "ModelError",
    "Sampling",
    "ScriptedEngine",
    "StoreError",
    "__version__",
    "compile_grammar",
    "function",
    "load_engine",
    "open_agent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'localmem' has no attribute {name!r}")
    value = getattr(import_module(f"localmem.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
