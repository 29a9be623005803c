"""The same conversation on another model, of another architecture, by changing one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import localmem
from localmem.config import Paths, load_config
from localmem.events import Kind
from localmem.memory.embedder import HashEmbedder
from localmem.opening import Setting

MODELS_YAML = """
version: 1
default_model: first
models:
  first: {{source: {{path: {first}}}, n_ctx: 4096, threads: 1, sampling: {{seed: 1}}}}
  second: {{source: {{path: {second}}}, n_ctx: 4096, threads: 1, sampling: {{seed: 1}}}}
"""


@pytest.mark.parametrize("architectures", [("llama", "qwen2"), ("qwen2", "gemma3"), ("llama", "mamba")])
def test_one_name_is_all_that_changes(
    home: Path, tiny_gguf: Callable[..., Path], architectures: tuple[str, str]
) -> None:
    first, second = (tiny_gguf(architecture) for architecture in architectures)
    (home / "config").mkdir(parents=True)
    (home / "config" / "models.yaml").write_text(MODELS_YAML.format(first=first, second=second))
    paths = Paths.under(home)
    setting = Setting(load_config(paths=paths), paths, embedder=HashEmbedder())
    # The small preset: what is read is of no interest.
    for number, model in enumerate(("first", "second", "first")):
        with localmem.open_agent("ada", setting=replace(setting), model=model, max_steps=1, prompt="compact") as agent:
            assert agent.engine.name == model
            messages = [e.text for e in agent.store.path(kinds=[Kind.USER])]
            assert messages == [f"Message {i}." for i in range(number)]
            shown = agent.engine.vocabulary.detokenize(agent.context.prompt())
            assert all(message in shown for message in messages)
            assert list(agent.send(f"Message {number}."))[-1].kind in (Kind.ASSISTANT, Kind.ALERT)
            assert agent.recall.search("Message", kinds=[Kind.USER]).total == number + 1
