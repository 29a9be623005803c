"""Closing and opening: the KV cache goes on where it was left, and what does not fit is read again, not believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Clock, agent_on

from localmem.agent import Agent
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.engine.snapshot_file import read_head
from localmem.events import Kind
from localmem.protocols import Sampling
from localmem.summaries import CALL_TAKEN_OUT

N_CTX = 3072


@pytest.fixture(params=["llama", "mamba", "gemma3"])
def load(request: pytest.FixtureRequest, tiny_gguf: Callable[..., Path]) -> Iterator[Callable[..., LlamaEngine]]:
    """Loads an engine that has never read anything."""
    engines: list[LlamaEngine] = []

    def loaded(seed: int = 0) -> LlamaEngine:
        sampling = Sampling(temperature=1.0, seed=3)
        options = LlamaOptions(n_ctx=N_CTX, threads=1, sampling=sampling)
        engines.append(LlamaEngine(tiny_gguf(request.param, seed=seed), options))
        return engines[-1]

    yield loaded
    for engine in engines:
        engine.close()


def talk(agent: Agent, *texts: str) -> None:
    for text in texts:
        events = [event for event in agent.send(text) if not event.details.get("paging")]
        assert events[-1].kind in (Kind.ASSISTANT, Kind.ALERT)


def conversation_file(agent: Agent) -> Path:
    return agent.store.path_on_disk.parent / "kv" / f"{agent.engine.fingerprint[:16]}.kv"


def test_an_agent_goes_on_where_it_was_left(home: Path, load: Callable[..., LlamaEngine]) -> None:
    clock = Clock()
    with agent_on(home, load(), clock=clock, max_steps=2) as agent:
        talk(agent, "One.", "Two.", "Three.")
        assert agent.engine.wait_idle(30)
        written, file, said = agent.context.written, conversation_file(agent), agent.store.head
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"Three." not in file.read_bytes()[:64]
    with agent_on(home, load(), clock=clock, max_steps=2) as agent:
        assert agent.context.written == written
        assert agent.context.rebases == {}
        assert agent.stats()["restored_tokens"] >= len(written) - 4
        assert agent.engine.held == written[: len(agent.engine.held)]
        talk(agent, "Four.")
        first = agent.store.path(after=said, kinds=[Kind.CALL])[0]
        assert first.stats is not None
        assert first.stats["reused_tokens"] >= agent.stats()["restored_tokens"]
        assert set(agent.context.meter.divergences) <= {CALL_TAKEN_OUT}


def test_a_new_agent_begins_behind_the_static_prefix(home: Path, load: Callable[..., LlamaEngine]) -> None:
    with agent_on(home, load(), name="first", max_steps=1) as agent:
        assert agent.stats()["restored_tokens"] == 0
        talk(agent, "Hello.")
        prefix, system = agent.context.prefix, len(agent.context.in_force.system)
    with agent_on(home, load(), name="second", max_steps=1) as agent:
        assert agent.stats()["restored_tokens"] == prefix
        talk(agent, "Hello.")
        assert agent.context.meter.reused_tokens >= prefix
    for name, restored in (("third", 0), ("fourth", system)):
        with agent_on(home, load(), name=name, human="Ada, who tells nobody.", max_steps=1) as agent:
            assert agent.stats()["restored_tokens"] == restored
            talk(agent, "Hello.")
    static = [read_head(file)[0] for file in home.rglob("*.kv") if read_head(file)[0].kind == "static"]
    assert sorted(header.n_tokens for header in static) == [system, prefix]


def _damage(file: Path, agent: Agent) -> None:
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)


def _shorten(file: Path, agent: Agent) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _empty(file: Path, agent: Agent) -> None:
    file.write_bytes(b"")


def _delete(file: Path, agent: Agent) -> None:
    file.unlink()


@pytest.mark.parametrize("spoil", [_damage, _shorten, _empty, _delete])
def test_a_snapshot_that_is_no_good_is_ignored_and_replaced(
    home: Path, load: Callable[..., LlamaEngine], spoil: Callable[[Path, Agent], None]
) -> None:
    clock = Clock()
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        talk(agent, "One.")
        file = conversation_file(agent)
    spoil(file, agent)
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        assert agent.stats()["restored_tokens"] <= len(agent.context.in_force.system)
        talk(agent, "Two.")
        length = len(agent.context.written)
    header, tokens = read_head(file)
    assert length - 8 <= len(tokens) == header.n_tokens


def test_another_model_reads_anew_and_has_a_snapshot_of_its_own(home: Path, load: Callable[..., LlamaEngine]) -> None:
    clock = Clock()
    files = []
    for seed, expected in ((0, False), (1, False), (0, True)):
        with agent_on(home, load(seed), clock=clock, max_steps=1) as agent:
            assert (agent.stats()["restored_tokens"] > len(agent.context.in_force.system)) == expected
            talk(agent, "Hello.")
            files.append(conversation_file(agent))
    assert files[0] == files[2] != files[1]


def test_what_was_said_since_makes_no_difference_to_what_is_still_right(
    home: Path, load: Callable[..., LlamaEngine]
) -> None:
    """A snapshot of an earlier time serves as far as it goes; a model that cannot rewind uses it whole, or not."""
    clock = Clock()
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        talk(agent, "One.", "Two.")
        file = conversation_file(agent)
    kept = file.read_bytes()
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        talk(agent, "Three.")
        agent.pop(2)
        talk(agent, "Another two.")
    file.write_bytes(kept)
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        restored = agent.stats()["restored_tokens"]
        assert agent.engine.held[:restored] == agent.context.written[:restored]
        if agent.engine._sequences.layout.shares:  # type: ignore[attr-defined]
            assert restored > len(agent.context.in_force.system)
        assert [e.text for e in agent.store.path(kinds=[Kind.USER])] == ["One.", "Another two."]
        talk(agent, "Five.")


@pytest.mark.parametrize("budget", [0, 100])
def test_within_the_budget_or_not_at_all(home: Path, load: Callable[..., LlamaEngine], budget: int) -> None:
    from dataclasses import replace

    from localmem.config import Paths, load_config
    from localmem.memory.embedder import HashEmbedder
    from localmem.opening import Setting, open_agent

    config = replace(load_config(), kv_disk_budget=budget)
    setting = Setting(config, Paths.under(home), engine=load(), embedder=HashEmbedder())
    with open_agent("a", setting=setting, max_steps=1) as agent:
        talk(agent, "Hello.")
    assert list(home.rglob("*.kv")) == []


def test_a_page_out_that_was_pending_still_is(home: Path, load: Callable[..., LlamaEngine]) -> None:
    clock = Clock()
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        agent.engine.read_ahead = lambda prompt: False  # type: ignore[method-assign]  # the machine has no idle time
        talk(agent, *(f"Message {i}." for i in range(4)))
        list(agent.summarize())
        pending = agent.context.coming
        assert agent.context.pending is not None
        written = agent.context.written
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        assert agent.context.written == written
        assert agent.context.coming == pending
        restored: Any = agent.stats()["restored_tokens"]
        assert restored >= len(written) - 8
        agent.idle()
        assert agent.engine.wait_idle(30)
        talk(agent, "Next.")
        assert agent.context.rebases == {"page-out": 1}
        assert agent.context.pending is None


def test_a_disk_that_refuses_is_no_error(home: Path, load: Callable[..., LlamaEngine]) -> None:
    """A file stands where each folder of snapshots would be: at open, after the first generation, at close."""
    for folder in (home / "cache" / "kv", home / "data" / "agents" / "test" / "kv"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.write_text("in the way")
    with agent_on(home, load(), max_steps=1) as agent:
        talk(agent, "One.", "Two.")
    agent.close()  # and once more
    with agent_on(home, load(), max_steps=1) as agent:
        talk(agent, "Three.")
        assert len(agent.store.path(kinds=[Kind.USER])) == 3


def test_other_functions_begin_behind_their_own_static_prefix(home: Path, load: Callable[..., LlamaEngine]) -> None:
    def celsius(fahrenheit: float) -> float:
        """Convert a temperature."""
        return fahrenheit

    clock = Clock()
    with agent_on(home, load(), clock=clock, name="other", functions=[celsius], max_steps=1) as agent:
        talk(agent, "Hello.")
        prefix = agent.context.prefix
    with agent_on(home, load(), clock=clock, max_steps=1) as agent:
        talk(agent, "One.")
    with agent_on(home, load(), clock=clock, name="new", functions=[celsius], max_steps=1) as agent:
        assert agent.stats()["restored_tokens"] == prefix
    with agent_on(home, load(), clock=clock, functions=[celsius], max_steps=1) as agent:
        held = agent.engine.held
        assert agent.context.written[: len(held)] == held or agent.engine._sequences.layout.rewinds  # type: ignore[attr-defined]
        talk(agent, "Two.")


def test_nothing_is_read_once_the_agent_is_closed(home: Path, load: Callable[..., LlamaEngine]) -> None:
    engine = load()
    with agent_on(home, engine, max_steps=1) as agent:
        talk(agent, "One.")
        agent.engine.read_ahead([*agent.context.written, *range(300, 1200)])
    assert not engine.reading


def test_what_an_exception_left_half_done_is_noticed(tiny_gguf: Callable[..., Path]) -> None:
    """Ctrl-C between what the cache holds and what its log says: the log is made true before it is used."""
    engine = LlamaEngine(tiny_gguf("llama"), LlamaOptions(n_ctx=512, threads=1))
    prompt = list(range(300, 400))
    engine.generate(prompt, max_tokens=0)
    log = engine.held
    engine._sequences.current.clear()
    engine._sequences.current.log[:] = log
    out = engine.generate([*prompt, 7], max_tokens=0)
    assert out.reused_tokens == 0
    engine.close()


@pytest.mark.parametrize("n_ctx", [1024, 2048, 2560])
def test_spare_cells_do_not_make_a_window_long(n_ctx: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """LongRoPE takes other factors where a context has more cells than the model was trained on at first."""
    from localmem.engine import sequences

    monkeypatch.setattr(sequences, "original_context", lambda model: 2048)
    for name in ("llama_model_n_swa", "llama_model_is_recurrent", "llama_model_is_hybrid"):
        monkeypatch.setattr(sequences.llama_cpp, name, lambda model: 0)
    layout = sequences.Layout.of(None, n_ctx, reads_ahead=True)
    assert (layout.cells > 2048) == (n_ctx > 2048)
