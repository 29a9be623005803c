"""KV caches of fewer bits: whatever type keys and values have, the model says much the same, and all that is done to a
cache can be done to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from localmem.config import ModelConfig, Paths, load_config
from localmem.engine.llama import LlamaEngine
from localmem.engine.load import load_engine
from localmem.engine.loading import LlamaOptions
from localmem.errors import ModelError
from localmem.models import kv_bytes_per_token, memory_estimate, read_gguf

TYPES = ("f16", "q8_0", "q4_0")
PAIRS = list(itertools.product(TYPES, repeat=2))
#: How far logits may be from those of f16, as a share of their length; unrelated ones are 1.4 apart. Keys count for
#: more: with random weights attention goes to few tokens, and on a small change to others.
FAR_K = {"f16": 0.001, "q8_0": 0.1, "q4_0": 0.8}
FAR_V = {"f16": 0.001, "q8_0": 0.02, "q4_0": 0.25}
MODELS_YAML = """
version: 1
default_model: own
models:
  own: {{source: {{path: {path}}}, n_ctx: 512, threads: 1, type_k: {type_k}, type_v: {type_v}}}
"""

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def wide(tiny_gguf: Callable[..., Path]) -> Path:
    """A tiny model whose heads are 32 wide, as long as a block of the quantised types."""
    return tiny_gguf("llama", heads=2)


@pytest.fixture(scope="module")
def prompt() -> list[int]:
    return [int(token) for token in np.random.default_rng(5).integers(1000, 40_000, 300)]


@pytest.fixture(scope="module")
def expected(wide: Path, prompt: list[int]) -> Logits:
    engine = LlamaEngine(wide, LlamaOptions(n_ctx=512, threads=1, flash_attn="off"))
    found = logits_after(engine, prompt)
    engine.close()
    return found


def configured(home: Path, path: Path, type_k: str, type_v: str) -> ModelConfig:
    """What models.yaml makes of the two types."""
    (home / "config").mkdir(parents=True)
    (home / "config" / "models.yaml").write_text(MODELS_YAML.format(path=path, type_k=type_k, type_v=type_v))
    return load_config(paths=Paths.under(home)).model()


@pytest.fixture(params=PAIRS, ids="-".join)
def model(request: pytest.FixtureRequest, home: Path, wide: Path) -> ModelConfig:
    return configured(home, wide, *request.param)


@pytest.fixture
def engine(model: ModelConfig) -> Iterator[LlamaEngine]:
    engine = load_engine(model)
    yield engine
    engine.close()


def logits_after(engine: LlamaEngine, prompt: list[int]) -> Logits:
    """What the model makes of the next token after `prompt`."""
    engine.generate(prompt, max_tokens=0)
    assert engine.held == prompt  # which waits for the last batch
    raw = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(engine._context, -1), shape=(engine.vocabulary.size,))
    return raw.copy()


def distance(found: Logits, expected: Logits) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_each_pair_says_nearly_what_f16_says(
    model: ModelConfig, engine: LlamaEngine, prompt: list[int], expected: Logits
) -> None:
    assert model.flash_attn == ("auto" if model.type_v == "f16" else "on")
    assert distance(logits_after(engine, prompt), expected) < FAR_K[model.type_k] + FAR_V[model.type_v]
    done = engine.generate(prompt, max_tokens=8, temperature=0)
    assert len(done.tokens) == 8
    assert done.reused_tokens == len(prompt) - 1


@pytest.mark.parametrize("model", [(name, name) for name in TYPES], ids=TYPES, indirect=True)
def test_what_is_done_to_a_cache_can_be_done_to_it(
    model: ModelConfig, engine: LlamaEngine, prompt: list[int], tmp_path: Path
) -> None:
    """Rewinding, reading ahead on the other sequence, a snapshot: then the logits are those of a cold run."""
    cold = logits_after(engine, prompt)
    other = [*prompt[:100], *reversed(prompt[100:])]
    engine.read_ahead(other)
    assert engine.wait_idle(20)
    assert engine.missing(other) == 0
    for again in (prompt, other, prompt):
        found = logits_after(engine, again)
    assert distance(found, cold) < 1e-3
    assert engine.save(tmp_path / "own.kv", prompt, agent="own", layout={}, most=1 << 30)
    fresh = load_engine(model)
    assert fresh.restore(tmp_path / "own.kv", [*prompt, 7]) == len(prompt)
    assert distance(logits_after(fresh, [*prompt, 7]), logits_after(engine, [*prompt, 7])) < 1e-3
    fresh.close()


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "mamba", "lfm2"])
def test_on_other_architectures(
    architecture: str, home: Path, tiny_gguf: Callable[..., Path], prompt: list[int]
) -> None:
    path = tiny_gguf(architecture, heads=2)
    exact = LlamaEngine(path, LlamaOptions(n_ctx=512, threads=1))
    engine = load_engine(configured(home, path, "q8_0", "q8_0"))
    wanted = logits_after(exact, prompt)
    assert distance(logits_after(engine, prompt), wanted) < FAR_K["q8_0"] + FAR_V["q8_0"]
    exact.close()
    engine.close()


def test_a_snapshot_of_one_pair_is_none_of_another(wide: Path) -> None:
    prints = set()
    for type_k, type_v in PAIRS:
        engine = LlamaEngine(wide, LlamaOptions(n_ctx=256, threads=1, flash_attn="on", type_k=type_k, type_v=type_v))
        prints.add(engine.fingerprint)
        engine.close()
    assert len(prints) == len(PAIRS)


def test_the_estimate_counts_the_types(model: ModelConfig, engine: LlamaEngine, wide: Path, prompt: list[int]) -> None:
    info = read_gguf(wide)
    engine.generate(prompt, max_tokens=0)
    assert engine.held == prompt
    state = llama_cpp.llama_state_seq_get_size(engine._context, engine._sequences.current.sequence)
    per_token = kv_bytes_per_token(info, model.type_k, model.type_v)
    assert state == pytest.approx(len(prompt) * per_token, rel=0.2)  # and a little about each cell
    assert memory_estimate(info, model, 512) > 768 * per_token


def test_a_width_that_no_block_fits_is_one_line(home: Path, tiny_gguf: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="q8_0") as caught:
        load_engine(configured(home, tiny_gguf("llama"), "q8_0", "q8_0"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "far"), [("q8_0", 0.1), ("q4_0", 0.3)])
def test_the_bundled_model_knows_the_same(name: str, far: float, home: Path, wheel_path: Path) -> None:
    """As it is fetched: its adapter teaches it to write calls, and makes it less sure of prose."""
    engines = [
        LlamaEngine(wheel_path, LlamaOptions(n_ctx=512, threads=1)),
        load_engine(configured(home, wheel_path, name, name)),
    ]
    try:
        text = "Paris is the capital of France. Rome is the capital of"
        exact, found = (logits_after(engine, engine.vocabulary.tokenize(text)) for engine in engines)
        assert distance(found, exact) < far
        assert engines[1].vocabulary.detokenize([int(found.argmax())]) == " Italy"
    finally:
        for engine in engines:
            engine.close()
