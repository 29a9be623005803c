"""One constrained generation on the agent's main context: grammar, budget, streaming, meter. Commits nothing."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localmem.context import MainContext
from localmem.events import FunctionCall, Kind
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import Schema, call_schema
from localmem.grammar.streaming import CallStream
from localmem.memory.indexing import Indexer
from localmem.protocols import Engine, Generation, Grammar

#: Gets a kind (THOUGHT or ASSISTANT) and the next piece of its text while it is generated: provisional.
OnText = Callable[[Kind, str], None]

_LONGEST_THOUGHT = 200
_TOKENS_A_CHARACTER = 3  # at worst, nearly: a Chinese one in a vocabulary that has only its bytes
_AFTER_THOUGHT = 96
_GRAMMARS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Written:
    """A call as generated. `call` is None where the generation was interrupted before it was whole."""

    generation: Generation
    thought: str
    message: str
    call: FunctionCall | None

    @property
    def cuts(self) -> frozenset[str]:
        """The JSON paths, but for the thought's, of what the budget ended or chose in the model's place."""
        return frozenset(self.generation.closed_paths) - {"$.thought"}


class Caller:
    """Lets the model write calls."""

    def __init__(self, engine: Engine, context: MainContext, indexer: Indexer) -> None:
        self.engine = engine
        self.context = context
        self._indexer = indexer
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()

    def write(
        self,
        functions: Mapping[str, Sequence[Schema]],
        *,
        max_tokens: int,
        longest_thought: int = _LONGEST_THOUGHT,
        on_text: OnText | None = None,
    ) -> Written:
        """One call of one of `functions`, each given with the argument objects that it takes now.

        However it is written, a thought leaves the call itself room within `max_tokens`.
        """
        room = max(0, max_tokens - _AFTER_THOUGHT) // _TOKENS_A_CHARACTER
        grammar = self._grammar(call_schema(functions, longest_thought=min(longest_thought, room)))
        show = on_text or (lambda _kind, _text: None)
        stream = CallStream(
            "send_message",
            "message",
            lambda text: show(Kind.THOUGHT, text),
            lambda text: show(Kind.ASSISTANT, text),
        )
        with self._indexer.paused():
            generation = self.engine.generate(
                self.context.prompt(), constraint=grammar, max_tokens=max_tokens, on_text=stream.feed
            )
        self.context.measure(generation)
        if generation.finish == "interrupted":
            return Written(generation, stream.thought, stream.text, None)
        document: dict[str, Any] = json.loads(generation.text)
        call = FunctionCall(document["function"], document["arguments"])
        return Written(generation, document["thought"], stream.text, call)

    def _grammar(self, schema: Schema) -> Grammar:
        key = json.dumps(schema)
        grammar = self._grammars.pop(key, None) or compile_grammar(schema)
        self._grammars[key] = grammar
        while len(self._grammars) > _GRAMMARS_KEPT:
            self._grammars.popitem(last=False)
        return grammar

    def message_tokens(self, written: Written) -> tuple[int, ...]:
        """A generation as the message that it became: as generated, never tokenized again."""
        chat = self.engine.chat_format
        return (*chat.opening, *written.generation.tokens, *chat.ending)
