"""Free text as a part of a grammar: bounded, whole characters only, and never the look-alike of what may follow it.

Works on tokens alone, whatever backend runs the rest: which tokens are plain text is worked out once a vocabulary, and
the few that could end the text, or complete a forbidden one, are looked at one by one. Knows no call format.
"""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from localmem.protocols import End, Vocabulary

_REFUSED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # as in strings of calls: no control character but the newline
_known: weakref.WeakKeyDictionary[Vocabulary, Characters] = weakref.WeakKeyDictionary()


class Characters:
    """The tokens of one vocabulary as text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        control = vocabulary.control_tokens
        self.pieces = [b"" if t in control else vocabulary.token_bytes(t) for t in range(vocabulary.size)]
        #: Tokens that may follow a whole character, how many they add, and those that only go on with one.
        self.plain = np.zeros(vocabulary.size, np.bool_)
        self.lengths = np.zeros(vocabulary.size, np.int32)
        self.going_on: list[int] = []
        self._texts: dict[int, str] = {}
        self._with: dict[str, tuple[list[int], NDArray[np.bool_]]] = {}
        self._ending: dict[str, list[int]] = {}
        for token, piece in enumerate(self.pieces):
            split = _whole(piece)
            if split is None:
                self.going_on.append(token)
            elif piece and not _REFUSED.search(split[0]):
                self._texts[token] = split[0]
                self.lengths[token] = len(split[0]) + split[1]
        self.plain[list(self._texts)] = True

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Characters:
        """Those of `vocabulary`, worked out once."""
        if vocabulary not in _known:
            _known[vocabulary] = cls(vocabulary)
        return _known[vocabulary]

    def having(self, mark: str) -> tuple[list[int], NDArray[np.bool_]]:
        """The tokens in whose text `mark` stands, as a list and as a mask."""
        if mark not in self._with:
            found = [token for token, text in self._texts.items() if mark in text]
            mask = np.zeros(len(self.plain), np.bool_)
            mask[found] = True
            self._with[mark] = (found, mask)
        return self._with[mark]

    def ending(self, mark: str) -> list[int]:
        """The tokens whose text ends with `mark`, which stands nowhere else in it."""
        if mark not in self._ending:
            found = ((token, self._texts[token]) for token in self.having(mark)[0])
            self._ending[mark] = [token for token, text in found if text.index(mark) == len(text) - len(mark)]
        return self._ending[mark]


def _whole(data: bytes) -> tuple[str, bool] | None:
    """The whole characters of `data`, and whether the beginning of one follows; None if it is no text."""
    try:
        return data.decode(), False
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data" or error.end != len(data):
            return None
        return data[: error.start].decode(), True


def begun(text: str, mark: str) -> bool:
    """Whether `text` ends with a beginning of `mark`."""
    return any(text.endswith(mark[:count]) for count in range(1, len(mark)))


@dataclass(frozen=True, eq=False)
class FreeText:
    """At most `longest` characters that the model chooses, in one line unless `lines`, in at most `most_tokens` tokens.

    `ends` is a text that ends it: "always" needed, only if something was "said", or the model "may" leave it out. It
    contains none of `never`, and `not_first` does not begin it. A budget that cuts it names `path`.
    """

    longest: int
    path: str
    shortest: int = 0
    lines: bool = False
    ends: str = ""
    ended: Literal["always", "said", "may"] = "may"
    never: tuple[str, ...] = ()
    not_first: str = ""
    most_tokens: int | None = None

    def begin(self, vocabulary: Vocabulary) -> FreeTextRules:
        return FreeTextRules(self, vocabulary)

    @cached_property
    def least(self) -> End | None:
        return self.end("")

    @property
    def bound(self) -> int:
        return self.shortest + len(self.ends.encode())

    def end(self, text: str) -> End | None:
        """What ends `text`; None if it could not stand here."""
        body, ended = self.split(text)
        if not self.allows(body, ended):
            return None
        if ended:
            return End()
        fill = "." * (self.shortest - len(body))
        needed = self.ended == "always" or (self.ended == "said" and body + fill)
        rest = fill + (self.ends if needed else "")
        return End((rest,) if rest else (), (self.path,))

    def split(self, text: str) -> tuple[str, bool]:
        """`text` without what ends it, and whether that was there."""
        if self.ends and text.endswith(self.ends):
            return text[: len(text) - len(self.ends)], True
        return text, False

    def allows(self, body: str, ended: bool) -> bool:
        """Whether the text may be `body`, or may begin with it if it has not `ended`."""
        if len(body) > self.longest or (ended and (len(body) < self.shortest or not (body or self.ended == "always"))):
            return False
        if (not self.lines and "\n" in body) or (self.ends and self.ends in body) or _REFUSED.search(body):
            return False
        if self.not_first and body.startswith(self.not_first):
            return False
        return not any(mark in body for mark in self.never)


class FreeTextRules:
    """One generation's place in a free text."""

    def __init__(self, part: FreeText, vocabulary: Vocabulary) -> None:
        self._part = part
        self._vocabulary = vocabulary
        self._characters = Characters.of(vocabulary)
        self._data, self._text = b"", ""
        self._count = 0
        #: What the next token is judged by: whether the text has ended, and whether a character is unfinished.
        self._ended = self._unfinished = False
        #: The tokens that are left of what ends the text, once nothing else may come.
        self._ending: list[int] = self._last_tokens()

    def _after(self, token: int) -> tuple[str, bool, bool] | None:
        """The text, whether it has ended and whether a character is unfinished after `token`; None if refused."""
        if self._ending:
            return (self._text, len(self._ending) == 1, False) if token == self._ending[0] else None
        piece = self._characters.pieces[token]
        if not piece or self._ended or (self._spent and not self._unfinished):
            return None
        whole = _whole(self._data + piece)
        if whole is None:
            return None
        text, unfinished = whole
        body, ended = self._part.split(text)
        if unfinished and ended:
            return None
        longer = len(body) + unfinished > self._part.longest
        return None if longer or not self._part.allows(body, ended) else (text, ended, unfinished)

    @property
    def _length(self) -> int:
        return len(self._text)

    @property
    def _spent(self) -> bool:
        """No token of text may be added."""
        most = self._part.most_tokens
        return (most is not None and self._count >= most) or self._length >= self._part.longest

    @property
    def _must_end(self) -> bool:
        """The text cannot stop without what ends it."""
        part = self._part
        needed = part.ended == "always" or (part.ended == "said" and bool(self._data))
        return bool(part.ends) and needed and not self._ended

    def _last_tokens(self) -> list[int]:
        spent = self._spent and self._must_end and not self._unfinished
        return self._vocabulary.tokenize(self._part.ends) if spent else []

    def forced(self) -> list[int]:
        return list(self._ending)

    def accept(self, token: int) -> bool:
        after = self._after(token)
        if after is None:
            return False
        self._text, self._ended, self._unfinished = after
        self._data += self._characters.pieces[token]
        self._count += 1
        self._ending = self._ending[1:] or self._last_tokens()
        return True

    def mask(self) -> NDArray[np.bool_]:
        characters, part = self._characters, self._part
        if self._ending:
            allowed = np.zeros(len(characters.plain), np.bool_)
            allowed[self._ending[0]] = True
            return allowed
        one_by_one: set[int] = set(characters.going_on) if self._unfinished else set()
        may_go_on = not (self._unfinished or self._spent or self._ended)
        room = part.longest - self._length if may_go_on else -1
        allowed = characters.plain & (characters.lengths <= room)
        if not part.lines:
            allowed &= ~characters.having("\n")[1]
        marks = [*([part.ends] if part.ends else []), *part.never]
        if part.not_first and not self._data:
            marks.append(part.not_first)
        for mark in marks:
            # Tokens that could complete it here; else only those that have all of it.
            tokens, having = characters.having(mark[-1] if begun(self._text, mark) else mark)
            allowed &= ~having
            if mark == part.ends == "\n" and may_go_on and self._length > part.shortest:  # hundreds, so all at once
                ending = characters.ending(mark)
                allowed[ending] = characters.lengths[ending] <= room + 1
            else:
                one_by_one.update(tokens)
        for token in one_by_one:
            allowed[token] = self._after(token) is not None
        return allowed

    @property
    def complete(self) -> bool:
        return self._ended or (self._spent and self.can_stop)

    @property
    def can_stop(self) -> bool:
        if self._unfinished or self._must_end:
            return False
        return self._ended or self._length >= self._part.shortest
