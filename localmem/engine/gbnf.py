"""llama.cpp's own matcher of GBNF grammars, as token rules that cannot take the process down.

llama.cpp aborts when it accepts what its grammar does not allow, takes control tokens for the text of their names, and
follows bytes that are no UTF-8; so a token is accepted only after it was verified, is never a control token, and keeps
the text valid. Sample first and verify one token: microseconds. A mask over the vocabulary takes some ten milliseconds.

Knows nothing of where grammars come from.
"""

from __future__ import annotations

import codecs
import ctypes
import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from localmem.engine.llama_log import captured_log
from localmem.errors import GrammarError

if TYPE_CHECKING:
    from localmem.engine.vocabulary import LlamaVocabulary

_PARSED_KEPT = 8
_FEW_LETTERS = 12
_ENTRY = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # as llama_token_data


class _Sampler:
    """llama.cpp's sampler, freed with this object; it may outlive the model, of which it holds nothing."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        weakref.finalize(self, llama_cpp.llama_sampler_free, pointer)

    def copy(self) -> _Sampler:
        return _Sampler(llama_cpp.llama_sampler_clone(self.pointer))


class _Candidates:
    """Some tokens as llama.cpp's samplers take them. Reused: one generation runs at a time."""

    def __init__(self, tokens: Iterable[int]) -> None:
        self.ids = np.array(sorted(tokens), dtype=np.int32)
        self._entries = np.zeros(len(self.ids), dtype=_ENTRY)
        self._entries["id"] = self.ids
        self._logits = self._entries["logit"]
        data = self._entries.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        self._array = llama_cpp.llama_token_data_array(data, len(self.ids), -1, False)

    def set(self, token: int) -> None:
        """Make `token` the only candidate."""
        self.ids[0] = self._entries["id"][0] = token

    def allowed(self, sampler: _Sampler) -> NDArray[np.int32]:
        """The ids that the sampler's grammar allows next."""
        if not len(self.ids):
            return self.ids
        self._logits.fill(0)
        llama_cpp.llama_sampler_apply(sampler.pointer, ctypes.byref(self._array))
        allowed: NDArray[np.int32] = self.ids[self._logits == 0]
        return allowed


class GbnfParser:
    """Gives out token rules for GBNF texts on one vocabulary. A text is parsed once, and copied after that."""

    def __init__(self, vocabulary: LlamaVocabulary) -> None:
        self.vocabulary = vocabulary
        ends, control = vocabulary.end_tokens, vocabulary.control_tokens
        pieces = {t: vocabulary.token_bytes(t) for t in range(vocabulary.size) if t not in ends | control}
        # A NUL ends a piece for llama.cpp, which would not see what comes after it.
        self.pieces = {t: piece for t, piece in pieces.items() if piece and b"\0" not in piece}
        self.at_start = _Candidates(t for t, piece in self.pieces.items() if unfinished(piece) is not None)
        self.inside = _Candidates(t for t, piece in self.pieces.items() if 0x80 <= piece[0] < 0xC0)
        self.letters = _Candidates(t for t, piece in self.pieces.items() if len(piece) == 1 and piece[0] < 0x80)
        self._by_letter = self._grouped()
        self.ends = np.array(sorted(ends), dtype=np.int64)
        self._one = _Candidates([0])
        self._parsed: OrderedDict[str, _Sampler] = OrderedDict()

    def _grouped(self) -> dict[int, _Candidates]:
        """The tokens that may begin a character by their first byte, at -1 those that no letter stands for."""
        known = {self.pieces[int(token)][0] for token in self.letters.ids}
        groups: dict[int, list[int]] = {-1: []}
        for token in self.at_start.ids:
            first = self.pieces[int(token)][0]
            groups.setdefault(first if first in known else -1, []).append(int(token))
        return {first: _Candidates(tokens) for first, tokens in groups.items()}

    def starts(self, sampler: _Sampler) -> NDArray[np.int32]:
        """The tokens that the sampler's grammar allows where no character is begun.

        Where only a few letters may come next, as in a literal, only the tokens that begin with them are looked at.
        """
        letters = {self.pieces[int(token)][0] for token in self.letters.allowed(sampler)}
        if len(letters) > _FEW_LETTERS:
            return self.at_start.allowed(sampler)
        return np.concatenate([self._by_letter[first].allowed(sampler) for first in (-1, *sorted(letters))])

    def rules(self, source: str) -> GbnfRules:
        """Token rules at the beginning of a text. Raises GrammarError if `source` is no grammar with a rule root."""
        vocabulary = self.vocabulary.pointer
        if source not in self._parsed:
            self._parsed[source] = _parse(vocabulary, source)
        self._parsed.move_to_end(source)
        if len(self._parsed) > _PARSED_KEPT:
            self._parsed.popitem(last=False)
        return GbnfRules(self, self._parsed[source].copy())

    def allows(self, sampler: _Sampler, token: int) -> bool:
        """Whether the sampler's grammar allows this one token next."""
        self._one.set(token)
        return len(self._one.allowed(sampler)) > 0


class GbnfRules:
    """One generation's place in a grammar. Raises ModelError once the vocabulary's model is closed."""

    def __init__(self, parser: GbnfParser, sampler: _Sampler) -> None:
        self._parser = parser
        self._own = sampler
        self._begun = b""  # the bytes of a character that is not whole yet

    @property
    def _sampler(self) -> _Sampler:
        assert self._parser.vocabulary.pointer is not None  # or it has raised: the grammar reads the vocabulary
        return self._own

    def forced(self) -> list[int]:
        """None are known: llama.cpp does not tell."""
        return []

    def accept(self, token: int) -> bool:
        sampler = self._sampler
        piece = self._parser.pieces.get(token)
        begun = None if piece is None else unfinished(self._begun + piece)
        if begun is None or not self._parser.allows(sampler, token):
            return False
        llama_cpp.llama_sampler_accept(sampler.pointer, token)
        self._begun = begun
        return True

    def mask(self) -> NDArray[np.bool_]:
        mask = np.zeros(self._parser.vocabulary.size, dtype=np.bool_)
        mask[self._texts()] = True
        if self.can_stop:
            mask[self._parser.ends] = True
        return mask

    def _texts(self) -> NDArray[np.int32]:
        """The tokens that are allowed next, ends left out."""
        sampler, parser = self._sampler, self._parser
        if not self._begun:
            return parser.starts(sampler)
        found = parser.inside.allowed(sampler)
        whole = [unfinished(self._begun + parser.pieces[int(token)]) is not None for token in found]
        return found[np.array(whole, dtype=np.bool_)]

    @property
    def can_stop(self) -> bool:
        # Never in the middle of a character: this llama.cpp sees to that itself, by a detail of how it accepts.
        ends = self._parser.ends
        return not self._begun and len(ends) > 0 and self._parser.allows(self._sampler, int(ends[0]))

    @property
    def complete(self) -> bool:
        # Most of what can go on does so with an ASCII character, which is quickly seen.
        return self.can_stop and not len(self._parser.letters.allowed(self._sampler)) and not len(self._texts())


def unfinished(data: bytes) -> bytes | None:
    """The beginning of a character that valid UTF-8 ends with; None if it is not valid."""
    try:
        rest = data[codecs.utf_8_decode(data, "strict", False)[1] :]
    except UnicodeDecodeError:
        return None
    # Python waits for the third byte of half a surrogate pair before it says that there is none.
    return None if rest[:1] == b"\xed" and rest[1:2] >= b"\xa0" else rest


def _parse(vocabulary: Any, source: str) -> _Sampler:
    if not source.strip():
        raise GrammarError("The grammar is empty.")  # llama.cpp would take that for no grammar at all
    if "\0" in source:
        raise GrammarError("The grammar holds a NUL character; write it as \\x00.")
    with captured_log() as log, _captured_stderr() as told:
        pointer = llama_cpp.llama_sampler_init_grammar(vocabulary, source.encode("utf-8", "replace"), b"root")
    if pointer:  # NULL is falsy, but it is not None
        return _Sampler(pointer)
    cause = bytes(told).decode("utf-8", "replace").partition("error parsing grammar: ")[2].partition("\n")[0]
    raise GrammarError(f"llama.cpp cannot read this grammar: {cause.strip()[:200] or log.cause()}.")


@contextmanager
def _captured_stderr() -> Iterator[bytearray]:
    """What C code writes to stderr meanwhile: llama.cpp's parser does not use llama.cpp's log."""
    told = bytearray()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield told
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            told += file.read()
