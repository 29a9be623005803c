"""The engine on real llama.cpp, with tiny random models: batches, interrupts, budgets, determinism, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.errors import GrammarError, ModelError
from localmem.grammar.compile import compile_grammar
from localmem.grammar.schema import arguments, bounded, call_schema, one_of, text
from localmem.protocols import Generation

CALLS = call_schema(
    {
        "send_message": [arguments({"message": text(120)})],
        "core_memory_append": [arguments({"block": one_of(["human", "é😀"]), "content": text(60)})],
        "own": [arguments({"n": bounded({"type": "integer"}), "x": bounded({"type": "number"})}, optional=["x"])],
    },
    longest_thought=80,
)


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(threads=1, n_ctx=2048, n_batch=64))
    yield engine
    engine.close()


def _cold(engine: LlamaEngine, path: Path, prompt: list[int], n: int = 8) -> list[int]:
    fresh = LlamaEngine(path, engine.options)
    try:
        return fresh.generate(prompt, max_tokens=n, temperature=0).tokens
    finally:
        fresh.close()


# -- decoding


def test_temperature_0_is_greedy_and_a_seed_is_determined(engine: LlamaEngine) -> None:
    greedy = [engine.generate("Hello", max_tokens=12, temperature=0, seed=s).tokens for s in (1, 2)]
    assert greedy[0] == greedy[1]
    drawn = [engine.generate("Hello", max_tokens=12, temperature=1.5, seed=s).tokens for s in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    free = [tuple(engine.generate("Hello", max_tokens=12, temperature=1.5).tokens) for _ in range(3)]
    assert len(set(free)) > 1


def test_on_text_gets_whole_characters_that_make_up_the_text(engine: LlamaEngine) -> None:
    for seed in range(5):
        pieces: list[str] = []
        out = engine.generate("Hello", max_tokens=60, temperature=2.0, seed=seed, on_text=pieces.append)
        assert "".join(pieces) == out.text
        assert all(pieces)


def test_the_last_tokens_are_in_the_cache_and_figures_are_true(engine: LlamaEngine, tiny_model_path: Path) -> None:
    first = engine.generate("The first prompt, of some length", max_tokens=9, temperature=0)
    prompt = [*engine.vocabulary.tokenize("The first prompt, of some length"), *first.tokens]
    assert engine.held[-len(prompt) :] == prompt
    again = engine.generate([*prompt, 100, 101], max_tokens=5, temperature=0)
    assert (again.prompt_tokens, again.reused_tokens, again.diverged_at) == (len(prompt) + 2, len(prompt), None)
    assert again.tokens == _cold(engine, tiny_model_path, [*prompt, 100, 101], 5)
    same = engine.generate([*prompt, 100, 101, *again.tokens], max_tokens=5, temperature=0)
    assert same.reused_tokens == same.prompt_tokens - 1  # one token is decoded again for its logits
    assert same.tokens == _cold(engine, tiny_model_path, [*prompt, 100, 101, *again.tokens], 5)
    shorter = engine.generate(prompt[:4], max_tokens=5, temperature=0)
    assert (shorter.reused_tokens, shorter.diverged_at) == (3, 4)
    other = engine.generate([*prompt[:2], 7, 8, 9], max_tokens=1, temperature=0)
    assert (other.reused_tokens, other.diverged_at) == (2, 2)
    assert other.ttft_s > 0


def test_max_tokens_0_only_prefills(engine: LlamaEngine) -> None:
    out = engine.generate("Warm this up", max_tokens=0)
    assert (out.tokens, out.finish, out.text) == ([], "length", "")
    assert engine.generate("Warm this up", max_tokens=1).reused_tokens == out.prompt_tokens - 1


@pytest.mark.parametrize("temperature", [1.5, 2.0])
def test_a_random_model_writes_only_valid_calls_at_any_budget(engine: LlamaEngine, temperature: float) -> None:
    grammar = compile_grammar(CALLS)
    finishes = set()
    for seed, budget in enumerate([40, 41, 43, 46, 50, 55, 60, 70, 90, 140]):
        pieces: list[str] = []
        out = engine.generate(
            "Call", constraint=grammar, max_tokens=budget, temperature=temperature, seed=seed, on_text=pieces.append
        )
        assert len(out.tokens) <= budget
        assert out.text == "".join(pieces) == engine.vocabulary.detokenize(out.tokens)
        call = json.loads(out.text)
        assert list(call) == ["thought", "function", "arguments"]
        matcher = grammar.bind(engine.vocabulary)
        assert all(matcher.accept(t) for t in engine.vocabulary.tokenize(out.text))
        assert matcher.complete
        assert out.finish in ("stop", "closed")
        assert not {*out.tokens} & engine.vocabulary.control_tokens
        assert engine.held[-len(out.tokens) :] == out.tokens
        finishes.add(out.finish)
    assert finishes >= {"closed"}


def test_a_document_that_does_not_fit_the_budget_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(GrammarError, match="max_tokens"):
        engine.generate("x", constraint=compile_grammar(CALLS), max_tokens=5)
    assert engine.generate("x", max_tokens=3).finish == "length"


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "mamba"])
def test_other_architectures_never_continue_on_a_wrong_cache(tiny_gguf: Callable[..., Path], architecture: str) -> None:
    path = tiny_gguf(architecture)
    engine = LlamaEngine(path, LlamaOptions(threads=1, n_ctx=512, n_batch=32))
    base = list(range(100, 180))  # longer than gemma3's window of 32
    try:
        first = engine.generate(base, max_tokens=6, temperature=0)
        for prompt in ([*base, *first.tokens, 5], [*base[:50], 9], base[:10], base):
            out = engine.generate(prompt, max_tokens=6, temperature=0)
            assert out.tokens == _cold(engine, path, prompt, 6)
            if architecture == "mamba" and out.diverged_at is not None:
                assert out.reused_tokens == 0
    finally:
        engine.close()


# -- interrupts


def _interrupt_when(engine: LlamaEngine, ready: Callable[[], bool]) -> threading.Thread:
    def wait() -> None:
        while not ready():
            time.sleep(0.0005)
        engine.interrupt()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_an_interrupt_during_prefill_keeps_only_what_was_decoded(engine: LlamaEngine, tiny_model_path: Path) -> None:
    prompt = [(7 * i) % 40000 + 100 for i in range(1900)]
    engine.generate([1], max_tokens=1)
    thread = _interrupt_when(engine, lambda: len(engine._source.cache.log) > 200)
    out = engine.generate(prompt, max_tokens=20)
    thread.join()
    held = engine.held
    assert (out.finish, out.tokens) == ("interrupted", [])
    assert 0 < len(held) < len(prompt)
    assert held == prompt[: len(held)]
    resumed = engine.generate(prompt[:600], max_tokens=8, temperature=0)
    assert resumed.reused_tokens == min(len(held), 599)
    assert resumed.tokens == _cold(engine, tiny_model_path, prompt[:600])


def test_an_interrupt_during_decode_keeps_the_partial_text(engine: LlamaEngine, tiny_model_path: Path) -> None:
    pieces: list[str] = []

    def on_text(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 5:
            engine.interrupt()

    out = engine.generate([5, 6, 7], max_tokens=2000, temperature=1.0, seed=3, on_text=on_text)
    assert out.finish == "interrupted"
    assert 0 < len(out.tokens) < 2000
    assert "".join(pieces) == out.text
    prompt = [5, 6, 7, *out.tokens[:20], 8]
    assert engine.generate(prompt, max_tokens=8, temperature=0).tokens == _cold(engine, tiny_model_path, prompt)


def test_an_interrupt_before_a_generation_does_not_end_it(engine: LlamaEngine) -> None:
    engine.interrupt()
    assert engine.generate("x", max_tokens=3, temperature=0).finish in ("length", "stop")


def test_an_exception_in_on_text_ends_the_generation_and_nothing_else(
    engine: LlamaEngine, tiny_model_path: Path
) -> None:
    def fail(piece: str) -> None:
        raise ZeroDivisionError(piece)

    with pytest.raises(ZeroDivisionError):
        engine.generate("Hello", max_tokens=500, on_text=fail)
    prompt = [5, 6, 7]
    assert engine.generate(prompt, max_tokens=8, temperature=0).tokens == _cold(engine, tiny_model_path, prompt)


def test_generations_of_two_threads_follow_one_another(engine: LlamaEngine) -> None:
    alone = [engine.generate([9, 9, s], max_tokens=40, temperature=0).tokens for s in range(4)]
    found: dict[int, Generation] = {}
    threads = [
        threading.Thread(target=lambda s=s: found.update({s: engine.generate([9, 9, s], max_tokens=40, temperature=0)}))
        for s in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[s].tokens for s in range(4)] == alone


_CTRL_C = """
import sys
from pathlib import Path
from localmem.engine.llama import LlamaEngine, LlamaOptions
engine = LlamaEngine(Path(sys.argv[1]), LlamaOptions(threads=1, n_ctx=32768, n_batch=64))
print("ready", flush=True)
g = engine.generate([1, 2, 3], max_tokens=32000, temperature=0, on_text=lambda t: print("t", flush=True))
h = engine.generate([1, 2, 3], max_tokens=5, temperature=0)
print("\\nend", g.finish, 0 < len(g.tokens) < 32000, h.finish, g.tokens[:5] == h.tokens[: len(g.tokens)], flush=True)
engine.close()
"""


def test_ctrl_c_in_the_main_thread_ends_the_generation(tiny_gguf: Callable[..., Path], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _CTRL_C, str(tiny_gguf())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LOCALMEM_HOME": str(tmp_path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "t":
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert "end interrupted True length True" in out, err
    assert process.returncode == 0


# -- closing, and what cannot be done


def test_a_closed_engine_says_so(tiny_model_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(threads=1, n_ctx=256))
    engine.close()
    engine.close()
    for use in (lambda: engine.generate("x"), lambda: engine.vocabulary.tokenize("x")):
        with pytest.raises(ModelError, match="closed"):
            use()
    engine.interrupt()


def test_closing_during_use_ends_the_generation_first(tiny_model_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(threads=1, n_ctx=2048))
    out = engine.generate([1, 2], max_tokens=1500, on_text=lambda _: engine.close())
    assert out.finish == "interrupted"
    with pytest.raises(ModelError, match="closed"):
        engine.generate("x")


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [("", 5, "empty"), ([], 5, "empty"), ("x", 5000, "n_ctx 2048"), (list(range(1, 2049)), 1, "n_ctx 2048")],
)
def test_prompts_that_cannot_be(engine: LlamaEngine, prompt: Any, max_tokens: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        engine.generate(prompt, max_tokens=max_tokens)


@pytest.mark.parametrize("bad", [-1, 49152, 10**6])
def test_token_ids_outside_the_vocabulary_are_refused_before_llama_cpp_sees_them(engine: LlamaEngine, bad: int) -> None:
    with pytest.raises(ModelError, match="token"):
        engine.generate([1, bad, 2], max_tokens=1)


def test_the_whole_window_can_be_used(engine: LlamaEngine) -> None:
    prompt = [(3 * i) % 40000 + 100 for i in range(2040)]
    out = engine.generate(prompt, max_tokens=8, temperature=0)
    assert len(out.tokens) == 8 or out.finish == "stop"


@pytest.mark.parametrize("n_batch", [1, 7, 512, 5000])
def test_any_n_batch_gives_the_same_tokens(engine: LlamaEngine, tiny_model_path: Path, n_batch: int) -> None:
    prompt = list(range(100, 140))
    other = LlamaEngine(tiny_model_path, LlamaOptions(threads=1, n_ctx=256, n_batch=n_batch))
    try:
        assert other.generate(prompt, max_tokens=6, temperature=0).tokens == _cold(engine, tiny_model_path, prompt, 6)
    finally:
        other.close()


def test_load_errors_are_one_line(tmp_path: Path, tiny_model_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model_path.read_bytes()[:5_000_000])
    for path in (broken, cut, tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelError) as caught:
            LlamaEngine(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(ModelError, match="adapter"):
        LlamaEngine(tiny_model_path, LlamaOptions(threads=1, n_ctx=256, adapter=broken))
    shown = capfd.readouterr()
    assert shown.err == ""
