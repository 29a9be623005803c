"""Turns about what is on disk: earlier messages, days, documents and notes, found or not; or still in sight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from training.remembering import say, told
from training.scenario import SOURCE, Call, Expected, Turn
from training.texts import Item, Values, fill
from training.world import Episode, Paper, World

_PAST = "Earlier days; search messages."
_DOCUMENT = "Stored texts; search them."
_KEEP = "Keep this text; store it."
_NOT_FOUND = "Nothing found; say so."

_YESTERDAY = (
    "I told you yesterday.",
    "We had that yesterday.",
    "It was in yesterday's chat.",
    "(yesterday)",
    "I mean yesterday.",
)
_NOTHING = (
    "I searched our earlier messages, but found nothing about that.",
    "I could not find that in what you told me before.",
    "I have looked, but there is nothing about it in our earlier conversations.",
    "Sorry, I found no message about that.",
)
_NOT_STORED = (
    "I searched your documents, but found nothing about that.",
    "Your documents do not say; I found nothing.",
    "Sorry, I could not find that in the stored texts.",
)
_CITED = ("{answer} ({source})", "{answer} (source: {source})", "{answer} [{source}]")


def conversation_search(thought: str, query: str) -> Call:
    return Call(thought, "conversation_search", {"query": query, "page": 1})


def archival_search(thought: str, query: str) -> Call:
    return Call(thought, "archival_memory_search", {"query": query, "page": 1})


def told_episode(world: World) -> Turn | None:
    """Something that happened, told in this conversation: no lasting fact, the conversation itself keeps it."""
    item = world.item("topics")
    if item is None:
        return None
    values = world.texts.draw(item, world.rng)
    world.said.append(Episode(item, values, world.now))
    text, reply = world.pick(item["said"], values), world.pick(item["replied"], values)
    expected = Expected("episode", also=(("core_memory_append",),))
    gist = f"The user {fill(item['summary'], values)}"
    return Turn(text, (say("Talk: news; nothing lasting.", reply),), expected, gist=gist)


def asked_said(world: World) -> Turn | None:
    """A question whose answer is still in main context: no search."""
    if not world.said:
        return None
    episode = world.rng.choice(world.said)
    question, answer, value, _ = _question(world, episode.item, episode.values)
    if (world.now.date() - episode.time.date()).days == 1 and world.rng.random() < 0.6:
        question = f"{question} {world.pick(_YESTERDAY)}"
    said = f"Above: {value}"
    return Turn(question, (say(said, answer),), Expected("said question", answer=(value,)))


def _question(world: World, item: Item, values: Values) -> tuple[str, str, str, list[str]]:
    """Question, answer, the value in it, and queries, the best one first.

    What a small model writes best, and vectors find best, are the words of the question itself.
    """
    ask = world.rng.choice(item["ask"])
    question = world.pick(ask["q"], values)
    written = [fill(query, values) for query in ask["query"]]
    world.rng.shuffle(written)
    own = _own_query(question)
    queries = [own, *written] if own and world.rng.random() < 0.85 else written
    return question, world.pick(ask["answer"], values), fill(ask["value"], values), queries


def _own_query(question: str) -> str:
    return " ".join(content_words(question)[:6])


def content_words(question: str) -> list[str]:
    """The words of a question that say what it is about."""
    words = re.findall(r"[^\W_]+(?:['’&.-][^\W_]+)*", question)
    return [word for word in words if word.casefold().replace("’", "'") not in _EMPTY]


#: Words that a question has whatever it is about.
_EMPTY = frozenset((Path(__file__).parent / "texts" / "plain_words.txt").read_text(encoding="utf-8").split())


def asked_past(world: World) -> Turn | None:
    """A question about an earlier day: searched, found, answered."""
    if not world.past:
        return None
    episode = world.rng.choice(world.past)
    question, answer, value, query = _question(world, episode.item, episode.values)
    calls = (conversation_search(_PAST, query[0]), say(f"Found: {value}", answer))
    expected = Expected("past question", ("conversation_search",), query=tuple(query), found=value, answer=(value,))
    return Turn(question, calls, expected, gist=f"The user asked: {question} Answer: {answer}")


def asked_missing(world: World) -> Turn | None:
    """A question about what was never said: searched, not found, and said so."""
    item = world.item("topics")
    if item is None:
        return None
    question, _, value, query = _question(world, item, world.texts.draw(item, world.rng))
    calls = (conversation_search(_PAST, query[0]), _say_nothing(world))
    expected = Expected("missing", ("conversation_search",), query=tuple(query), nothing=True, absent=value)
    return Turn(question, calls, expected)


def asked_unknown(world: World) -> Turn | None:
    """A question about the user that was never answered: searched, not found, and said so."""
    item = world.item("facts")
    if item is None:
        return None
    values = world.texts.draw(item, world.rng)
    question = world.pick(item["ask"], values)
    queries = (_own_query(question), *(fill(query, values) for query in item["query"]))
    calls = (conversation_search(_PAST, queries[0]), _say_nothing(world))
    queries = tuple(query for query in queries if query)
    expected = Expected("unknown", ("conversation_search",), query=queries, nothing=True, absent=values["v"])
    return Turn(question, calls, expected)


def _say_nothing(world: World) -> Call:
    """That a search of the conversation found nothing."""
    return say(_NOT_FOUND, world.pick(_NOTHING if world.past else _NEVER_TOLD))


_NEVER_TOLD = (
    "You have not told me that yet.",
    "I do not know that yet; tell me, and I will remember it.",
    "I don't know, you have not said so yet.",
)


def told_and_asked(world: World) -> Turn | None:
    """A fact and a question about an earlier day, in one message."""
    if not world.past:
        return None
    fact, question = told(world), asked_past(world)
    if fact is None or question is None:
        return None
    reply = f"{fact.calls[-1].arguments['message']} {question.calls[-1].arguments['message']}"
    search = Call("Saved; earlier days; search messages.", *_call(question.calls[0]))
    calls = (fact.calls[0], search, say(question.calls[-1].thought, reply))
    expected = replace(
        question.expected,
        kind="fact and past question",
        functions=("core_memory_append", "conversation_search"),
        also=(("conversation_search", "core_memory_append"),),
        fact=fact.expected.fact,
        line=fact.expected.line,
    )
    glue = world.rng.choice((" ", " By the way: ", " And one question: ", "\n"))
    return Turn(f"{fact.text}{glue}{question.text}", calls, expected, gist=f"{fact.gist}. {question.gist}")


def _call(call: Call) -> tuple[str, Mapping[str, Any]]:
    return call.function, call.arguments


def asked_day(world: World) -> Turn | None:
    """A question about a day: its messages are read."""
    days = sorted({episode.time.date() for episode in world.past})
    if not days:
        return None
    date = world.rng.choice(days)
    told = [episode for episode in world.past if episode.time.date() == date]
    name, reason = _named(world, datetime.combine(date, datetime.min.time()))
    question = world.pick(world.texts.phrases["days"], {"day": name})
    done = [f"you {fill(episode.item['summary'], episode.values)}" for episode in sorted(told, key=lambda e: e.time)]
    answer = f"On {date:%A}, {date.isoformat()}, {' and '.join(done)}."
    day = date.isoformat()
    calls = (
        Call(reason, "conversation_search_date", {"start_date": day, "end_date": day, "page": 1}),
        say("Read; sum it up.", answer),
    )
    value = told[0].values
    word = next((v for slot, v in value.items() if "{" + slot + "}" in told[0].item["summary"]), "")
    expected = Expected("day", ("conversation_search_date",), days=(day, day), answer=(word,) if word else ())
    return Turn(question, calls, expected, gist=f"The user asked about {day}")


def _named(world: World, day: datetime) -> tuple[str, str]:
    """How a person calls a day, and how the agent works out which it is."""
    today = world.now
    away = (today.date() - day.date()).days
    names = [f"on {day:%B} {day.day}", f"on {day.day} {day:%B}", f"on {day:%Y-%m-%d}"]
    if away == 1:
        names += ["yesterday"] * 6
    if away == 2:
        names += ["the day before yesterday", "two days ago"] * 2
    if 2 < away < 7:
        names += [f"{away} days ago", f"on {day:%A}", f"last {day:%A}"] * 2
    if away == 7:
        names += ["a week ago"] * 3
    return world.rng.choice(names), f"Today is {today:%a %Y-%m-%d}; that day was {day:%a %Y-%m-%d}."


def asked_document(world: World) -> Turn | None:
    """A question about a document: searched, found, answered with its source."""
    papers = [paper for paper in world.papers if paper.name]
    if not papers:
        return None
    paper = world.rng.choice(papers)
    question, answer, value, query = _question(world, paper.item, paper.values)
    reply = fill(world.rng.choice(_CITED), {"answer": answer.rstrip(), "source": SOURCE})
    calls = (archival_search(_DOCUMENT, query[0]), say(f"Found: {value}; name the source.", reply))
    functions = ("archival_memory_search",)
    expected = Expected("document question", functions, query=tuple(query), found=value, answer=(value,), source=True)
    return Turn(question, calls, expected, gist=f"The user asked: {question} Answer: {answer}")


def asked_document_missing(world: World) -> Turn | None:
    """A question that no document answers."""
    if not any(paper.name for paper in world.papers):
        return None
    item = world.item("documents")
    if item is None:
        return None
    values = world.texts.draw(item, world.rng)
    values["title"] = fill(item.get("title", ""), values)
    question, _, value, query = _question(world, item, values)
    calls = (archival_search(_DOCUMENT, query[0]), say(_NOT_FOUND, world.pick(_NOT_STORED)))
    functions = ("archival_memory_search",)
    expected = Expected("document missing", functions, query=tuple(query), nothing=True, absent=value)
    return Turn(question, calls, expected)


def kept(world: World) -> Turn | None:
    """A text to keep: stored."""
    paper = world.new_note()
    if paper is None:
        return None
    text = world.pick(paper.item["say"], paper.values)
    calls = (
        Call(_KEEP, "archival_memory_insert", {"content": paper.text}),
        say("Stored; answer.", world.pick(paper.item["ack"], paper.values)),
    )
    world.said.append(Episode(paper.item, paper.values, world.now))
    facts = [value for slot, value in paper.values.items() if slot not in ("text", "title") and value in paper.text]
    expected = Expected("keep", ("archival_memory_insert",), fact=tuple(facts), line=paper.text)
    return Turn(text, calls, expected, gist=f"The user had a text stored: {paper.text[:60]}")


def asked_note(world: World) -> Turn | None:
    """A question about a text that was kept on an earlier day."""
    papers = [paper for paper in world.papers if not paper.name]
    if not papers:
        return None
    paper: Paper = world.rng.choice(papers)
    question, answer, value, query = _question(world, paper.item, paper.values)
    calls = (archival_search(_DOCUMENT, query[0]), say(f"Found: {value}", answer))
    expected = Expected("note question", ("archival_memory_search",), query=tuple(query), found=value, answer=(value,))
    return Turn(question, calls, expected)
