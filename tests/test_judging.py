"""The verdicts on turns: what is accepted, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.judging import Made, Verdict, invented, judge, says
from training.scenario import Expected

APPEND, REPLACE, INSERT = "core_memory_append", "core_memory_replace", "archival_memory_insert"
SEARCH, DAY, ARCHIVE = "conversation_search", "conversation_search_date", "archival_memory_search"


def append(content: str) -> Made:
    return Made(APPEND, {"block": "human", "content": content}, "human is now: ...")


def replace(old: str, new: str) -> Made:
    return Made(REPLACE, {"block": "human", "old_content": old, "new_content": new}, "human is now: ...")


def search(query: str, result: str = "No earlier message matches.", name: str = SEARCH) -> Made:
    return Made(name, {"query": query, "page": 1}, result)


@pytest.mark.parametrize(
    ("wanted", "text", "found"),
    [
        ("Lisbon", "Lives in LISBON.", True),
        ("Lisbon", "Lisbonne", False),
        ("85", "It was 85 euros.", True),
        ("85", "It was 850 euros.", False),
        ("10.40|10:40", "at 10:40", True),
        ("C++", "I write C++ all day", True),
        ("rat", "two rats", False),
        ("rat*", "two rats", True),
        ("rat*", "rather", False),
        ("fenc*", "I am fencing", True),
        ("nine*|9", "nineteen", False),
        ("Mo’s café", "at mo's   café", True),
        ("Camélias|Camelias*", "Casa das Camélias", True),
    ],
)
def test_words_in_a_text(wanted: str, text: str, found: bool) -> None:
    assert says(wanted, text) == found


@pytest.mark.parametrize(
    ("text", "source", "words"),
    [
        ("Lives in Lisbon", "I moved to Lisbon", []),  # what every line says is no invention
        ("Likes teas", "I like tea", []),
        ("Name: Ada, pilot", "I'm Ada", ["pilot"]),
        ("Phone: 0171", "call me on 0172", ["0171"]),
        ("Ada of it", "Ada", []),
    ],
)
def test_what_was_invented(text: str, source: str, words: list[str]) -> None:
    assert invented(text, [source]) == words


FACT = Expected("fact", (APPEND,), also=((APPEND, APPEND),), fact=("Lisbon",), line="Lives in Lisbon")
CHANGE = Expected("correction", (REPLACE,), fact=("Porto",), line="Lives in Porto", old="Lives in Lisbon")
FORGET = Expected("forget", (REPLACE,), old="Lives in Lisbon")


@pytest.mark.parametrize(
    ("expected", "message", "made", "choice", "functions", "stored"),
    [
        (FACT, "I live in Lisbon", [append("Lives in Lisbon")], True, True, True),
        (FACT, "I live in Lisbon", [append("Home: Lisbon"), append("Likes Lisbon")], True, True, True),
        (FACT, "I live in Lisbon", [append("Lives in Portugal")], True, True, False),
        (FACT, "I live in Lisbon", [append("Lives in Lisbon, Portugal")], True, True, False),
        (FACT, "I live in Lisbon", [append("Lives in Lisbon with Ines")], True, True, True),  # Ines is known
        (FACT, "I live in Lisbon", [append(""), append("Lisbon")], True, True, True),
        (FACT, "I live in Lisbon", [], False, False, False),
        (FACT, "I live in Lisbon", [replace("Sister: Ines", "Lisbon")], False, False, True),
        (FACT, "I live in Lisbon", [append("Lisbon"), search("Lisbon")], True, False, True),
        (FACT, "I live in Lisbon", [search("Lisbon"), append("Lisbon")], False, False, True),
        (CHANGE, "Porto now", [replace("Lives in Lisbon", "Lives in Porto")], True, True, True),
        (CHANGE, "Porto now", [replace("Sister: Ines", "Lives in Porto")], True, True, False),
        (CHANGE, "Porto now", [replace("Lives in Lisbon", "Lives in Lisbon")], True, True, False),
        (CHANGE, "Porto now", [append("Lives in Porto")], False, False, False),
        (FORGET, "forget it", [replace("Lives in Lisbon", "")], True, True, True),
        (FORGET, "forget it", [replace("Lives in Lisbon", "Lives in")], True, True, False),
        (FORGET, "forget it", [replace("Sister: Ines", "")], True, True, False),
    ],
)
def test_what_is_stored(
    expected: Expected, message: str, made: list[Made], choice: bool, functions: bool, stored: bool
) -> None:
    verdict = judge(expected, message, made, "Noted.", ["Sister: Ines"])
    assert (verdict.choice, verdict.functions, verdict.stored) == (choice, functions, stored)
    assert verdict.chain == (choice and functions and stored)
    assert (verdict.query, verdict.arguments, verdict.answer, verdict.quality) == (None, None, None, stored)


HIT = "1 found, page 1 of 1:\n- [#12 Sat 2026-11-21 08:15 user] the plumber took 85 euros"
PAST = Expected("past question", (SEARCH,), query=("plumber price",), found="85 euros", answer=("85 euros",))
MISSING = Expected("missing", (SEARCH,), query=("dentist number",), absent="112", nothing=True)
BY_HAND = Expected("past question", (SEARCH,), query=("hallway|paint",), answer=("Skimming Stone*",))
DOCUMENT = Expected("document question", (ARCHIVE,), query=("rent",), found="85", answer=("85",), source=True)
PASSAGE = "1 found, page 1 of 1:\n- [lease.md:3 Sat 2026-11-21 08:15] the rent is 85\n- [x.md:1 Sat] none"


@pytest.mark.parametrize(
    ("expected", "made", "reply", "query", "said", "chain"),
    [
        (PAST, [search("what plumber", HIT)], "It was 85 euros.", True, True, True),
        (PAST, [search("what plumber", HIT)], "It was 80 euros.", True, False, False),
        (PAST, [search("plumber price")], "It was 85 euros.", False, True, False),
        (PAST, [], "It was 85 euros.", False, True, False),
        (MISSING, [search("number of my dentists")], "I couldn't find it.", True, True, True),
        (MISSING, [search("number of my dentists")], "It is 112.", True, False, False),
        (MISSING, [search("weather")], "I found nothing.", False, True, False),
        (BY_HAND, [search("paints")], "Skimming Stone", True, True, True),
        (BY_HAND, [search("stone")], "Skimming Stone", False, True, False),
        (DOCUMENT, [search("rent", PASSAGE, ARCHIVE)], "85 (lease.md:3)", True, True, True),
        (DOCUMENT, [search("rent", PASSAGE, ARCHIVE)], "85 (x.md:1)", True, True, False),
        (DOCUMENT, [search("rent", PASSAGE, ARCHIVE)], "85", True, True, False),
    ],
)
def test_searches_and_replies(
    expected: Expected, made: list[Made], reply: str, query: bool, said: bool, chain: bool
) -> None:
    verdict = judge(expected, "?", made, reply)
    assert verdict.query == query
    assert (verdict.nothing if expected.nothing else verdict.answer) == said
    assert (verdict.source is not None) == expected.source
    assert verdict.chain == chain


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ({"room": " Hall ", "degrees": 20, "on": True}, True),
        ({"room": "hall", "degrees": 20.0, "on": True}, True),
        ({"room": "hall", "degrees": 21, "on": True}, False),
        ({"room": "hall", "degrees": 20, "on": 1}, False),
        ({"room": "hall", "degrees": 20}, False),
    ],
)
def test_arguments_of_a_user_function(given: dict[str, Any], right: bool) -> None:
    expected = Expected("function", ("heat",), arguments={"room": "hall", "degrees": 20, "on": True})
    verdict = judge(expected, "?", [Made("heat", given)], "Done.")
    assert (verdict.choice, verdict.functions, verdict.arguments, verdict.chain) == (True, True, right, right)


@pytest.mark.parametrize(("start", "end", "right"), [("02", "02", True), ("01", "02", False)])
def test_days(start: str, end: str, right: bool) -> None:
    expected = Expected("day", (DAY,), days=("2026-03-02", "2026-03-02"))
    given = {"start_date": f"2026-03-{start}", "end_date": f"2026-03-{end}", "page": 1}
    assert judge(expected, "?", [Made(DAY, given)], "That.").arguments == right


def test_an_answer_at_once() -> None:
    chat = Expected("chat")
    assert judge(chat, "Hi", [], "Hello!") == Verdict(choice=True, functions=True)
    assert judge(chat, "Hi", [], "Hello!").chain
    assert not judge(chat, "Hi", [], None).choice
    assert not judge(chat, "Hi", [append("Hi")], "Hello!").choice
    # Calls that end in no reply are not whole.
    assert not judge(FACT, "Lisbon", [append("Lisbon")], None).functions
