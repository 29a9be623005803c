"""What an agent asks its engine for first: the prompt and the schema of the first call of a turn.

That is what generations are measured on. Knows an agent and its engine; generates nothing.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localmem.config import Paths, load_config
from localmem.errors import ConfigError, GrammarError
from localmem.grammar.compile import Backend, compile_grammar
from localmem.grammar.sources import Json
from localmem.memory.embedder import HashEmbedder
from localmem.opening import Setting, open_agent
from localmem.protocols import Engine, Generation, Grammar

MESSAGE = "My name is Ada, I live in Lisbon, and I am learning to play the cello. What could I practise today?"
#: A backend that refuses a document for its size gets one whose strings have no more characters than this.
SHORTER = (60, 30, 15)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt as token ids, the document that is to be written, and how many tokens that may take."""

    prompt: list[int]
    source: Json
    max_tokens: int


class _Asked(BaseException):
    """Thrown out of the loop once it has asked for its first call."""


class _Recorder:
    """An engine that notes what it is asked for instead of writing it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.request: Request | None = None

    def generate(
        self, prompt: str | Sequence[int], *, constraint: Grammar | None = None, max_tokens: int = 256, **_: Any
    ) -> Generation:
        assert not isinstance(prompt, str)
        self.request = Request(list(prompt), document_of(constraint), max_tokens)
        raise _Asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def document_of(constraint: Grammar | None) -> Json:
    """What an agent's constraint was compiled from. ConfigError if that is no JSON document."""
    source = getattr(constraint, "source", None)
    if not isinstance(source, Json):
        raise ConfigError("Only calls in localmem's own JSON are measured; use call_format: json.")
    return source


def first_request(engine: Engine, preset: str, longest: int, functions: Sequence[Callable[..., Any]] = ()) -> Request:
    """What is asked for first in an agent with one passage and one message, `longest` tokens at most."""
    recorder = _Recorder(engine)
    with tempfile.TemporaryDirectory() as home:
        setting = Setting(
            load_config(),
            Paths.under(Path(home)),
            engine=recorder,
            embedder=HashEmbedder(),
            call_format="json",
        )
        with open_agent("bench", setting=setting, prompt=preset, functions=functions) as agent:
            agent.archival.insert("Ada's cello teacher is called Rui.")
            with contextlib.suppress(_Asked):
                list(agent.send(MESSAGE))
    request = recorder.request
    assert request is not None
    return Request(request.prompt, request.source, min(request.max_tokens, longest))


def compile_smaller(source: Json, backend: Backend | None) -> tuple[Grammar, int | None]:
    """The grammar of a document; of one with shorter strings, and how short, where the backend takes no larger one.

    Raises the GrammarError of the whole document if the backend takes none of them.
    """
    try:
        return compile_grammar(source, backend=backend), None
    except GrammarError as error:
        for longest in SHORTER:
            with contextlib.suppress(GrammarError):
                return compile_grammar(shorter(source, longest), backend=backend), longest
        raise error


def shorter(source: Json, longest: int) -> Json:
    """`source` with every string in it bounded to `longest` characters: smaller, for a backend that has a size cap."""
    return replace(source, schema=_shorter(source.schema, longest))


def _shorter(schema: Any, longest: int) -> Any:
    if isinstance(schema, Mapping):
        bounds = {"maxLength": min(longest, schema.get("maxLength", longest))} if _is_text(schema) else {}
        return {key: _shorter(value, longest) for key, value in schema.items()} | bounds
    return [_shorter(item, longest) for item in schema] if isinstance(schema, list) else schema


def _is_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and not {"enum", "const"} & set(schema)
