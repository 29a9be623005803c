"""Adapters merged into a model's file: the numbers against llama.cpp's own, the file's life, and what is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf_files import factors, write_lora
from numpy.typing import NDArray

from localmem import models
from localmem.cli import console, main
from localmem.config import Adapter, ModelConfig, Paths, PathSource, Quantisation
from localmem.engine.load import load_engine
from localmem.engine.loading import LlamaOptions, apply_adapter, load_model, new_context
from localmem.errors import ModelError
from localmem.models import disk, merged, merging
from localmem.models.gguf_layout import read_layout
from localmem.models.merged import Recipe
from localmem.models.merging import merge

EMBD, FF, KV = 64, 128, 32
SHAPES = {
    "attn_q": (EMBD, EMBD), "attn_k": (KV, EMBD), "attn_v": (KV, EMBD), "attn_output": (EMBD, EMBD),
    "ffn_gate": (FF, EMBD), "ffn_up": (FF, EMBD), "ffn_down": (EMBD, FF),
}  # fmt: skip
ALL = {f"blk.{layer}.{name}.weight": shape for layer in range(2) for name, shape in SHAPES.items()}
TOKENS = [5, 300, 41, 7, 999, 12, 40_000, 3]


def quantised(default: str, **others: str) -> Quantisation:
    ffn = others.get("ffn", default)
    return Quantisation(**({"default": default, "embedding": default, "ffn": ffn, "ffn_down": ffn} | others))


def recipe(quantisation: Quantisation | str = "f16", scale: float = 1.0) -> Recipe:
    chosen = quantised(quantisation) if isinstance(quantisation, str) else quantisation
    return Recipe("1" * 64, "2" * 64, scale, chosen)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "lora.gguf", factors(ALL))


# --- the numbers -----------------------------------------------------------------------------------------------------


def logits(path: Path, adapter: Path | None = None, scale: float = 1.0) -> NDArray[np.float32]:
    """What llama.cpp computes for every one of TOKENS, with the adapter applied as the model runs."""
    options = LlamaOptions(n_ctx=256, threads=1, flash_attn="off", adapter=adapter, adapter_scale=scale)
    model = load_model(path, options)
    context, _ = new_context(model, path, options)
    apply_adapter(model, context, options)
    batch = llama_cpp.llama_batch_init(len(TOKENS), 0, 1)
    batch.n_tokens = len(TOKENS)
    for at, token in enumerate(TOKENS):
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, at, 1, 1
        batch.seq_id[at][0] = 0
    assert llama_cpp.llama_decode(context, batch) == 0
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    found = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(len(TOKENS), size)).copy()
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return found


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The difference as a share of what varies."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other - other.mean()))


def test_merged_or_applied_the_logits_are_the_same(tiny_model_path: Path, adapter: Path, tmp_path: Path) -> None:
    """The rows of q and k too, which llama.cpp's converter permutes in models and adapters alike."""
    merge(tiny_model_path, adapter, tmp_path / "m.gguf", recipe("f16", 0.5))
    applied = logits(tiny_model_path, adapter, 0.5)
    assert distance(logits(tmp_path / "m.gguf"), applied) < 0.02
    assert distance(logits(tiny_model_path), applied) > 0.3, "the adapter changes much"


@pytest.mark.parametrize("kind", ["q8_0", "q5_1", "q4_0", "iq4_nl"])
def test_quantised_they_differ_by_what_quantising_costs(
    tiny_model_path: Path, adapter: Path, tmp_path: Path, kind: str
) -> None:
    """Which is much for random weights: as much as for the model without the adapter."""
    nothing = write_lora(tmp_path / "nothing.gguf", factors(ALL, size=0.0))
    for name, lora in (("merged", adapter), ("plain", nothing)):
        merge(tiny_model_path, lora, tmp_path / name, recipe(kind))
    cost = distance(logits(tmp_path / "plain"), logits(tiny_model_path))
    assert distance(logits(tmp_path / "merged"), logits(tiny_model_path, adapter)) < 2.5 * cost


@pytest.mark.parametrize("name", [*SHAPES])
def test_each_kind_of_tensor_alone(tiny_model_path: Path, tmp_path: Path, name: str) -> None:
    lora = write_lora(tmp_path / "lora.gguf", factors({f"blk.1.{name}.weight": SHAPES[name]}, size=0.2))
    merge(tiny_model_path, lora, tmp_path / "m.gguf", recipe())
    applied = logits(tiny_model_path, lora)
    assert distance(logits(tmp_path / "m.gguf"), applied) < 0.004
    assert distance(logits(tiny_model_path), applied) > 0.02


def test_an_embedding_is_looked_up_in_the_other_factor(tiny_model_path: Path, tmp_path: Path) -> None:
    """Only there A has a row for each token, and B one for each dimension."""
    rows = read_layout(tiny_model_path).tensors["token_embd.weight"].shape[1]
    rng = np.random.default_rng(1)
    tensors = {
        "token_embd.weight.lora_a": rng.standard_normal((rows, 4)).astype(np.float16),
        "token_embd.weight.lora_b": rng.standard_normal((EMBD, 4)).astype(np.float32),
    }
    lora = write_lora(tmp_path / "lora.gguf", tensors, alpha=1.0)
    merge(tiny_model_path, lora, tmp_path / "m.gguf", recipe())
    applied = logits(tiny_model_path, lora)
    assert distance(logits(tmp_path / "m.gguf"), applied) < 0.01
    assert distance(logits(tiny_model_path), applied) > 0.3


def test_without_alpha_the_scale_is_all(tiny_model_path: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.gguf", factors(ALL), alpha=0.0)
    merge(tiny_model_path, lora, tmp_path / "m.gguf", recipe(scale=3.0))
    assert distance(logits(tmp_path / "m.gguf"), logits(tiny_model_path, lora, 3.0)) < 0.004


def test_a_model_of_several_matrices_a_tensor(tmp_path: Path) -> None:
    """Experts: each has its own factors."""
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((3, 40, 32)).astype(np.float32)
    a, b = rng.standard_normal((3, 2, 32)).astype(np.float32), rng.standard_normal((3, 40, 2)).astype(np.float32)
    name = "blk.0.ffn_up_exps.weight"
    model = write_lora(tmp_path / "m.gguf", {name: weight}, {"general.type": "model", "general.file_type": 1})
    lora = write_lora(tmp_path / "lora.gguf", {f"{name}.lora_a": a, f"{name}.lora_b": b}, alpha=2.0)
    merge(model, lora, tmp_path / "merged.gguf", recipe())
    layout = read_layout(tmp_path / "merged.gguf")
    found = np.frombuffer((tmp_path / "merged.gguf").read_bytes(), np.float32, weight.size, layout.start)
    np.testing.assert_allclose(found.reshape(weight.shape), weight + b @ a, rtol=1e-5, atol=1e-5)


# --- the file --------------------------------------------------------------------------------------------------------


def test_metadata_and_norms_stay_and_provenance_is_added(tiny_model_path: Path, tmp_path: Path) -> None:
    own = {"localmem.data": "texts 7", "general.version": "3"}
    lora = write_lora(tmp_path / "lora.gguf", factors(ALL), own)
    mixed = quantised("q8_0", ffn="iq4_nl", ffn_down="q4_0", embedding="q5_1")
    merge(tiny_model_path, lora, tmp_path / "m.gguf", recipe(mixed, 0.5))
    before, after = read_layout(tiny_model_path), read_layout(tmp_path / "m.gguf")
    changed = {key for key, pair in before.pairs.items() if after.pairs[key] != pair}
    assert changed == {"general.file_type"}
    new = {key: after.values[key] for key in after.pairs if key not in before.pairs}
    assert new == {
        "general.quantization_version": 2,
        "localmem.data": "texts 7",
        "localmem.merged.adapter_version": "3",
        "localmem.merged.model_sha256": "1" * 64,
        "localmem.merged.adapter_sha256": "2" * 64,
        "localmem.merged.scale": 0.5,
        "localmem.merged.quantisation": "q8_0, embedding q5_1, ffn iq4_nl, ffn_down q4_0",
        "localmem.merged.version": merged.VERSION,
    }
    types = {name: tensor.kind for name, tensor in after.tensors.items()}
    assert (types["token_embd.weight"], types["output.weight"]) == (7, 7)
    assert (types["blk.0.attn_q.weight"], types["blk.1.ffn_down.weight"]) == (8, 2)
    assert (types["blk.0.ffn_up.weight"], types["blk.1.ffn_gate.weight"]) == (20, 20)
    data = [(path.read_bytes(), layout) for path, layout in ((tiny_model_path, before), (tmp_path / "m.gguf", after))]
    for name in ("blk.0.attn_norm.weight", "output_norm.weight"):
        one, other = (
            raw[layout.start + layout.tensors[name].offset :][: layout.tensors[name].size] for raw, layout in data
        )
        assert one == other
    assert models.read_gguf(tmp_path / "m.gguf").quantisation == "Q8_0"


def test_the_same_input_gives_the_same_bytes(tiny_model_path: Path, adapter: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        merge(tiny_model_path, adapter, tmp_path / name, recipe("q8_0"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_a_quantised_file_keeps_whole_stays_whole(wheel_path: Path, tmp_path: Path) -> None:
    """The bundled model, in seconds; tensors that neither change nor get another type are the same bytes."""
    lora = write_lora(tmp_path / "lora.gguf", factors({"blk.3.attn_q.weight": (576, 576)}))
    own = read_layout(wheel_path)
    merge(wheel_path, lora, tmp_path / "m.gguf", recipe("q4_1"))
    after = read_layout(tmp_path / "m.gguf")
    assert models.read_gguf(tmp_path / "m.gguf").quantisation == "Q4_1"
    before, now = wheel_path.read_bytes(), (tmp_path / "m.gguf").read_bytes()
    for name, tensor in own.tensors.items():
        new = after.tensors[name]
        same = before[own.start + tensor.offset :][: tensor.size] == now[after.start + new.offset :][: new.size]
        assert same == (name != "blk.3.attn_q.weight" and new.kind == tensor.kind), name


# --- adapters that are refused ---------------------------------------------------------------------------------------

Q = "blk.0.attn_q.weight"


def pair(rows: int, columns: int, name: str = Q) -> dict[str, np.ndarray]:
    return factors({name: (rows, columns)})


@pytest.mark.parametrize(
    ("tensors", "values", "reason"),
    [
        (pair(64, 64), {"general.architecture": "qwen2"}, "is for the architecture 'qwen2', and .* is 'llama'"),
        (pair(64, 64), {"general.type": "model"}, "is no LoRA adapter"),
        (pair(64, 64), {"adapter.type": "control_vector"}, "is no LoRA adapter"),
        (pair(64, 64), {"adapter.alora.invocation_tokens": [1, 2]}, "for parts of a text only"),
        (pair(64, 64, "blk.9.attn_q.weight"), {}, "changes blk.9.attn_q.weight, which .* has not"),
        (pair(32, 64), {}, "blk.0.attn_q.weight has the shapes 64 x 4, 4 x 32, 64 x 64"),
        (pair(64, 32), {}, "has the shapes"),
        ({f"{Q}.lora_a": np.ones((4, 64), np.float32)}, {}, "not pairs"),
        (pair(64, 64) | {"more": np.ones(32, np.float32)}, {}, "not pairs"),
        ({}, {}, "not pairs"),
        ({f"{Q}.lora_a": np.ones((4, 64), np.float32), f"{Q}.lora_b": np.ones((64, 2), np.float32)}, {}, "shapes"),
        ({f"{Q}.lora_a": np.ones(64, np.float32), f"{Q}.lora_b": np.ones(64, np.float32)}, {}, "shapes"),
        (
            {f"{Q}.lora_{x}": np.full((4, 64) if x == "a" else (64, 4), np.nan, np.float32) for x in "ab"},
            {},
            "no model",
        ),
        (pair(64, 64), {"adapter.lora.alpha": "much"}, "its alpha is no number"),
        (pair(64, 64), {"adapter.lora.alpha": float("inf")}, "that no model has"),
        (pair(64, 64), {"adapter.lora.alpha": 1e30}, "weights of blk.0.attn_q.weight that no model has"),
    ],
)
def test_adapters_that_are_refused(
    tiny_model_path: Path, tmp_path: Path, tensors: dict[str, np.ndarray], values: dict[str, Any], reason: str
) -> None:
    lora = write_lora(tmp_path / "lora.gguf", tensors, values)
    with pytest.raises(ModelError, match=reason) as refused:
        merge(tiny_model_path, lora, tmp_path / "m.gguf", recipe())
    assert "\n" not in str(refused.value)


def test_files_that_are_no_adapter(tiny_model_path: Path, adapter: Path, tmp_path: Path) -> None:
    for data, reason in ((b"", "is empty: put the right adapter"), (b"nonsense" * 9, "is not a GGUF file")):
        adapter.write_bytes(data)
        with pytest.raises(ModelError, match=reason):
            merge(tiny_model_path, adapter, tmp_path / "m.gguf", recipe())


def test_an_embedding_that_is_the_output_too(wheel_path: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.gguf", factors({"token_embd.weight": (576, 49152)}))
    with pytest.raises(ModelError, match=r"which in .* is the output as well"):
        merge(wheel_path, lora, tmp_path / "m.gguf", recipe())


# --- its life --------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tiny_model_path: Path, adapter: Path) -> ModelConfig:
    """The user's own file, with an adapter to merge."""
    return ModelConfig(
        "mine", PathSource(tiny_model_path), n_ctx=256, threads=1, adapter=Adapter(adapter, merge=quantised("q8_0"))
    )


def there(paths: Paths) -> list[str]:
    return sorted(file.name for file in (paths.models / "merged" / "mine").iterdir())


def test_pull_makes_it_and_locate_finds_it(model: ModelConfig, paths: Paths, tiny_model_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not merged yet: run: localmem models pull mine$"):
        models.locate(model, paths)
    assert models.waits_for_merging(model, paths)
    steps: list[str] = []
    path = models.pull(model, paths, step=steps.append)
    assert (steps, path) == (["merging"], models.locate(model, paths))
    assert there(paths) == [path.name, f"{path.name}.sha256"]
    assert not models.waits_for_merging(model, paths)
    assert models.check(model, paths) == disk.digest(path)
    assert models.pull(model, paths, step=steps.append) == path
    assert steps == ["merging"]
    assert models.locate(dataclasses.replace(model, adapter=None), paths) == tiny_model_path
    assert [file.name for file in paths.models.iterdir()] == ["merged"]


@pytest.mark.parametrize("damage", ["byte", "truncated", "note"])
def test_a_damaged_file_is_noticed_and_made_again(model: ModelConfig, paths: Paths, damage: str) -> None:
    path = models.pull(model, paths)
    right = path.read_bytes()
    if damage == "note":
        disk.note(path).unlink()
    else:
        path.write_bytes(right[:-1] + (b"" if damage == "truncated" else bytes([right[-1] ^ 1])))
    with pytest.raises(ModelError):
        models.check(model, paths)
    assert models.pull(model, paths).read_bytes() == right
    assert models.check(model, paths)


@pytest.mark.parametrize("change", ["adapter", "scale", "merge", "model"])
def test_another_adapter_or_model_is_another_file(
    model: ModelConfig, paths: Paths, change: str, tiny_gguf: Callable[..., Path]
) -> None:
    assert model.adapter is not None
    first = models.pull(model, paths)
    other, adapter = model, model.adapter
    match change:
        case "adapter":
            write_lora(adapter.path, factors(ALL, seed=1))
        case "scale":
            other = dataclasses.replace(model, adapter=dataclasses.replace(adapter, scale=0.5))
        case "merge":
            other = dataclasses.replace(model, adapter=dataclasses.replace(adapter, merge=quantised("f16")))
        case "model":
            other = dataclasses.replace(model, source=PathSource(tiny_gguf(seed=1)))
    with pytest.raises(ModelError, match="is not merged yet"):
        models.locate(other, paths)
    second = models.pull(other, paths)
    assert second != first
    assert there(paths) == [second.name, f"{second.name}.sha256"]


def test_an_adapter_that_is_missing_or_another_is_one_line(model: ModelConfig, paths: Paths) -> None:
    assert model.adapter is not None
    wrong = dataclasses.replace(model.adapter, sha256="0" * 64)
    for adapter in (wrong, dataclasses.replace(wrong, merge=None)):
        with pytest.raises(ModelError, match=f"adapter .* has sha256 .* not {'0' * 64}: put the right file"):
            models.pull(dataclasses.replace(model, adapter=adapter), paths)
    right = dataclasses.replace(model.adapter, sha256=disk.digest(model.adapter.path))
    assert models.pull(dataclasses.replace(model, adapter=right), paths).is_file()
    model.adapter.path.unlink()
    with pytest.raises(ModelError, match=r"its adapter .* does not exist: correct `adapter`"):
        models.locate(model, paths)


def test_a_merge_that_fails_leaves_nothing_and_the_old_file(model: ModelConfig, paths: Paths) -> None:
    assert model.adapter is not None
    first = models.pull(model, paths)
    write_lora(model.adapter.path, pair(32, 64))
    with pytest.raises(ModelError, match="has the shapes"):
        models.pull(model, paths)
    assert [file.name for file in paths.models.iterdir()] == ["merged"]
    assert first.is_file()


def test_a_full_disk_is_one_line(model: ModelConfig, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(merging, "_head", full)
    with pytest.raises(ModelError, match="the disk is full"):
        models.pull(model, paths)
    assert list(paths.models.iterdir()) == []


@pytest.fixture
def engines(model: ModelConfig, paths: Paths) -> Iterator[list[Any]]:
    """The model without its adapter, with it at run time, and with it merged."""
    assert model.adapter is not None
    models.pull(model, paths)
    adapters = (None, dataclasses.replace(model.adapter, merge=None), model.adapter)
    loaded = [load_engine(dataclasses.replace(model, adapter=adapter), paths=paths) for adapter in adapters]
    yield loaded
    for engine in loaded:
        engine.close()


def test_the_engine_runs_the_merged_file_without_an_adapter(engines: list[Any]) -> None:
    assert [engine.options.adapter is None for engine in engines] == [True, False, True]
    prints = [json.dumps(engine._saving._settings, sort_keys=True) for engine in engines]
    assert len(set(prints)) == 3, "a snapshot of one is read by no other"


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def configured(model: ModelConfig, paths: Paths) -> ModelConfig:
    paths.config.mkdir(parents=True)
    assert model.adapter is not None
    paths.models_file.write_text(
        f"models:\n  mine:\n    source: {{path: {model.source}}}\n"
        f"    adapter: {{path: {model.adapter.path}, merge: q8_0}}\n"
    )
    return model


def localmem(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def test_the_commands_tell_the_truth(configured: ModelConfig, paths: Paths, tiny_model_path: Path) -> None:
    assert "run: localmem models pull mine" in localmem("path", "mine").stderr
    before = localmem("show", "mine").stdout
    assert "Its adapter is not merged into it; to do so: localmem models pull mine" in before
    pulled = localmem("pull", "mine")
    assert pulled.stderr == "merging the adapter of mine ...\n"
    path = models.locate(configured, paths)
    assert pulled.stdout.startswith(f"mine: {path} (")
    assert localmem("pull", "mine").stderr == ""
    assert localmem("path", "mine").stdout.strip() == str(path)
    shown = localmem("show", "mine").stdout
    assert f"adapter             {configured.adapter.path} (scale 1, merged: q8_0)" in shown  # type: ignore[union-attr]
    assert "quantisation        Q8_0" in shown
    facts = json.loads(localmem("show", "mine", "--json").stdout)
    assert facts["path"] == str(path)
    assert facts["size"] == path.stat().st_size + tiny_model_path.stat().st_size
    assert facts["settings"]["adapter"]["merge"]["default"] == "q8_0"


def test_a_chat_without_a_terminal_names_the_command(configured: ModelConfig, paths: Paths) -> None:
    with pytest.raises(ModelError, match="run: localmem models pull mine"):
        console.ask_to_pull(configured, paths)


def test_at_a_terminal_it_is_merged_at_once(
    configured: ModelConfig, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched for it, so nobody is asked."""
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert console.ask_to_pull(configured, paths) == models.locate(configured, paths)


def test_nothing_but_merging_loads_the_package() -> None:
    program = "import sys, localmem.models, localmem.cli.models; print('gguf' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
