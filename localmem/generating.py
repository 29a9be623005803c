"""One constrained generation on the agent's main context: grammar, budget, streaming, meter. Commits nothing."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from localmem.context import MainContext
from localmem.errors import GrammarError
from localmem.events import FunctionCall, Kind
from localmem.grammar.call_text import JSON, read_call
from localmem.grammar.calls import Spoken, call_grammar
from localmem.grammar.schema import Schema
from localmem.grammar.streaming import CallStream
from localmem.memory.indexing import Indexer
from localmem.protocols import CallFormat, Engine, Generation, Grammar

#: Gets a kind (THOUGHT or ASSISTANT) and the next piece of its text while it is generated: provisional.
OnText = Callable[[Kind, str], None]

_LONGEST_THOUGHT = 200
_TOKENS_A_CHARACTER = 3  # at worst, nearly: a Chinese one in a vocabulary that has only its bytes
_AFTER_THOUGHT = 96
_GRAMMARS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Speech:
    """How an agent's model writes calls: the format, and the tokens that it may think before one where it thinks.

    `thinking_tokens` None is half of the room of a call.
    """

    format: CallFormat = JSON
    thinking_tokens: int | None = None


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

    def __init__(self, engine: Engine, context: MainContext, indexer: Indexer, speech: Speech | None = None) -> None:
        self.engine = engine
        self._speech = speech or Speech()
        #: The format in which calls are written, and earlier ones rendered.
        self.format = self._speech.format
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
        grammar = self._grammar(functions, self._spoken(max_tokens, longest_thought))
        show = on_text or (lambda _kind, _text: None)
        stream = CallStream(
            "send_message",
            "message",
            lambda text: show(Kind.THOUGHT, text),
            lambda text: show(Kind.ASSISTANT, text),
            self.format,
        )
        with self._indexer.paused():
            generation = self.engine.generate(
                self.context.prompt(), constraint=grammar, max_tokens=max_tokens, on_text=stream.feed
            )
        self.context.measure(generation)
        if generation.finish == "interrupted":
            return Written(generation, stream.thought, stream.text, None)
        if generation.finish == "length":  # no format and no schema of a function comes to this
            raise GrammarError(f"A call was not finished within {max_tokens} tokens: {generation.text[-80:]!r}.")
        thought, function, arguments = read_call(generation.text, self.format)
        return Written(generation, thought, stream.text, FunctionCall(function, arguments))

    def _spoken(self, max_tokens: int, longest_thought: int) -> Spoken:
        """How much may be thought before a call, so that it has room within `max_tokens`."""
        room = max(0, max_tokens - _AFTER_THOUGHT)
        most = self._speech.thinking_tokens
        thinking = max_tokens // 2 if most is None else most
        if longest_thought < _LONGEST_THOUGHT:
            thinking = min(thinking, longest_thought // _TOKENS_A_CHARACTER)
        return Spoken(self.format, min(longest_thought, room // _TOKENS_A_CHARACTER), min(thinking, room))

    def _grammar(self, functions: Mapping[str, Sequence[Schema]], spoken: Spoken) -> Grammar:
        key = json.dumps([functions, spoken.longest_thought, spoken.thinking_tokens])
        grammar = self._grammars.pop(key, None) or call_grammar(functions, spoken)
        self._grammars[key] = grammar
        while len(self._grammars) > _GRAMMARS_KEPT:
            self._grammars.popitem(last=False)
        return grammar

    def message_tokens(self, written: Written) -> tuple[int, ...]:
        """A generation as the message that it became: as generated, never tokenized again."""
        chat = self.engine.chat_format
        return (*chat.opening, *written.generation.tokens, *chat.ending)
