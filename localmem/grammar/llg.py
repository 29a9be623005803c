"""Grammars run by llguidance, the default backend. The only importer of llguidance.

llguidance works on bytes and on a model's list of token bytes; it tells which tokens are forced, validates a sampled
token in microseconds and computes a mask in well under a millisecond. Building its tokenizer takes up to a second for a
large vocabulary, so that is done once a vocabulary.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from localmem.errors import GrammarError
from localmem.grammar.closing import Closing
from localmem.protocols import End, Vocabulary

_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_tokenizers: weakref.WeakKeyDictionary[Vocabulary, LLTokenizer] = weakref.WeakKeyDictionary()


class _Tokens:
    """A vocabulary as llguidance's TokenizerWrapper wants it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = min(vocabulary.end_tokens)
        self.bos_token_id = None
        self.special_token_ids = sorted(vocabulary.control_tokens)
        self.tokens = [vocabulary.token_bytes(t) for t in range(vocabulary.size)]
        # Weak, for the vocabulary is the key that this value hangs on.
        self._vocabulary = weakref.ref(vocabulary)

    def __call__(self, text: bytes | str) -> list[int]:
        vocabulary = self._vocabulary()
        assert vocabulary is not None, "a matcher does not outlive its vocabulary"
        return vocabulary.tokenize(text if isinstance(text, str) else text.decode("utf-8"))


def _tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    if vocabulary not in _tokenizers:
        wrapper = TokenizerWrapper(_Tokens(vocabulary))
        _tokenizers[vocabulary] = LLTokenizer(
            wrapper, n_vocab=vocabulary.size, eos_token=sorted(vocabulary.end_tokens), slices=LLTokenizer.json_slices()
        )
    return _tokenizers[vocabulary]


@lru_cache(maxsize=32)
def _checked(schema: str) -> str:
    """llguidance's form of a schema, if all of it can be enforced. Cached: most steps offer what the last one did."""
    try:
        source = str(LLMatcher.grammar_from_json_schema(schema, overrides=_LAYOUT))
    except ValueError as error:
        raise GrammarError(f"This is not a JSON Schema: {error}.") from error
    failed, messages = LLMatcher.validate_grammar_with_warnings(source)
    if failed or messages:  # a warning means that a keyword was ignored: weaker than what was asked for
        raise GrammarError(f"This schema cannot be enforced: {' '.join(messages[0].split())}")
    return source


class LLGuidanceGrammar:
    """A JSON Schema for llguidance. Raises GrammarError if it cannot be enforced."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        try:
            self._source = _checked(json.dumps(schema))
        except TypeError as error:
            raise GrammarError(f"This is not a JSON Schema: {error}.") from error
        self._closing = Closing(schema)

    def bind(self, vocabulary: Vocabulary) -> LLGuidanceMatcher:
        return LLGuidanceMatcher(_tokenizer(vocabulary), self._source, self._closing, vocabulary.size)


class LLGuidanceMatcher:
    """One generation's place in a grammar."""

    def __init__(self, tokenizer: LLTokenizer, source: str, closing: Closing, size: int) -> None:
        self._matcher = LLMatcher(tokenizer, source, log_level=0)
        self._closing = closing
        self._size = size
        self.end_bound = closing.bound()

    def forced(self) -> list[int]:
        return list(self._matcher.compute_ff_tokens())

    def accept(self, token: int) -> bool:
        return bool(self._matcher.try_consume_tokens([token]) == 1)

    def mask(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise GrammarError(f"The grammar engine gave up: {self._matcher.get_error()}. Use a simpler schema.")
        return np.unpackbits(bits, count=self._size, bitorder="little").view(np.bool_)

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_stopped())

    @property
    def can_stop(self) -> bool:
        return bool(self._matcher.is_accepting())

    def end(self, text: str) -> End | None:
        return self._closing.end(text)
