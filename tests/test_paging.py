"""Pressure, page-outs, levelled summaries, and main context rebuilt from events."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from agents import Clock, agent_on, call, say, scripted

from localmem.agent import Agent
from localmem.engine.llama import LlamaEngine, LlamaOptions
from localmem.engine.scripted import ScriptedEngine
from localmem.errors import ConfigError
from localmem.events import Event, Kind
from localmem.protocols import Sampling
from localmem.summaries import CALL_TAKEN_OUT
from localmem.window import MOST_SUMMARIES


def smallest_window(home: Path) -> int:
    with pytest.raises(ConfigError) as refused:
        scripted(home, n_ctx=1024)
    found = re.search(r"--n-ctx (\d+) or more", str(refused.value))
    assert found is not None
    return int(found.group(1))


def summaries(agent: Agent) -> list[Event]:
    return agent._paging.summaries.standing()


def test_pressure_is_told_once_and_then_the_model_may_page_out(home: Path) -> None:
    with scripted(home, script=lambda _: say("Hm. " * 60), n_ctx=8192) as agent:
        alerts = 0
        for i in range(40):
            events = list(agent.send(f"Message {i}."))
            alerts += sum(e.kind is Kind.ALERT for e in events)
            if alerts:
                break
        assert agent.context.pressure >= 0.7
        assert alerts == 1
        agent.engine._script = None  # type: ignore[attr-defined]
        variants = agent._paging.variants(turn=10**6)
        assert variants
        through = variants[0]["properties"]["through"]
        wanted = through["const"] if "const" in through else through["enum"][-1]
        before = agent.context.tokens
        agent.engine.answers.extend(  # type: ignore[attr-defined]
            [call("page_out", through=wanted, summary="Small talk."), say("Done.")]
        )
        events = list(agent.send("Make room."))
        assert [e.call.function for e in events if e.call] == ["page_out", "send_message"]
        assert agent.context.tokens < before
        assert [s.text for s in summaries(agent)] == ["Small talk."]
        agent.engine.answers.append(say("Hello again."))  # type: ignore[attr-defined]
        list(agent.send("Hello again."))
        assert "Small talk." in agent.engine.prompts[-1]  # type: ignore[attr-defined]


def test_at_85_percent_a_page_out_is_due_after_the_reply(home: Path) -> None:
    def script(prompt: str) -> dict[str, object] | None:
        return None if "Main context is full" in prompt[-400:] else say("Hm. " * 60)

    with scripted(home, script=script, n_ctx=8192) as agent:
        for i in range(60):
            events = list(agent.send(f"Message {i}."))
            if any(e.kind is Kind.SUMMARY for e in events):
                break
        order = [e.kind for e in events]
        assert order.index(Kind.ASSISTANT) < order.index(Kind.SUMMARY)
        assert agent.context.pressure < 0.85
        summary = next(e for e in events if e.kind is Kind.SUMMARY)
        first = agent.store.event(summary.details["first"])
        assert first.text == "Message 0."


def test_an_evicted_message_is_found_and_the_summary_says_where(home: Path) -> None:
    with scripted(home, [say("Noted.")]) as agent:
        told, *_ = agent.send("The code of the safe is 7315.")
        list(agent.summarize())
        assert told.id not in agent.context.events
        assert agent.recall.search("code of the safe").hits[0].source == told.id
        (summary,) = summaries(agent)
        assert summary.details["first"] <= told.id <= summary.details["last"]


def test_what_was_paged_out_stays_out_after_reopening(home: Path) -> None:
    with scripted(home, [say("One.")]) as agent:
        list(agent.send("First message."))
        list(agent.summarize())
        agent.engine.answers.append(say("Two."))  # type: ignore[attr-defined]
        list(agent.send("Second message."))
        tokens, prompt = agent.context.tokens, agent.context.prompt()
    with scripted(home) as agent:
        assert agent.context.tokens == tokens
        assert agent.context.prompt() == prompt


@pytest.mark.parametrize("smaller", [5120, 8192])
def test_a_smaller_window_evicts_what_it_cannot_show(home: Path, smaller: int) -> None:
    with scripted(home, script=lambda _: say("Hm. " * 60), n_ctx=32768) as agent:
        for i in range(60):
            list(agent.send(f"Message {i}."))
        assert agent.context.tokens > smaller

    def script(prompt: str) -> dict[str, object] | None:
        return None if "Call page_out now" in prompt[-400:] else say("Yes.")

    with agent_on(home, ScriptedEngine(script=script, n_ctx=smaller)) as agent:
        assert agent.context.tokens <= smaller
        assert "not summarized" in summaries(agent)[-1].text
        assert agent.reply("Still there?") == "Yes."
        assert agent.recall.search("Message 3").total > 0


def test_random_text_in_the_smallest_window(home: Path) -> None:
    """Random bytes under the grammar, and messages of all sizes: the window is never over budget."""
    n_ctx = smallest_window(home)
    clock, rng = Clock(), random.Random(1)
    with scripted(home, n_ctx=n_ctx, clock=clock, max_steps=4, name="small") as agent:
        for i in range(40):
            clock.pass_time(hours=rng.random() * 8)
            words = " ".join(rng.choice(["tea", "zürich", "日本", "🎉", "blue"]) for _ in range(rng.randint(0, 200)))
            check_turn(agent, list(agent.send(f"entry{i} {words}")))


@pytest.fixture(scope="session")
def terse_model(tiny_model_path: Path, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that ends its strings: quotes are as likely as all else."""
    from tiny_gguf import Tokenizer, write_tiny

    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=512))
    vocabulary = engine.vocabulary
    quotes = [token for token in range(vocabulary.size) if vocabulary.token_bytes(token).startswith(b'"')]
    engine.close()
    path = tmp_path_factory.mktemp("terse") / "terse.gguf"
    return write_tiny(path, Tokenizer.of_file(model_path), favour=quotes)


def test_100_messages_in_the_smallest_window(home: Path, terse_model: Path) -> None:
    """On llama.cpp and the real tokenizer: no overflow, no error, every message answered and found again."""
    with pytest.raises(ConfigError) as refused:
        agent_on(home, LlamaEngine(terse_model, LlamaOptions(n_ctx=512)), name="refused")
    smallest = int(re.findall(r"--n-ctx (\d+)", str(refused.value))[0])
    sampling = Sampling(temperature=1.5, seed=1)
    engine = LlamaEngine(terse_model, LlamaOptions(n_ctx=smallest, sampling=sampling))
    clock, rng = Clock(), random.Random(2)
    with agent_on(home, engine, clock=clock, max_steps=3) as agent:
        for i in range(100):
            clock.pass_time(hours=rng.random() * 8)
            words = " ".join(rng.choice(["tea", "zürich", "日本", "🎉", "blue"]) for _ in range(rng.randint(0, 30)))
            check_turn(agent, list(agent.send(f"entry{i} {words}")))
        report = agent.context.report()
        rebuilt = sum(count for cause, count in report["rebases"].items() if cause != "open")
        assert rebuilt > 0
        assert set(report["divergences"]) <= {*report["rebases"], CALL_TAKEN_OUT}
        assert report["prefix_hit"] > 0.7
        for i in range(100):
            hits = agent.recall.search(f"entry{i}", kinds=[Kind.USER]).hits
            assert any(hit.text.startswith(f"entry{i} ") for hit in hits)


def check_turn(agent: Agent, events: list[Event]) -> None:
    """What holds after every turn of every agent."""
    window = agent.context.window
    assert sum(e.kind is Kind.ASSISTANT for e in events) == 1
    assert [e for e in events if e.details.get("status") == "failed"] == []
    assert agent.context.tokens <= window.n_ctx
    assert len(summaries(agent)) <= MOST_SUMMARIES
    assert agent.context.report()["segments"]["summaries"] <= window.summaries + 64  # and its heading
    for event in events:
        if event.stats:
            assert event.stats["prompt_tokens"] + event.stats["generated_tokens"] <= window.n_ctx


def test_a_year_of_diary(home: Path) -> None:
    """365 days: the window stays bounded, and any day's details are reached from its summary."""
    topics = ["garden", "violin", "train", "soup", "letter", "river", "chess"]
    clock = Clock(datetime(2025, 1, 1, 18, 0, tzinfo=UTC))

    def script(prompt: str) -> dict[str, object] | str | None:
        if "Call page_out now" in prompt[-400:]:
            return None
        return say("A good day.")

    with scripted(home, script=script, n_ctx=8192, clock=clock) as agent:
        largest = 0
        for day in range(365):
            list(agent.send(f"Day {day}: {topics[day % 7]} and the number {day * 37}. " + "It rained. " * 12))
            largest = max(largest, agent.context.tokens)
            clock.now = datetime(2025, 1, 1, 18, 0, tzinfo=UTC) + timedelta(days=day + 1)
        assert largest <= agent.context.window.n_ctx
        standing = summaries(agent)
        assert len(standing) <= MOST_SUMMARIES
        # together they cover everything that is no longer in main context, without a gap
        oldest = min(agent.context.events)
        assert standing[0].details["first"] == 1
        for earlier, later in pairwise(standing):
            between = [e for e in agent.store.path(after=earlier.details["last"]) if e.id < later.details["first"]]
            assert all(e.details.get("paging") or e.kind is Kind.ALERT for e in between)
        assert standing[-1].details["last"] < oldest or oldest > standing[-1].details["first"]
        for day in (0, 17, 111, 200, 300):
            told = agent.recall.search(f"number {day * 37}", page_size=1).hits[0]
            assert isinstance(told.source, int)
            covering = next(s for s in standing if s.details["first"] <= told.source <= s.details["last"])
            since, until = (datetime.fromisoformat(covering.details[key]) for key in ("since", "until"))
            assert since <= told.time <= until
            date = told.time.astimezone().date()
            found = agent.recall.search(start=date, end=date)
            assert any(f"number {day * 37}." in hit.text for hit in found.hits)
            assert date in agent.recall.days()


def test_moving_the_head_rebuilds_the_context_as_it_was(home: Path) -> None:
    with scripted(home, [say("a"), say("b")]) as agent:
        list(agent.send("one"))
        prompt = agent.context.prompt()
        agent.save("then")
        list(agent.send("two"))
        list(agent.summarize())
        assert agent.context.prompt() != prompt
        agent.load("then")
        assert agent.context.prompt() == prompt
        assert summaries(agent) == []


def test_undone_edits_leave_the_prompt_too(home: Path) -> None:
    answers = [call("core_memory_append", block="human", content="Likes tea."), say("Saved.")]
    with scripted(home, answers) as agent:
        before = agent.context.prompt()
        list(agent.send("I like tea."))
        list(agent.summarize())
        popped = agent.pop()
        assert popped is not None
        assert popped.text == "I like tea."
        assert agent.core["human"].value == ""
        assert agent.context.prompt() == before


def test_summaries_of_a_large_window_fit_a_small_one(home: Path) -> None:
    def script(prompt: str) -> dict[str, object] | None:
        return say("Hm.")

    with scripted(home, script=script, n_ctx=65536) as agent:
        for i in range(4):
            list(agent.send(f"Message {i}."))
            through = agent.context.due_cuts(None)[0].through
            agent.engine.answers.append(  # type: ignore[attr-defined]
                call("page_out", through=through, summary=f"Summary {i}: " + "many words " * 60)
            )
            if i == 2:
                break
            list(agent.summarize())
    for n_ctx in (5120, 6144):
        with scripted(home, script=script, n_ctx=n_ctx) as agent:
            assert agent.context.fits(0)
            assert "(cut short)" in agent.engine.vocabulary.detokenize(agent.context.prompt())
            assert agent.reply("Still there?") == "Hm."
    with scripted(home, script=script, n_ctx=65536) as agent:
        assert all("not summarized" not in summary.text for summary in summaries(agent))


def test_evictions_never_go_back(home: Path) -> None:
    """A page-out in the middle of a turn keeps the message being answered; what it covered stays covered."""

    def work(n: int) -> str:
        """Work."""
        return "result " * 30

    def script(prompt: str) -> dict[str, object] | None:
        if "Call page_out now" in prompt[-400:] or "merge the summaries" in prompt[-400:]:
            return None
        return call("work", n=1)

    with scripted(home, script=script, n_ctx=8192, functions=[work], max_steps=400) as agent:
        turn = agent.send("A long task. " * 40)
        for _ in range(200):
            next(turn)
        agent.engine._script = lambda prompt: None if "page_out now" in prompt[-400:] else say("Hm. " * 60)  # type: ignore[attr-defined]
        turn.close()  # type: ignore[attr-defined]
        for i in range(30):
            list(agent.send(f"Message {i}."))
        through = [
            e.details["evicted_through"]
            for e in agent.store.path(kinds=[Kind.RESULT])
            if "evicted_through" in e.details
        ]
        assert through == sorted(through)
        covers = [
            (e.details["first"], e.details["last"])
            for e in agent.store.path(kinds=[Kind.SUMMARY])
            if not e.details["level"]
        ]
        assert all(earlier[1] < later[0] for earlier, later in pairwise(covers))
        messages = [(message.tokens, message.events) for message in agent.context.messages]
    with scripted(home, n_ctx=8192, functions=[work]) as agent:
        assert [(message.tokens, message.events) for message in agent.context.messages] == messages


def test_an_interrupt_after_the_reply_throws_nothing_out(home: Path) -> None:
    def script(prompt: str) -> dict[str, object] | None:
        return None if "Call page_out now" in prompt[-400:] else say("Hm. " * 60)

    with scripted(home, script=script, n_ctx=8192) as agent:
        while agent.context.pressure < 0.8:
            list(agent.send("Fill it."))
        for event in agent.send("More. " * 60):
            if event.kind is Kind.ASSISTANT:
                agent.interrupt()
        assert summaries(agent) == []
