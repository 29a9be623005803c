"""compile_grammar: what a person gives -> a Grammar of the backend that is to run it, not yet bound to a model.

Knows which backend takes which source, and nothing of how any of them works. A backend is imported when it is wanted.
"""

from __future__ import annotations

from typing import Any, Literal

from localmem.errors import GrammarError
from localmem.grammar.sources import Cfg, Choice, Gbnf, Json, Regex, Source
from localmem.grammar.types import source_of
from localmem.protocols import Grammar

Backend = Literal["llguidance", "gbnf", "outlines"]
BACKENDS: tuple[Backend, ...] = ("llguidance", "gbnf", "outlines")

#: The backends that take a source, the natural one first, and what the source is called.
_TAKEN: dict[type, tuple[str, tuple[Backend, ...]]] = {
    Json: ("A JSON Schema", ("llguidance", "gbnf", "outlines")),
    Regex: ("A regular expression", ("llguidance", "outlines")),
    Choice: ("A choice of texts", ("llguidance", "gbnf", "outlines")),
    Cfg: ("A grammar in Lark's notation", ("llguidance", "outlines")),
    Gbnf: ("A grammar in GBNF", ("gbnf",)),
}


def compile_grammar(schema: Any, *, backend: Backend | None = None) -> Grammar:
    """The constraint that makes a generation a text that `schema` allows, and nothing else.

    `schema` is a JSON Schema (a mapping, or its JSON text), a Pydantic model, a dataclass or another Python type, an
    output type of outlines, or one of `localmem.grammar.sources`. For a schema or a type the text is a JSON document,
    written in one layout: `{"a": 1, "b": [2, 3]}`, keys in the schema's order.

    `backend` runs the grammar; None takes the natural one:

    - "llguidance": all but GBNF. The fastest, and natural for what it takes.
    - "gbnf": llama.cpp's own grammars; a JSON Schema, a choice of texts, and natural for GBNF.
    - "outlines": a regular expression, a choice of texts, or a JSON Schema whose values do not nest without end: one
      that neither refers to itself nor allows any value. A grammar in Lark's notation is not regular; it goes to
      llguidance.

    Raises GrammarError, whose `path` is the JSON path of the cause, for what cannot be enforced exactly, before any
    token is generated.
    """
    if backend is not None and backend not in BACKENDS:
        raise GrammarError(f"There is no grammar backend {backend!r}; use one of: {', '.join(BACKENDS)}.")
    source = source_of(schema)
    what, takers = _TAKEN[type(source)]
    if backend is not None and backend not in takers:
        raise GrammarError(f"{what} is not run by backend {backend}; use backend {' or '.join(takers)}.")
    return _compiled(source, backend or takers[0])


def _compiled(source: Source, backend: Backend) -> Grammar:
    if isinstance(source, Gbnf) or (backend == "gbnf" and isinstance(source, Json | Choice)):
        from localmem.grammar.gbnf import GbnfGrammar

        return GbnfGrammar(source)
    if backend == "outlines" and not isinstance(source, Cfg):
        from localmem.grammar.outlines import OutlinesGrammar

        return OutlinesGrammar(source)
    from localmem.grammar.llg import LLGuidanceGrammar

    return LLGuidanceGrammar(source)
