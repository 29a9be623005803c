"""Grammars run by outlines_core, for what is regular. The only importer of outlines and outlines_core.

outlines_core turns a regular expression into a table: for every state of an automaton, the tokens allowed there and the
states that they lead to. Stepping is a look-up; building costs time and memory by states times tokens, so it is done
once for an expression and a vocabulary, in a process of its own that is ended when it takes too much of either.

JSON Schemas do not go through outlines_core's own `build_regex_from_schema`: it silently ignores keywords (minimum,
maximum, multipleOf, uniqueItems) and writes another layout. They become rules (`json_rules`) and then an expression
(`regex_rules`), so that layout and closing are those of the other backends, and what is not enforced is refused.

Two traps of outlines_core are met in how an expression is framed, as `S(?:...)\\z` with the reserved code point S that
nothing inside matches. It takes the first alternative that matches, so that `a|ab` would never give "ab": with \\z it
has to match to the end. And its automaton may also begin in the middle of a text, which takes 2^n states for
`[a-z][a-z0-9]{0,n}`: nothing but S begins a match. The token of S is a made-up one, taken before the first real one.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from outlines_core import Guide, Index
from outlines_core import Vocabulary as Tokens

from localmem.grammar.building import build
from localmem.grammar.json_rules import json_rules
from localmem.grammar.plans import Plan, plan_for
from localmem.grammar.regex_rules import regex_of
from localmem.grammar.regex_syntax import RESERVED, matched_whole
from localmem.grammar.rules import Alt, Rules, Text
from localmem.grammar.sources import Choice, Json, Regex
from localmem.protocols import End, Vocabulary

#: The largest automaton, as `regex_rules.states` estimates it. 3,962 states, a string of up to 180 characters, took 2 s
#: and 320 MB with 49,000 tokens.
MOST_STATES = 4096

#: Tables kept for a vocabulary, in bytes as they come from the process that built them; the newest is always kept.
KEPT_BYTES = 128 << 20

_LONGEST_FORCED = 4096


def term_pattern(term: Any) -> str:
    """The regular expression of a term of outlines' regex language."""
    from outlines.types.dsl import to_regex

    return str(to_regex(term))


class OutlinesGrammar:
    """What is regular, for outlines_core.

    Raises GrammarError if `source` is not regular, cannot be enforced, or would be too large; a free regular expression
    can only be found too large when it is bound. U+10FFFF, which is reserved never to be a character, is never allowed.
    """

    def __init__(self, source: Json | Regex | Choice) -> None:
        self.source = source
        self._regex = f"{RESERVED}(?:{_regex(source)})\\z"
        self._plan = plan_for(source)

    def bind(self, vocabulary: Vocabulary) -> OutlinesMatcher:
        if vocabulary not in _lexicons:
            _lexicons[vocabulary] = _Lexicon(vocabulary)
        lexicon = _lexicons[vocabulary]
        return OutlinesMatcher(lexicon.automaton(self._regex), self._plan, vocabulary)


def _regex(source: Json | Regex | Choice) -> str:
    match source:
        case Regex(pattern):
            return matched_whole(pattern)
        case Choice(texts):
            rules = Rules({"root": Alt(tuple(map(Text, texts)))})
        case Json(schema):
            rules = json_rules(schema)
    return regex_of(rules, most_states=MOST_STATES)


class _Lexicon:
    """A vocabulary as outlines_core wants it, and the automata built for it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.size = vocabulary.size
        self.ends = sorted(vocabulary.end_tokens)
        # Two made-up tokens: what begins every text, and what stands for all end tokens (outlines_core knows one).
        self.begin, self.end = self.size, self.size + 1
        ids: dict[bytes, list[int]] = {RESERVED.encode(): [self.begin]}
        for token in range(self.size):
            if token not in vocabulary.control_tokens and token not in vocabulary.end_tokens:
                ids.setdefault(vocabulary.token_bytes(token), []).append(token)
        ids.pop(b"", None)
        # A token for each first byte, by which to follow what must come next; none at all if one lacks it.
        firsts = {token[0] for token in ids if token != RESERVED.encode()}
        whole = all(bytes([byte]) in ids for byte in firsts)
        self.bytes = {byte: ids[bytes([byte])][0] for byte in firsts} if whole else {}
        self._tokens = Tokens(self.end, ids)
        self._kept: OrderedDict[str, tuple[_Automaton, int]] = OrderedDict()

    def automaton(self, regex: str) -> _Automaton:
        if regex not in self._kept:
            index, size = build(regex, self._tokens)
            self._kept[regex] = _Automaton(index, self), size
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(regex)
        return self._kept[regex][0]


_lexicons: weakref.WeakKeyDictionary[Vocabulary, _Lexicon] = weakref.WeakKeyDictionary()


class _Automaton:
    """A table, and what was found out about its states. Shared by all matchers of one expression."""

    def __init__(self, index: Index, lexicon: _Lexicon) -> None:
        self.index = index
        self.size, self.ends = lexicon.size, lexicon.ends
        self.begin, self.end = lexicon.begin, lexicon.end
        #: The one token that is allowed in a state; None where there is a choice.
        self.only: dict[int, int | None] = {}
        self._bytes = lexicon.bytes
        self._forced: dict[int, list[int]] = {}

    def forced(self, state: int, vocabulary: Vocabulary) -> list[int]:
        """The tokens of the text that must come next, as the vocabulary cuts it.

        But for its last one: that may be a part of a longer token, together with what is chosen after it.
        """
        if state not in self._forced:
            data, ended = self._forced_bytes(state)
            text = data.decode("utf-8", "ignore")  # half a character at the end is left to be chosen
            tokens = vocabulary.tokenize(text) if data.startswith(text.encode()) else []
            exact = b"".join(map(vocabulary.token_bytes, tokens)) == text.encode()
            self._forced[state] = (tokens if ended else tokens[:-1]) if exact else []
        return self._forced[state]

    def _forced_bytes(self, state: int) -> tuple[bytes, bool]:
        """The bytes that must come next, and whether the text ends with them."""
        data = bytearray()
        while len(data) < _LONGEST_FORCED and self._bytes:
            steps = [(byte, self.index.get_next_state(state, token)) for byte, token in self._bytes.items()]
            steps = [step for step in steps if step[1] is not None]
            final = self.index.is_final_state(state)
            if final or len(steps) != 1:
                return bytes(data), final and not steps
            data.append(steps[0][0])
            state = steps[0][1]
        return bytes(data), False


class OutlinesMatcher:
    """One generation's place in a grammar."""

    def __init__(self, automaton: _Automaton, plan: Plan, vocabulary: Vocabulary) -> None:
        self._automaton = automaton
        self._vocabulary = vocabulary
        self._guide = Guide(automaton.index)
        self._guide.advance(automaton.begin, return_tokens=False)
        self._bits = np.zeros((automaton.end + 32) // 32, dtype=np.int32)
        self._ended = False
        self._plan = plan
        self.end_bound = plan.bound()

    def forced(self) -> list[int]:
        if self._ended:
            return []
        forced = self._automaton.forced(self._guide.get_state(), self._vocabulary)
        only = self._only()
        return list(forced) if forced or only is None or only == self._automaton.end else [only]

    def accept(self, token: int) -> bool:
        if self._ended:
            return False
        if token in self._automaton.ends:
            self._ended = self.can_stop
            return self._ended
        try:
            self._guide.advance(token, return_tokens=False)
        except ValueError:
            return False
        return True

    def mask(self) -> NDArray[np.bool_]:
        allowed = self._allowed()[: self._automaton.size]
        if self.can_stop:
            allowed[self._automaton.ends] = True
        return allowed

    def _allowed(self) -> NDArray[np.bool_]:
        """The mask of outlines_core, with the made-up tokens in it."""
        self._guide.write_mask_into(self._bits.ctypes.data, self._bits.size, self._bits.itemsize)
        bits = np.unpackbits(self._bits.view(np.uint8), count=self._automaton.end + 1, bitorder="little")
        return bits.view(np.bool_)

    def _only(self) -> int | None:
        state, known = self._guide.get_state(), self._automaton.only
        if state not in known:
            allowed = np.flatnonzero(self._allowed())
            known[state] = int(allowed[0]) if len(allowed) == 1 else None
        return known[state]

    @property
    def complete(self) -> bool:
        return self._ended or self._only() == self._automaton.end

    @property
    def can_stop(self) -> bool:
        return self._ended or bool(self._guide.is_finished())

    def end(self, text: str) -> End | None:
        return self._plan.end(text)
