"""The KV cache and its log: after any history the next tokens are those of an engine that has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmem.engine.kv import common_prefix
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions

_tokens = st.lists(st.integers(0, 3), max_size=12)


@given(a=_tokens, b=_tokens)
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba"])
def engines(
    request: pytest.FixtureRequest, tiny_gguf: Callable[..., Path]
) -> Iterator[tuple[LlamaEngine, LlamaEngine]]:
    """One that keeps its cache, and one that is emptied before each prompt."""
    pair = [LlamaEngine(tiny_gguf(request.param), LlamaOptions(n_ctx=256, n_batch=16, threads=1)) for _ in range(2)]
    yield pair[0], pair[1]
    for engine in pair:
        engine.close()


_PARTS = {0: range(100, 117), 1: range(200, 203), 2: range(300, 340), 3: [7]}
_scripts = st.lists(
    st.tuples(st.lists(st.sampled_from(sorted(_PARTS)), min_size=1, max_size=4), st.booleans(), st.integers(0, 5)),
    min_size=2,
    max_size=5,
)


@given(script=_scripts)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_no_history_changes_what_comes_next(
    engines: tuple[LlamaEngine, LlamaEngine], script: list[tuple[list[int], bool, int]]
) -> None:
    kept, cold = engines
    before: list[int] = []
    for parts, extend, count in script:
        new = [token for part in parts for token in _PARTS[part]]
        prompt = [*before, *new][:200] if extend else new
        held = kept.held
        out = kept.generate(prompt, max_tokens=count, temperature=0)
        cold._wait()
        cold._source.cache.clear()
        expected = cold.generate(prompt, max_tokens=count, temperature=0)
        assert out.tokens == expected.tokens
        assert expected.reused_tokens == 0
        shared = common_prefix(held, prompt)
        assert out.reused_tokens in (0, min(shared, len(prompt) - 1))
        assert out.diverged_at == (shared if shared < len(held) else None)
        before = [*prompt, *out.tokens]
        assert kept.held == before
        assert kept._source.cache._last_position() == len(before) - 1


def test_a_log_that_claims_too_much_is_cut_to_what_the_cache_holds(tiny_model_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=256, threads=1))
    cache = engine._source.cache
    engine.generate([1, 2, 3, 4], max_tokens=0)
    assert engine.held == [1, 2, 3, 4]
    cache.log += [9, 9]
    cache.resync()
    assert cache.log == [1, 2, 3, 4]
    del cache.log[2:]
    cache.resync()
    assert (cache.log, cache._last_position()) == ([1, 2], 1)
    cache.clear()
    assert (cache.log, cache._last_position()) == ([], -1)
    engine.close()


def test_a_recurrent_state_is_not_believed_after_a_failure(tiny_gguf: Callable[..., Path]) -> None:
    engine = LlamaEngine(tiny_gguf("mamba"), LlamaOptions(n_ctx=256, threads=1))
    engine.generate([1, 2, 3, 4], max_tokens=0)
    assert engine.held == [1, 2, 3, 4]
    engine._source.resync()
    assert engine.held == []
    assert engine.generate([1, 2, 3, 4, 5], max_tokens=0).reused_tokens == 0
    engine.close()
