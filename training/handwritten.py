"""Prompts written by hand, as scenarios: the judged turn comes last. Never for training.

Some are for reports only; others, a development set of plain messages, are there to guide choices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from training.remembering import say
from training.scenario import Expected, Past, Scenario, Turn

_FOLDER = Path(__file__).parent
_START = datetime(2026, 6, 15, 9, 12)  # a Monday
_NEGATIVE = "n't"  # an answer that may be this one says that nothing was found
#: The kind of turn by the first function that is called.
_KINDS = {
    "core_memory_append": "fact",
    "core_memory_replace": "correction",
    "conversation_search": "past question",
    "conversation_search_date": "day",
    "archival_memory_search": "document question",
    "archival_memory_insert": "keep",
}


@cache
def handwritten() -> tuple[Scenario, ...]:
    """Those for reports, in the order in which they were written."""
    return _read(_FOLDER / "handwritten.yaml")


@cache
def messages() -> tuple[Scenario, ...]:
    """Those that may guide choices: single messages, after nothing but what core memory says."""
    return _read(_FOLDER / "texts" / "dev" / "messages.yaml")


def _read(file: Path) -> tuple[Scenario, ...]:
    return tuple(_scenario(item) for item in yaml.safe_load(file.read_text(encoding="utf-8")))


def _scenario(item: Mapping[str, Any]) -> Scenario:
    past = sorted(map(_past, item.get("past") or []), key=lambda said: said.time)
    before = [
        Turn(said["user"], (say("Nothing to save; answer.", said["agent"]),), Expected("before"))
        for said in item.get("before") or []
    ]
    documents = item.get("documents") or {}
    return Scenario(
        id=item["id"],
        start=_START,
        persona=None,
        human=tuple(item["human"] or ()),
        past=tuple(past),
        summary="Small talk." if past else "",
        documents=tuple((name, "\n\n".join(paragraphs)) for name, paragraphs in documents.items()),
        notes=(),
        functions=(),
        turns=(*before, Turn(item["message"], (), _expected(item, past))),
    )


def _past(said: Mapping[str, Any]) -> Past:
    return Past(_START - timedelta(days=said["days_ago"], minutes=-40), said["user"], said["agent"])


def _expected(item: Mapping[str, Any], past: Sequence[Past]) -> Expected:
    functions = tuple(item["expect"])
    fact, answer = (tuple(map(_inflectable, item.get(key) or ())) for key in ("fact", "answer"))
    nothing = any(_NEGATIVE in value.split("|") for value in answer)
    words = [word for value in item.get("answer") or () for word in value.split("|")]
    lines, message = "\n".join(item["human"] or ()).casefold(), item["message"].casefold()
    known = any(word.casefold() in lines and word.casefold() not in message for word in words)
    kind = _KINDS[functions[0]] if functions else "core question" if known else "chat"
    if kind == "correction" and not fact:
        kind = "forget"
    if kind == "past question" and nothing:
        kind = "missing"
    return Expected(
        kind,
        functions,
        also=tuple(map(tuple, item.get("also") or ())),
        fact=fact,
        old=item.get("old"),
        query=tuple(item.get("query") or ()),
        answer=() if nothing else answer,
        nothing=nothing,
        days=_days(answer, past) if kind == "day" else None,
    )


def _inflectable(wanted: str) -> str:
    """Words of some length may be inflected: what is written there are often stems."""
    return "|".join(f"{word}*" if re.search(r"[^\W\d_]{3}$", word) else word for word in wanted.split("|"))


def _days(answer: Sequence[str], past: Sequence[Past]) -> tuple[str, str]:
    """The day on which most of the answer's words were said."""
    words = [word.removesuffix("*").casefold() for value in answer for word in value.split("|")]
    day = max(past, key=lambda said: sum(word in said.user.casefold() for word in words)).time.date().isoformat()
    return day, day
