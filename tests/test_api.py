"""The public API of DESIGN section 3, pinned: a change here is a change for every user."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import call, say, scripted

import localmem
from localmem.engine.llama import LlamaEngine
from localmem.memory.archival import Archival
from localmem.memory.core import Block, Core
from localmem.memory.recall import Recall
from localmem.memory.search import Hit, Page
from localmem.protocols import Engine

NAMES = [
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

FIELDS: dict[Any, list[str]] = {
    localmem.Event: ["id", "time", "kind", "parent", "text", "call", "stats", "details"],
    localmem.FunctionCall: ["function", "arguments"],
    localmem.Sampling: ["temperature", "top_k", "top_p", "min_p", "seed"],
    localmem.Generation: [
        "text", "tokens", "finish", "closed_by", "closed_paths", "prompt_tokens", "reused_tokens", "forced_tokens",
        "ttft_s", "decode_s", "diverged_at",
    ],
}  # fmt: skip

#: Fields that DESIGN names; there may be more.
NAMED: dict[Any, set[str]] = {
    Page: {"hits", "total", "page", "pages"},
    Hit: {"text", "score", "time", "source"},
    Block: {"label", "value", "limit"},
}

#: Parameters, `*` before those that are given by name.
SIGNATURES: dict[Callable[..., Any], str] = {
    localmem.open_agent: "name * home model persona human functions n_ctx prompt max_steps setting",
    localmem.load_engine: "model * n_ctx config paths",
    localmem.compile_grammar: "schema * backend",
    localmem.function: "run",
    localmem.Agent.send: "self text * on_text",
    localmem.Agent.reply: "self text",
    localmem.Agent.extract: "self text type * max_tokens temperature allow_cut",
    localmem.Agent.heartbeat: "self * on_text",
    localmem.Agent.timer: "self text * on_text",
    localmem.Agent.login: "self who * opener on_text",
    localmem.Agent.interrupt: "self",
    localmem.Agent.close: "self",
    Engine.generate: "self prompt * constraint max_tokens temperature seed on_text",
    LlamaEngine.generate: "self prompt * constraint max_tokens temperature seed on_text",
    localmem.ScriptedEngine.generate: "self prompt * constraint max_tokens temperature seed on_text",
    Archival.insert: "self text",
    Core.__getitem__: "self label",
}

ERRORS = ("ConfigError", "ModelError", "GrammarError", "ContextError", "StoreError")


def shown(run: Callable[..., Any]) -> str:
    """A signature as SIGNATURES writes it."""
    words: list[str] = []
    for parameter in inspect.signature(run).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(parameter.name)
    return " ".join(words)


def test_the_public_names() -> None:
    assert sorted(NAMES) == sorted(localmem.__all__)
    for name in NAMES:
        assert getattr(localmem, name) is not None
    assert dir(localmem) == localmem.__all__
    with pytest.raises(AttributeError, match="no attribute 'Chatbot'"):
        _ = localmem.Chatbot


def test_importing_localmem_loads_nothing_of_it() -> None:
    script = (
        "import sys; before = set(sys.modules); import localmem;"
        "print(sorted(set(sys.modules) - before - {'__future__', 'importlib', 'typing'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in eval(done.stdout)}
    assert loaded <= {"localmem", *sys.stdlib_module_names}
    assert "'localmem.agent'" not in done.stdout


@pytest.mark.parametrize("cls", FIELDS, ids=lambda cls: cls.__name__)
def test_fields(cls: Any) -> None:
    assert [field.name for field in dataclasses.fields(cls)] == FIELDS[cls]


@pytest.mark.parametrize("cls", NAMED, ids=lambda cls: cls.__name__)
def test_named_fields(cls: Any) -> None:
    assert {field.name for field in dataclasses.fields(cls)} >= NAMED[cls]


@pytest.mark.parametrize("run", SIGNATURES, ids=lambda run: run.__qualname__)
def test_signatures(run: Callable[..., Any]) -> None:
    assert shown(run) == SIGNATURES[run]


def test_search_takes_a_query_and_dates() -> None:
    assert {"query", "start", "end", "page"} <= set(inspect.signature(Recall.search).parameters)
    assert {"query", "page"} <= set(inspect.signature(Archival.search).parameters)


def test_the_error_tree() -> None:
    for name in ERRORS:
        assert getattr(localmem, name).__mro__[1] is localmem.LocalmemError
    assert localmem.LocalmemError.__mro__[1] is Exception
    assert localmem.FunctionError.__mro__[1] is Exception, "the model acts on it, no operator needs to catch it"


def test_the_example_of_the_design(home: Path) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    answers = [
        call("core_memory_append", "A new fact.", block="human", content="Name: Ada."),
        say("Hello Ada!"),
        call("add", a=2, b=3),
        say("Ada; and 5."),
    ]
    with scripted(home, answers, functions=[add], persona="I am Mem.", human="The user likes cats.") as agent:
        events = list(agent.send("My name is Ada."))
        assert all(isinstance(event, localmem.Event) for event in events)
        assert [str(event.kind) for event in events] == [
            "user_message",
            "thought",
            "function_call",
            "function_result",
            "function_call",
            "assistant_message",
        ]
        assert [event.id for event in events] == sorted(event.id for event in events)
        assert agent.reply("What is my name?") == "Ada; and 5."
        assert agent.core["human"].value == "The user likes cats.\nName: Ada."
        page = agent.recall.search("name")
        assert (page.total, page.page, page.pages) == (2, 1, 1)
        assert {hit.text for hit in page.hits} == {"My name is Ada.", "What is my name?"}
        assert page.hits[0].source in [event.id for event in agent.store.path()]
        agent.archival.insert("Lisbon is on the Tagus.")
        assert agent.archival.search("Tagus").total == 1
        report = agent.context.report()
        assert {"segments", "pressure", "prefix_hit"} <= set(report)


def test_a_generation_says_what_it_did(tiny_model_path: Path) -> None:
    engine = localmem.load_engine(str(tiny_model_path), n_ctx=512)
    try:
        schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
        schema["additionalProperties"] = False  # type: ignore[assignment]
        grammar = localmem.compile_grammar(schema, backend="llguidance")
        done = engine.generate("Say:", constraint=grammar, max_tokens=32, temperature=0.7, seed=1)
        again = engine.generate("Say:", constraint=grammar, max_tokens=32, temperature=0.7, seed=1)
    finally:
        engine.close()
    assert isinstance(done, localmem.Generation)
    assert done.text in ('{"a": true}', '{"a": false}')
    assert (done.finish, done.closed_by, done.closed_paths) == ("stop", None, ())
    assert (again.text, again.tokens) == (done.text, done.tokens)
    assert again.reused_tokens == again.prompt_tokens - 1
    assert 0 < done.forced_tokens < len(done.tokens)
    with pytest.raises(localmem.GrammarError, match="backend"):
        localmem.compile_grammar({"type": "null"}, backend="none")  # type: ignore[arg-type]
