"""What a model that quotes may store and seek: sentences of the message that it answers. Pure.

Small models miscopy names and add what nobody said. To quote, a model only has to point at what it means.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from localmem.grammar.schema import NO_TEXT
from localmem.memory.keywords import STOP_WORDS, UNSPACED

#: Between two sentences of a line: white space behind a full stop and the like; none in scripts that write none.
_BETWEEN = re.compile(r"(?<=[.!?…؟।])\s+|(?<=[.!?…؟।][\"')\]»”’])\s+|(?<=[。！？])\s*")
_BLANK = re.compile(r"[\x00-\x20\x7f-\x9f]+")
_LETTER = re.compile(r"\w")
_WORD = re.compile(r"\w+")
#: A full stop that ends no sentence: of an initial, or of what is written before a name or a number.
_ABBREVIATED = re.compile(r"\(?(?:[^\W\d_]|[MDJS]r|Mrs|Ms|Mx|Prof|Rev|St|No|vs|ca|approx|e\.g|i\.e)\.", re.IGNORECASE)

#: Begins, in English, a sentence that is mostly about what the one before it names. "IT" may be a trade.
_REFERS = re.compile(
    r"(?:(?:and|but|so)\s+)?(?-i:(?!IT\b))(?:(?:he|she|it|that)[’']?s|he|she|it|they|his|her|their)\b", re.IGNORECASE
)

#: Marks that end a sentence or a part of one, and pairs of marks that stand around words.
_STOPS = ".,;:!?…"
_PAIRS = ("()", "[]", "{}", "<>", '""', "''", "``", "“”", "‘’", "«»", "»«", "„“", "„”", "‚‘", "‹›")
_CLOSING = {pair[0]: "".join(other[1] for other in _PAIRS if other[0] == pair[0]) for pair in _PAIRS}
_OPENING = {pair[1]: "".join(other[0] for other in _PAIRS if other[1] == pair[1]) for pair in _PAIRS}

#: Sentences that one call may store.
MOST_LINES = 3

_LEAST_WORD, _STEM = 3, 5  # characters
_LONGEST = 160  # characters of one sentence; a longer one is taken in parts
_LONGEST_PASSAGE = 240
_MOST_NEIGHBOURS = 3
_MOST_WORDS, _LONGEST_PHRASE = 60, 12  # words
_MOST = 8  # sentences; of a longer message the last ones, where people come to the point

#: How much each of some texts is alike to a text in meaning, by the cosine of their vectors; None if nobody knows yet.
Likeness = Callable[[str, Sequence[str]], Sequence[float] | NDArray[np.float32] | None]


def unknown(text: str, others: Sequence[str]) -> None:
    """The Likeness of who has no embedder."""


def whole(message: str) -> str:
    """All of `message`, without control characters but the newline, as no call has others."""
    return NO_TEXT.sub(" ", message.replace("\r\n", "\n")).strip()


def sentences(message: str) -> list[str]:
    """The sentences of `message`, each once and on one line, with those that refer to it; the last eight of more."""
    found = [sentence for line in message.splitlines() for sentence in _of_line(line)]
    return list(dict.fromkeys(found))[-_MOST:]


def _of_line(line: str) -> Iterator[str]:
    """The sentences of a line. An exclamation of one word goes with what follows it, the last with what is before; a
    sentence that refers to the one before it goes with that, as far as one sentence may be long."""
    waiting = last = ""
    for part in filter(_LETTER.search, _BETWEEN.split(line)):
        waiting = f"{waiting} {_BLANK.sub(' ', part)}".strip()
        if len(waiting) <= _LONGEST and not _stands_alone(waiting):
            continue
        refers = _REFERS.match(waiting) or _REFERS.match(part)
        if refers and last and len(last) + len(waiting) < _LONGEST:
            last = f"{last} {waiting}"
        else:
            yield from textwrap.wrap(last, _LONGEST, break_on_hyphens=False)
            last = waiting
        waiting = ""
    if _stands_alone(last) and len(last) + len(waiting) < _LONGEST:
        waiting, last = f"{last} {waiting}".strip(), ""
    for rest in (last, waiting):
        if _LETTER.search(rest):
            yield from textwrap.wrap(rest, _LONGEST, break_on_hyphens=False)


def _stands_alone(text: str) -> bool:
    words = [word for word in text.split() if _LETTER.search(word)]
    if len(words) < 2:
        return any(len(run) >= _LEAST_WORD for run in UNSPACED.findall(text))
    return not _ABBREVIATED.fullmatch(words[-1])


def akin(lines: Sequence[str], message: str) -> list[str]:
    """Those of `lines` that have a word in common with `message`; all of them if none has.

    Of 169 corrections in composed conversations, the line meant is among these in 163, and alone in 112.
    """
    said = _content_words(message)
    found = [line for line in lines if any(_same(word, other) for word in _content_words(line) for other in said)]
    return found or list(lines)


def _content_words(text: str) -> set[str]:
    words = (word.casefold() for word in _WORD.findall(text))
    return {word for word in words if len(word) >= _LEAST_WORD and word not in STOP_WORDS}


def _same(one: str, other: str) -> bool:
    """Whether two words are equal, or so alike at their beginnings that one may be a form of the other."""
    return one == other or (min(len(one), len(other)) >= _STEM and one[:_STEM] == other[:_STEM])


def nearest(texts: Sequence[str], alike: Sequence[float] | NDArray[np.float32], within: float) -> list[str]:
    """Those of `texts` that are as much `alike` to the message as the most alike of them, or by so much less.

    Of 103 corrections in composed conversations, the line meant is among these in 102 at 0.1, and 1.1 lines are left.
    """
    least = max(alike, default=0.0) - within
    return [text for text, cosine in zip(texts, alike, strict=True) if cosine >= least]


def phrases(message: str) -> list[str]:
    """What a function may be given out of `message`: up to twelve neighbouring words, without the marks around them.

    Its sentences and the whole of it too; of a long message the last words. Words in brackets or in quotation marks are
    there with these and without. None in scripts without spaces.
    """
    message = whole(message)
    if UNSPACED.search(message):
        return []
    words = message.split()[-_MOST_WORDS:]
    ends = ((start, end) for start in range(len(words)) for end in range(start + 1, start + 1 + _LONGEST_PHRASE))
    runs = [" ".join(words[start:end]) for start, end in ends if end <= len(words)]
    larger = [*sentences(message), message]
    bare = [each for run in (*runs, *larger) for each in _bare(run)]
    owners = [each[:-2] for each in bare if each.endswith(("'s", "’s"))]
    return [each for each in dict.fromkeys([*bare, *owners, *larger]) if _LETTER.search(each)]


def _bare(run: str) -> Iterator[str]:
    """A run of words without stops and half pairs at its ends; in a whole pair also without that."""
    run = run.rstrip(_STOPS).lstrip("¿¡")
    if run[:1] in _CLOSING and not set(_CLOSING[run[0]]) & set(run[1:]):
        run = run[1:]
    if run[-1:] in _OPENING and not set(_OPENING[run[-1]]) & set(run[:-1]):
        run = run[:-1].rstrip(_STOPS)
    yield run
    if run[:1] + run[-1:] in _PAIRS:
        yield run[1:-1].rstrip(_STOPS)


def passages(quotable: Sequence[str]) -> list[str]:
    """What a search may be for: one of the sentences, or up to three neighbours."""
    return list(dict.fromkeys(passage for passage in _runs(quotable) if len(passage) <= _LONGEST_PASSAGE))


def _runs(quotable: Sequence[str]) -> Iterator[str]:
    for length in range(1, _MOST_NEIGHBOURS + 1):
        for start in range(len(quotable) - length + 1):
            yield " ".join(quotable[start : start + length])


def selections(quotable: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """What may be stored: up to three of the sentences, a line each, in their order."""
    for count in range(1, MOST_LINES + 1):
        yield from combinations(quotable, count)


def contents(sizes: Mapping[str, int], room: int, tokens: int) -> list[str]:
    """The selections of sentences, given with the tokens that each takes as a line, in so much room."""
    fitting = (each for each in selections(list(sizes)) if sum(map(sizes.__getitem__, each)) <= tokens)
    return [content for content in map("\n".join, fitting) if len(content) <= room]
