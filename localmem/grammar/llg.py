"""Grammars run by llguidance, the default backend. The only importer of llguidance.

llguidance works on bytes and on a model's list of token bytes; it tells which tokens are forced, validates a sampled
token in microseconds and computes a mask in well under a millisecond. Building its tokenizer takes up to a second for a
large vocabulary, so that is done once a vocabulary. A grammar is parsed once for each vocabulary, within llguidance's
limits of work and size; each generation gets a copy, which knows what earlier ones have found out.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from localmem.errors import GrammarError
from localmem.grammar.enforced import has_other_keys, refuse_unenforced, subschemas
from localmem.grammar.formats import exact_formats
from localmem.grammar.plans import Plan, plan_for
from localmem.grammar.sources import Cfg, Choice, Json, Regex
from localmem.protocols import End, Vocabulary

_LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
    "coerce_one_of": False,
}
#: What llguidance says, and the keyword that it says it of.
_CAUSES = (
    ("format", "format"), ("oneOf", "oneOf"), ("patternProperty", "patternProperties"), ("regex", "pattern"),
    ("Properties", "minProperties"), ("Properties", "maxProperties"), ("intersection", "allOf"),
    ("unclosed", "pattern"), ("look", "pattern"), ("backref", "pattern"), ("Resource", "$ref"), ("ref", "$ref"),
)  # fmt: skip
_ESCAPES = 'nrbtf\\"'
_NUMBERED = re.compile(r"\\u00(?:[01]|7f|[89])")
_OTHER_ESCAPES = re.compile(r"\\(?:u00(?:[01]|7f|[89])|[bfrt])")
_PLAIN_ESCAPES = 'n\\"'
_LIMITS = LLParserLimits()  # llguidance's own: work to compile, work a step, and states
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


def _source_text(source: Json | Regex | Choice | Cfg) -> str:
    match source:
        case Json(plain=plain):
            return _json_source(source.text(), plain)
        case Regex(pattern=pattern):
            return _valid(str(LLMatcher.grammar_from_regex(pattern)), "This regular expression")
        case Choice(texts=texts):
            return _valid(str(LLMatcher.grammar_from_regex("|".join(map(_literal, texts)))), "This choice")
        case Cfg(lark=lark):
            return _valid(str(LLMatcher.grammar_from_lark(lark)), "This grammar")


def _literal(text: str) -> str:
    """A regular expression for exactly this text."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


@lru_cache(maxsize=32)
def _json_source(schema: str, plain: bool) -> str:
    """llguidance's form of a schema, if all of it can be enforced. Cached: most steps offer what the last one did."""
    try:
        parsed = json.loads(schema)
        refuse_unenforced(parsed)
        exact = exact_formats(parsed)
        source = _json_grammar(json.dumps(exact), plain)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"This is not a JSON Schema: {error}.") from error
    cause = _cause(source)
    if cause is None:
        return source
    path = _blame(exact, cause)
    where = f" at {path}" if path != "$" else ""
    raise GrammarError(f"This schema cannot be enforced{where}: {cause}.", path)


def _json_grammar(schema: str, plain: bool = False) -> str:
    # A constant may hold what only other escapes can write.
    escapes = _PLAIN_ESCAPES if plain and not _OTHER_ESCAPES.search(schema) else _escapes(schema)
    layout = {**_LAYOUT, "json_allowed_escapes": escapes}
    return str(LLMatcher.grammar_from_json_schema(schema, overrides=layout))


def _escapes(schema: str) -> str:
    """The letters of the escapes that may be written.

    Where keys that no property names may have other values, none is written by number: llguidance would take
    "\\u0061" for another key than "a".
    """
    if not has_other_keys(json.loads(schema)):
        return _ESCAPES + "u"
    if _NUMBERED.search(schema):
        raise GrammarError(
            "A text of this schema has a control character, which objects with keys of any name rule out; "
            'add "additionalProperties": false to its objects.'
        )
    return _ESCAPES


def _valid(source: str, what: str) -> str:
    cause = _cause(source)
    if cause is not None:
        raise GrammarError(f"{what} cannot be enforced: {cause}.")
    return source


def _cause(source: str) -> str | None:
    """Why a grammar cannot be used; None if it can. A warning means that something was ignored: weaker than asked."""
    failed, messages = LLMatcher.validate_grammar_with_warnings(source, limits=_LIMITS)
    if not failed and not messages:
        return None
    lines = [line for line in str(messages[0]).splitlines() if line.strip(" ^|")]
    errors = [line for line in lines if line.startswith("error: ")]
    return " ".join((errors or lines)[0].split()).removeprefix("error: ").rstrip(".")


def _blame(root: Mapping[str, Any], cause: str) -> str:
    """The path of the innermost part of a schema that cannot be enforced on its own, and of the keyword in it."""
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root}

    def fails(part: Any) -> bool:
        alone = {**shared, **part} if isinstance(part, Mapping) else part
        try:
            return _cause(_json_grammar(json.dumps(alone))) is not None
        except ValueError:
            return True

    part, path = root, "$"
    while True:
        inner = next(((p, key) for p, key in subschemas(part) if isinstance(p, Mapping) and fails(p)), None)
        if inner is None:
            words = (word for said, word in _CAUSES if said in cause and word in part)
            return path + next((f".{word}" for word in words), "")
        part, path = inner[0], path + inner[1]


class LLGuidanceGrammar:
    """A source for llguidance. Raises GrammarError if it cannot be enforced exactly."""

    def __init__(self, source: Json | Regex | Choice | Cfg) -> None:
        self.source = source
        self._text = _source_text(source)
        self._plan = plan_for(source)
        self._parsed: weakref.WeakKeyDictionary[Vocabulary, LLMatcher] = weakref.WeakKeyDictionary()

    def bind(self, vocabulary: Vocabulary) -> LLGuidanceMatcher:
        if vocabulary not in self._parsed:
            self._parsed[vocabulary] = LLMatcher(_tokenizer(vocabulary), self._text, log_level=0, limits=_LIMITS)
        return LLGuidanceMatcher(self._parsed[vocabulary].deep_copy(), self._plan, vocabulary.size)


class LLGuidanceMatcher:
    """One generation's place in a grammar."""

    def __init__(self, matcher: LLMatcher, plan: Plan, size: int) -> None:
        self._matcher = matcher
        self._plan = plan
        self._size = size
        self.end_bound = plan.bound()

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
        return self._plan.end(text)
