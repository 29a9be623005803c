"""Two sequences and their checkpoints: whatever is read, left, come back to, saved and restored, the next logits are
those of a model that has read the prompt for the first time. On every architecture."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions

ARCHITECTURES = ("llama", "gemma3", "mamba", "lfm2")
N_CTX = 512


def load(path: Path, **options: object) -> LlamaEngine:
    return LlamaEngine(path, LlamaOptions(n_ctx=N_CTX, n_batch=32, threads=1, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pair(request: pytest.FixtureRequest, tiny_gguf: Callable[..., Path]) -> Iterator[tuple[LlamaEngine, LlamaEngine]]:
    """One engine that keeps what it can, and one that is emptied before each prompt."""
    path = tiny_gguf(request.param)
    engines = load(path), load(path)
    yield engines
    for engine in engines:
        engine.close()


def logits_after(engine: LlamaEngine, prompt: list[int]) -> NDArray[np.float32]:
    """What the model makes of the next token after `prompt`."""
    engine.generate(prompt, max_tokens=0)
    assert engine.held == prompt  # which waits for the last batch
    raw = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(engine._context, -1), shape=(engine.vocabulary.size,))
    return raw.copy()


def cold(engine: LlamaEngine) -> None:
    engine.missing([1])
    engine._sequences.current.clear()
    engine._sequences.forget_ahead()


class Life:
    """A random script of what agents do to a cache."""

    def __init__(self, engine: LlamaEngine, seed: int, folder: Path) -> None:
        self.engine, self.random, self.folder = engine, random.Random(seed), folder
        self.system = self.tokens(40)
        self.prompt = list(self.system)
        self.saved: list[tuple[Path, list[int]]] = []

    def tokens(self, count: int) -> list[int]:
        return [self.random.randrange(300, 2000) for _ in range(count)]

    def append(self) -> None:
        room = N_CTX - 60 - len(self.prompt)
        if room < 20:
            self.rebase()
            return
        out = self.engine.generate([*self.prompt, *self.tokens(self.random.randint(1, min(40, room)))], max_tokens=8)
        assert out.prompt_tokens >= out.reused_tokens
        self.prompt = self.engine.held

    def rewind(self) -> None:
        self.prompt = self.prompt[: max(1, len(self.prompt) - self.random.randint(1, 60))]

    def evict(self) -> None:
        """What stood in the middle goes, and the prompt is read anew from there."""
        keep = self.prompt[-self.random.randint(1, 40) :]
        self.prompt = [*self.system, *self.tokens(12), *keep]

    def rebase(self) -> None:
        """The same, read ahead: now and then the reading is broken off, or the old prompt goes on meanwhile."""
        target = [*self.system, *self.tokens(12), *self.prompt[-self.random.randint(1, 60) :]]
        if self.engine.read_ahead(target):
            if self.random.random() < 0.5:
                assert self.engine.wait_idle(20)
                assert self.engine.missing(target) == 0
            if self.random.random() < 0.3 and len(self.prompt) < N_CTX - 80:
                more = self.tokens(10)
                self.engine.generate([*self.prompt, *more], max_tokens=4)
                target += more
        self.prompt = target

    def extract(self) -> None:
        """Something else altogether comes between."""
        self.engine.generate(self.tokens(30), max_tokens=3)

    def save(self) -> None:
        file = self.folder / f"{len(self.saved)}.kv"
        if held := self.engine.held:
            assert self.engine.save(file, held, agent="a", layout={"n": len(held)}, most=1 << 30)
            self.saved.append((file, held))

    def restore(self) -> None:
        if self.saved:
            file, tokens = self.random.choice(self.saved)
            self.prompt = tokens[: self.random.randint(max(1, len(tokens) - 20), len(tokens))]
            assert 0 <= self.engine.restore(file, self.prompt) <= len(self.prompt)

    def interrupted(self) -> None:
        self.engine.read_ahead([*self.prompt, *self.tokens(10)])
        self.engine.interrupt()


@pytest.mark.parametrize("seed", range(4))
def test_after_any_script_the_logits_are_those_of_a_cold_run(
    pair: tuple[LlamaEngine, LlamaEngine], seed: int, tmp_path: Path
) -> None:
    warm, other = pair
    cold(warm)
    life = Life(warm, seed, tmp_path)
    steps = [life.append, life.append, life.append, life.rewind, life.evict, life.rebase, life.rebase, life.extract]
    steps += [life.save, life.restore, life.interrupted]
    for _ in range(40):
        life.random.choice(steps)()
        found = logits_after(warm, life.prompt)
        cold(other)
        expected = logits_after(other, life.prompt)
        scale = float(np.abs(expected).max())
        assert np.abs(found - expected).max() <= 0.02 * scale
    assert warm.idle_tokens > 0


def test_a_prompt_read_ahead_waits_beside_the_one_that_goes_on(pair: tuple[LlamaEngine, LlamaEngine]) -> None:
    engine, _ = pair
    cold(engine)
    old, new = list(range(300, 400)), [*range(300, 340), *range(500, 560)]
    engine.generate(old, max_tokens=0)
    assert engine.read_ahead(new)
    assert engine.wait_idle(20)
    assert engine.missing(new) == 0
    if engine._sequences.current.rewinds:
        assert engine.generate([*old, 7], max_tokens=0).reused_tokens == len(old)
    out = engine.generate([*new, 7], max_tokens=0)
    assert (out.reused_tokens, out.diverged_at) == (len(new), None)


def test_what_does_not_fit_beside_the_window_is_not_read(tiny_gguf: Callable[..., Path]) -> None:
    engine = load(tiny_gguf("llama"))
    engine.generate(list(range(300, 700)), max_tokens=0)
    assert not engine.read_ahead(list(range(1000, 1400)))
    assert engine.held == list(range(300, 700))
    engine.close()
    engine = load(tiny_gguf("llama"), reads_ahead=False)
    engine.generate(list(range(300, 400)), max_tokens=0)
    assert engine.read_ahead(list(range(300, 420)))  # it extends what is held
    assert not engine.read_ahead([*range(300, 340), *range(1000, 1040)])
    engine.close()


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_reading_ahead_yields_at_once(architecture: str, tiny_gguf: Callable[..., Path]) -> None:
    """Whether a batch can be broken off or not: what is asked next does not wait for the rest."""
    engine = LlamaEngine(tiny_gguf(architecture), LlamaOptions(n_ctx=4096, threads=1))
    chance = random.Random(1)
    prompt = [chance.randrange(300, 2000) for _ in range(4000)]
    waited = []
    for _ in range(5):
        assert engine.read_ahead(prompt)
        assert engine.reading or engine.wait_idle(0)
        time.sleep(0.02)
        started = time.perf_counter()
        left = engine.missing(prompt)
        waited.append(time.perf_counter() - started)
    assert 0 <= left < 4000
    assert engine.idle_tokens == 4000 - left
    assert sorted(waited)[0] < 0.15  # at least once: a busy machine may take its time
    engine.close()
