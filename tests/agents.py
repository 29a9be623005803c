"""Agents for tests: on the scripted engine or on any other, with real files, and an embedder that costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from localmem.agent import Agent
from localmem.config import Paths, load_config
from localmem.engine.scripted import Answer, Script, ScriptedEngine
from localmem.memory.embedder import HashEmbedder
from localmem.opening import Setting, open_agent
from localmem.protocols import Engine


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def pass_time(self, **span: float) -> None:
        self.now += timedelta(**span)


def say(message: str, thought: str = "") -> dict[str, Any]:
    """A call of send_message."""
    return {"thought": thought, "function": "send_message", "arguments": {"message": message}}


def call(function: str, thought: str = "", **arguments: Any) -> dict[str, Any]:
    """Any call."""
    return {"thought": thought, "function": function, "arguments": arguments}


def agent_on(
    home: Path,
    engine: Engine,
    *,
    name: str = "test",
    functions: Sequence[Callable[..., Any]] = (),
    clock: Callable[[], datetime] | None = None,
    call_format: Literal["auto", "json", "native"] | None = None,
    quoting: bool = False,
    **options: Any,
) -> Agent:
    """An agent in `home` on a loaded engine."""
    clocked: dict[str, Any] = {"call_format": call_format, "quoting": quoting} | (
        {} if clock is None else {"clock": clock}
    )
    setting = Setting(load_config(), Paths.under(home), engine=engine, embedder=HashEmbedder(), **clocked)
    return open_agent(name, setting=setting, functions=functions, **options)


def scripted(
    home: Path, answers: Iterable[Answer] = (), *, script: Script | None = None, n_ctx: int = 16384, **options: Any
) -> Agent:
    """An agent whose model writes what the test says, or at random where it says nothing."""
    return agent_on(home, ScriptedEngine(answers, script=script, n_ctx=n_ctx), **options)
