"""The command line on a ScriptedEngine: the real entry point and store, without weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from localmem import Kind, ScriptedEngine
from localmem.cli import console, main
from localmem.config import Paths
from localmem.opening import Setting


def send(text: str, thought: str = "") -> dict[str, Any]:
    """The answer that is a message."""
    return {"thought": thought, "function": "send_message", "arguments": {"message": text}}


def call(function: str, thought: str = "", **arguments: Any) -> dict[str, Any]:
    """The answer that is a call."""
    return {"thought": thought, "function": function, "arguments": arguments}


@dataclass
class Line:
    """`localmem` in this process. `engines` are those that were loaded; `answers` are for the next one."""

    engines: list[ScriptedEngine] = field(default_factory=list)
    loaded: list[Any] = field(default_factory=list)
    script: Any = None

    def load_engine(self, model: Any, **options: Any) -> ScriptedEngine:
        engine = ScriptedEngine(self.answers, script=self.script)
        self.loaded.append((model, options))
        self.engines.append(engine)
        self.answers = []
        return engine

    answers: list[Any] = field(default_factory=list)

    def run(self, *arguments: str, lines: Iterable[str] = (), stdin: str | None = None, answers: Any = ()) -> Result:
        """The outcome of one command. `lines` are its stdin."""
        self.answers = list(answers)
        text = stdin if stdin is not None else "".join(f"{line}\n" for line in lines)
        result = CliRunner().invoke(main, [*arguments], input=text)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    def chat(self, *lines: str, answers: Any = (), flags: Iterable[str] = ()) -> Result:
        """A chat with the agent `t`, of these lines."""
        return self.run("chat", "-a", "t", "--prompt", "compact", *flags, lines=lines, answers=answers)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    """The command line, whose models are all scripted, in words of their own."""
    made = Line()
    monkeypatch.setattr("localmem.opening.Setting", partial(Setting, quoting=False))
    monkeypatch.setattr("localmem.engine.load.load_engine", made.load_engine)
    monkeypatch.setattr(console, "ask_to_pull", lambda _entry, _paths=None: tmp_path)
    monkeypatch.setattr("localmem.cli.conversation.check_model", lambda _flags: None)
    return made


def kinds(paths: Paths, agent: str = "t") -> list[Kind]:
    """The kinds of an agent's events, as its file holds them."""
    from localmem.memory.store import Store

    store = Store.open(paths.agent_folder(agent) / "agent.duckdb")
    try:
        return [event.kind for event in store.path()]
    finally:
        store.close()
