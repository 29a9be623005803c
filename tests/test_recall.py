"""Recall: what is found and what is not, dates, pages that stay the same, and forks."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from localmem.events import Kind
from localmem.memory.embedder import HashEmbedder
from localmem.memory.indexing import Indexer
from localmem.memory.recall import Recall
from localmem.memory.search import Page
from localmem.memory.store import Store


class Agent:
    """A store, its indexes and its recall, with a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime(2024, 3, 1, 12, tzinfo=UTC)
        self.store = Store.open(folder / "a.duckdb", clock=lambda: self.now)
        self.indexer = Indexer.open(self.store, folder, HashEmbedder())
        self.recall = Recall(self.store, self.indexer)

    def say(self, text: str, kind: Kind = Kind.USER, **details: object) -> int:
        return self.store.append(kind, text, details=details).id

    def close(self) -> None:
        self.indexer.close()
        self.store.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.close()


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def sources(page: Page) -> list[int | str]:
    return [hit.source for hit in page.hits]


def test_a_hit_says_what_where_when_and_what_stood_around_it(agent: Agent) -> None:
    agent.say("Where do you live?")
    agent.say("thinking", Kind.THOUGHT)
    found = agent.say("I live in Lisbon.", Kind.ASSISTANT)
    agent.say("an alert", Kind.ALERT)
    agent.say("How nice!")
    page = agent.recall.search("lisbon")
    (hit,) = page.hits
    assert (page.total, page.page, page.pages, page.newest) == (1, 1, 1, 5)
    assert (hit.text, hit.source, hit.kind, hit.time) == ("I live in Lisbon.", found, Kind.ASSISTANT, agent.now)
    assert (hit.before, hit.after) == ("Where do you live?", "How nice!")
    assert hit.score > 0


def test_what_is_a_hit_and_what_is_not(agent: Agent) -> None:
    cases = {
        agent.say("zebra", Kind.USER): True,
        agent.say("zebra", Kind.ASSISTANT): True,
        agent.say("zebra", Kind.SUMMARY): True,
        agent.say("zebra", Kind.TIMER): True,
        agent.say("zebra", Kind.ALERT): True,
        agent.say("zebra", Kind.RESULT): True,
        agent.say("zebra", Kind.RESULT, search=True): False,
        agent.say("zebra", Kind.THOUGHT): False,
        agent.say("zebra", Kind.LOGIN): False,
        agent.say("zebra", Kind.HEARTBEAT): False,
    }
    agent.indexer.flush()
    page = agent.recall.search("zebra", kinds=list(Kind), page_size=99)
    assert sorted(map(int, sources(page))) == [id for id, found in cases.items() if found]
    assert sorted(map(int, sources(agent.recall.search("zebra")))) == [1, 2]
    assert agent.recall.search("zebra", kinds=()).total == 0
    assert len(agent.recall) == 2


def test_total_counts_words_and_meaning_once_and_pages_are_true(agent: Agent) -> None:
    for n in range(12):
        agent.say(f"apple number {n}")
    agent.say("nothing of the kind")
    agent.indexer.flush()
    pages = [agent.recall.search("apple", page=n, page_size=5, until=13) for n in (1, 2, 3, 4)]
    assert [page.total for page in pages] == [12] * 4
    assert [page.pages for page in pages] == [3] * 4
    assert [len(page.hits) for page in pages] == [5, 5, 2, 0]
    assert len({source for page in pages for source in sources(page)}) == 12


def test_pages_stay_the_same_while_events_arrive_and_texts_are_embedded(agent: Agent) -> None:
    for n in range(20):
        agent.say(f"apple {'pie ' * (n % 3)}{n}")
    first = agent.recall.search("apple pie")
    everything = sources(agent.recall.search("apple pie", page_size=99))
    shown = sources(first)
    for number in (2, 3, 4):
        agent.say("apple pie apple pie")
        agent.indexer.flush()
        page = agent.recall.search("apple pie", page=number, until=first.newest, exclude=[1, 2, 3])
        assert (page.total, page.newest) == (first.total, first.newest)
        shown += sources(page)
    assert shown == everything
    assert agent.recall.search("apple pie").total == 23


def test_until_holds_in_another_process_too(agent: Agent, tmp_path: Path) -> None:
    for _ in range(8):
        agent.say("apple")
    newest = agent.recall.search("apple").newest
    agent.say("apple")
    agent.close()
    again = Agent(tmp_path)
    assert sources(again.recall.search("apple", page=2, until=newest)) == [3, 2, 1]
    again.close()


def test_what_is_in_main_context_is_no_hit(agent: Agent) -> None:
    ids = [agent.say("apple") for _ in range(4)]
    page = agent.recall.search("apple", exclude={ids[1], ids[3], 99})
    assert sources(page) == [ids[2], ids[0]]
    assert page.total == 2


def test_only_the_ancestors_of_the_head_are_hits(agent: Agent) -> None:
    agent.say("apple one")
    fork = agent.say("apple two")
    agent.say("apple three")
    agent.store.move_head(fork)
    agent.say("apple four")
    agent.indexer.flush()
    assert sorted(map(int, sources(agent.recall.search("apple")))) == [1, 2, 4]
    assert agent.recall.search("three").total == 0
    assert agent.recall.search("one").hits[0].after == "apple two"
    assert agent.recall.search("two").hits[0].after == "apple four"
    agent.store.move_head(3)
    assert sorted(map(int, sources(agent.recall.search("apple")))) == [1, 2, 3]
    agent.store.move_head(None)
    assert agent.recall.search("apple").total == 0
    assert (len(agent.recall), agent.recall.days()) == (0, [])


def test_what_is_not_embedded_is_found_by_keyword_and_the_page_says_so(agent: Agent) -> None:
    agent.say("apple")
    agent.indexer.flush()
    assert agent.recall.search("apple").note == ""
    agent.say("apple")
    page = agent.recall.search("apple")
    assert page.total == 2
    assert page.note == "1 text is not embedded yet and can be found by keyword only"
    assert agent.recall.search("apple", exclude=[2]).note == "", "only what could have been a hit counts"


def test_an_empty_query_lists_by_time(agent: Agent) -> None:
    assert agent.recall.search().total == 0
    for n in range(7):
        agent.now += timedelta(days=1)
        agent.say(str(n))
    page = agent.recall.search(start=date(2024, 3, 3), page_size=3)
    assert ([hit.text for hit in page.hits], page.total, page.pages) == (["1", "2", "3"], 6, 2)
    assert agent.recall.search("  ").total == 7


@pytest.mark.usefixtures("in_new_york")
def test_days_are_local_and_inclusive(agent: Agent) -> None:
    # New York is at UTC-5 until the clocks change on 10 March 2024 at 02:00, then at UTC-4.
    times = {
        "late": "2024-03-10T04:59:59.999999+00:00",  # 9 March, 23:59:59.999999
        "early": "2024-03-10T05:00:00+00:00",  # 10 March, 00:00
        "night": "2024-03-11T03:59:59.7+00:00",  # 10 March, 23:59:59.7
        "next": "2024-03-11T04:00:00+00:00",  # 11 March, 00:00
    }
    for text, when in times.items():
        agent.now = datetime.fromisoformat(when)
        agent.say(text)
    d9, d10, d11 = date(2024, 3, 9), date(2024, 3, 10), date(2024, 3, 11)
    cases: list[tuple[date | None, date | None, list[str]]] = [
        (d10, d10, ["early", "night"]),
        (d9, d9, ["late"]),
        (d11, None, ["next"]),
        (None, d9, ["late"]),
        (d11, d9, ["late", "early", "night", "next"]),
        (d11, d10, ["early", "night", "next"]),
        (datetime(2024, 3, 10), datetime(2024, 3, 10, 23, 59, 59, 700000), ["early", "night"]),
        (datetime(2024, 3, 10, 5, tzinfo=UTC), datetime(2024, 3, 10, 5, tzinfo=UTC), ["early"]),
        (date.min, date.max, list(times)),
        (date.max, date.min, list(times)),
        (date.max, None, []),
        (None, date.min, []),
    ]
    for start, end, expected in cases:
        assert [hit.text for hit in agent.recall.search(start=start, end=end).hits] == expected, (start, end)
    assert agent.recall.days() == [d9, d10, d11]


def test_days_follow_the_head(agent: Agent) -> None:
    assert agent.recall.days() == []
    ids = []
    for day in (1, 2, 2, 5):
        agent.now = datetime(2024, 3, day, 12, tzinfo=UTC)
        ids.append(agent.say("x"))
        agent.now = datetime(2024, 4, day, 12, tzinfo=UTC)
        agent.say("not said", Kind.THOUGHT)
        agent.recall.days()
    days = [date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 5)]
    assert agent.recall.days() == days
    agent.store.move_head(ids[1])
    assert agent.recall.days() == days[:2]
    agent.now = datetime(2024, 3, 9, 12, tzinfo=UTC)
    agent.say("x")
    assert agent.recall.days() == [*days[:2], date(2024, 3, 9)]


@pytest.mark.parametrize("query", ['"(((', "AND", "🎉", "a:b", "\0", "\udce9", "x " * 5000])
def test_any_text_is_a_query(agent: Agent, query: str) -> None:
    agent.say("apple")
    agent.indexer.flush()
    assert agent.recall.search(query).total <= 1


@pytest.mark.slow
def test_ten_thousand_events_are_searched_in_a_blink(agent: Agent, tmp_path: Path) -> None:
    with agent.store.transaction():
        for n in range(10_000):
            agent.say(f"message {n} about {'apples' if n % 3 else 'pears'} and {os.urandom(4).hex()}")
    agent.indexer.flush()
    agent.recall.search("warm up")
    began = time.perf_counter()
    assert agent.recall.search("apples").total >= 6666
    assert time.perf_counter() - began < 0.1
    agent.close()
    began = time.perf_counter()
    again = Agent(tmp_path)
    again.recall.search("apples")
    assert time.perf_counter() - began < 1
    again.close()
