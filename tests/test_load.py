"""load_engine: by name, alias or path; windows that fit and windows that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from localmem.config import load_config
from localmem.engine.load import load_engine
from localmem.errors import ConfigError, LocalmemError, ModelError


def test_by_path_with_the_window_that_fits(tiny_gguf: Callable[..., Path]) -> None:
    path = tiny_gguf("llama", n_ctx=512)
    engine = load_engine(path, n_ctx=0)
    assert engine.n_ctx == 512
    assert engine.generate("Hi", max_tokens=2).prompt_tokens > 0
    engine.close()
    engine = load_engine(str(path), n_ctx=256)
    assert (engine.n_ctx, engine.name) == (256, path.stem)
    engine.close()


@pytest.mark.parametrize("which", ["name", "alias", "config"])
def test_by_name_and_alias(with_models: Path, which: str) -> None:
    model = load_config().model("smollm2-135m")
    given = {"name": model.name, "alias": (*model.aliases, model.name)[0], "config": model}[which]
    engine = load_engine(given, n_ctx=256)
    assert engine.name == "smollm2-135m"
    assert engine.vocabulary.size == 49152
    engine.close()


def test_an_unknown_name_says_what_there_is(home: Path) -> None:
    with pytest.raises(LocalmemError, match="smollm2-135m"):
        load_engine("smollm2-135n")


def test_a_window_larger_than_ram_is_refused_before_loading(tiny_model_path: Path) -> None:
    with pytest.raises((ModelError, ConfigError)) as caught:
        load_engine(tiny_model_path, n_ctx=2_000_000_000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"nonsense" * 100, None])
def test_broken_files_are_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.gguf"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(LocalmemError) as caught:
        load_engine(path)
    assert "\n" not in str(caught.value)
