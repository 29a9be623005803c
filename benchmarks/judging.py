"""The verdict on one turn: what the model did, beside what is expected of it. Pure; knows no model and no agent.

Texts are compared without regard to case, kinds of apostrophe and line ends. A wanted word stands by itself: "85" is
not in "850". "a|b" wants either, and a "*" at the end of one lets it be inflected ("fenc*" is in "fencing").
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from training.scenario import Expected
from training.searching import content_words
from training.texts import SPLITS, load

#: Functions that store a text, and the argument that holds it.
_STORES = {"core_memory_append": "content", "core_memory_replace": "new_content", "archival_memory_insert": "content"}
_SEARCHES = ("conversation_search", "archival_memory_search")
_BY_DAY = "conversation_search_date"
_LABEL = re.compile(r"^- \[(\S+) ")
_INFLECTED = r"(?:'s|s|e|es|d|ed|er|ers|ing|ly)?"
_ENDINGS = ("ings", "ing", "ies", "ers", "er", "ed", "es", "ly", "s", "e", "y")
_NEGATION = re.compile(
    r"\b(?:no|not|nothing|none|never|neither|nowhere|cannot|unable|without|unknown)\b|n't\b", re.IGNORECASE
)
_LEAST_WORD = 4  # shorter ones without a digit say nothing


@dataclass(frozen=True, slots=True)
class Made:
    """A call that the model made, and its result."""

    function: str
    arguments: Mapping[str, Any]
    result: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was right; None where it was not asked for.

    `choice`: the first function; `functions`: all of them; `stored`: the text holds the fact and nothing invented, in
    the right line's place; `query`: the search is for the right thing; `arguments`: of a user function, or the days.
    The reply contains the `answer`, names its `source`, says that `nothing` was found.
    """

    choice: bool
    functions: bool
    stored: bool | None = None
    query: bool | None = None
    arguments: bool | None = None
    answer: bool | None = None
    source: bool | None = None
    nothing: bool | None = None

    @property
    def quality(self) -> bool | None:
        """All that the arguments of calls had to hold."""
        asked = [part for part in (self.stored, self.query, self.arguments) if part is not None]
        return all(asked) if asked else None

    @property
    def chain(self) -> bool:
        """All that was asked for."""
        said = (self.answer, self.source, self.nothing)
        return self.choice and self.functions and self.quality is not False and False not in said


def judge(
    expected: Expected, message: str, made: Sequence[Made], reply: str | None, known: Iterable[str] = ()
) -> Verdict:
    """The verdict on the answer to `message`; `reply` is None if there was none, `known` are lines of core memory."""
    names = tuple(call.function for call in made)
    good = (expected.functions, *expected.also)
    replied = reply is not None
    first = (names[0] if names else "") if names or replied else None
    said = reply or ""
    return Verdict(
        choice=first in {sequence[0] if sequence else "" for sequence in good},
        functions=replied and names in good,
        stored=_stored(expected, message, made, known) if set(expected.functions) & set(_STORES) else None,
        query=_query(expected, made) if expected.query else None,
        arguments=_arguments(expected, made) if expected.arguments is not None or expected.days else None,
        answer=all(says(value, said) for value in expected.answer) if expected.answer else None,
        source=_source(expected, made, said) if expected.source else None,
        nothing=bool(_NEGATION.search(_folded(said))) if expected.nothing else None,
    )


# -- words


def says(wanted: str, text: str) -> bool:
    """Whether `text` contains one of the alternatives of `wanted`."""
    folded = _folded(text)
    return any(_pattern(part).search(folded) for part in wanted.split("|"))


@cache
def _pattern(wanted: str) -> re.Pattern[str]:
    bare = _folded(wanted.removesuffix("*"))
    before = r"(?<!\w)" if bare[:1].isalnum() else ""
    after = r"(?!\w)" if bare[-1:].isalnum() else ""
    return re.compile(before + re.escape(bare) + (_INFLECTED if wanted.endswith("*") else "") + after)


def _folded(text: str) -> str:
    return " ".join(text.replace("’", "'").casefold().split())


def invented(text: str, sources: Iterable[str]) -> list[str]:
    """The words of `text`, of four letters or with a digit, that are in no source, in whatever inflection."""
    known = {_stem(word) for source in sources for word in _words(source)} | _label_stems()
    return [word for word in _words(text) if _tells(word) and _stem(word) not in known]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", _folded(text))


def _tells(word: str) -> bool:
    return len(word) >= _LEAST_WORD or any(character.isdigit() for character in word)


def _stem(word: str) -> str:
    """A word without its ending, if enough is left."""
    if word.isalpha():
        for ending in _ENDINGS:
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                return word.removesuffix(ending)
    return word


@cache
def _label_stems() -> frozenset[str]:
    """Of the words that stand in a line of core memory whatever it says: those of the templates of all splits."""
    items = (item for split in SPLITS for kind in ("facts", "passing") for item in load(split)[kind])
    literals = (part for item in items for part, _, _, _ in string.Formatter().parse(item.get("line", "")))
    return frozenset(_stem(word) for literal in literals for word in _words(literal))


# -- arguments


def _stored(expected: Expected, message: str, made: Sequence[Made], known: Iterable[str]) -> bool:
    stores = [call for call in made if call.function in _STORES]
    texts = [str(call.arguments.get(_STORES[call.function], "")) for call in stores]
    text = "\n".join(texts)
    if expected.old is not None:
        replaced = [call.arguments.get("old_content") for call in stores if call.function == "core_memory_replace"]
        if replaced != [expected.old]:
            return False
    if expected.old is not None and not expected.fact and not expected.line:  # to be taken out
        return not text.strip()
    if not text.strip() or not all(says(fact, text) for fact in expected.fact):
        return False
    return not invented(text, (message, expected.old or "", expected.line, *known))


def _query(expected: Expected, made: Sequence[Made]) -> bool:
    searches = [call for call in made if call.function in _SEARCHES]
    if expected.found:
        return any(_folded(expected.found) in _folded(call.result) for call in searches)
    good = _topic(" ".join(expected.query).replace("|", " "))
    return any(good & _topic(str(call.arguments.get("query", ""))) for call in searches)


def _topic(query: str) -> set[str]:
    """The stems of the words that say what a query is about; of all of them where none does."""
    return {_stem(word) for found in content_words(query) or [query] for word in _words(found.removesuffix("*"))}


def _arguments(expected: Expected, made: Sequence[Made]) -> bool:
    if expected.days is not None:
        days = [(call.arguments.get("start_date"), call.arguments.get("end_date")) for call in made if _is_by_day(call)]
        return any(tuple(sorted(map(str, given))) == tuple(sorted(expected.days)) for given in days)
    wanted = _plain(expected.arguments or {})
    return any(_plain(call.arguments) == wanted for call in made if call.function in expected.functions)


def _is_by_day(call: Made) -> bool:
    return call.function == _BY_DAY


def _plain(arguments: Mapping[str, Any]) -> dict[str, tuple[bool, Any]]:
    """Texts without case and outer spaces; a number is no truth value."""
    return {
        name: (isinstance(value, bool), _folded(value) if isinstance(value, str) else value)
        for name, value in arguments.items()
    }


def _source(expected: Expected, made: Sequence[Made], reply: str) -> bool:
    """Whether the reply names a hit that has the value."""
    lines = [line for call in made if call.function in _SEARCHES for line in call.result.splitlines()]
    holding = [label for line in lines if _folded(expected.found) in _folded(line) and (label := _LABEL.match(line))]
    return any(_folded(label[1]) in _folded(reply) for label in holding)
