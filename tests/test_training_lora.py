"""Training and export of adapters: what is learnt, runs that stop and go on, and llama.cpp's reading of the result."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from test_kv_types import distance, logits_after
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.models.iq4_nl import rounded
from training.export import export, rows_of_gguf
from training.lora import MergedLinear, round_weights, with_lora
from training.records import Record
from training.train import Plan, Trainer, batches, divergence_of, loss_of, train

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

PLAN = Plan(rank=2, alpha=4, learning_rate=0.02, warmup=2, batch=60, most=40, steps=6)
TEXT = "My name is Ada and I live in Lisbon, where it rains. Ada lives in"


# -- the bundled model


@pytest.fixture(scope="module")
def bundled(wheel_path: Path) -> Any:
    """The bundled model as transformers knows it, in float32."""
    name = {"gguf_file": wheel_path.name, "dtype": torch.float32}
    return AutoModelForCausalLM.from_pretrained(str(wheel_path.parent), **name)


@pytest.fixture(scope="module")
def written(wheel_path: Path) -> dict[str, Any]:
    """The tensors of its file by name."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(wheel_path).tensors}


@pytest.mark.parametrize(("part", "name", "heads"), [("q_proj", "attn_q", 9), ("k_proj", "attn_k", 3)])
def test_the_rows_of_q_and_k_are_put_in_the_order_of_the_file(
    bundled: Any, written: dict[str, Any], part: str, name: str, heads: int
) -> None:
    """Which transformers undoes as it reads the file: put back, they are the file's own, number by number."""
    own = getattr(bundled.model.layers[4].self_attn, part).weight.detach().numpy()
    tensor = written[f"blk.4.{name}.weight"]
    expected = quants.dequantize(tensor.data, tensor.tensor_type)
    assert not np.array_equal(own, expected)
    assert np.array_equal(rows_of_gguf(own, heads), expected)


def test_llama_cpp_reads_an_exported_adapter_as_it_was_trained(
    bundled: Any, wheel_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all linear layers, at random: the logits are peft's but for what llama.cpp's arithmetic costs."""
    monkeypatch.setattr("training.export.base_file", lambda: wheel_path)
    torch.manual_seed(1)
    adapted = with_lora(copy.deepcopy(bundled), rank=2, alpha=4)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.6)
    Trainer(adapted, Plan(rank=2, alpha=4), tmp_path).save()
    export(tmp_path / "state.pt", tmp_path / "adapter.gguf", {"data.scenarios": 3})

    found = {}
    for adapter in (None, tmp_path / "adapter.gguf"):
        engine = LlamaEngine(wheel_path, LlamaOptions(n_ctx=256, flash_attn="off", adapter=adapter))
        tokens = engine.vocabulary.tokenize(TEXT)
        found[adapter] = logits_after(engine, tokens)
        engine.close()
    with torch.no_grad():
        expected, plain = (model(torch.tensor([tokens])).logits[0, -1].numpy() for model in (adapted, bundled))
    assert distance(found[None], plain) < 0.06
    assert distance(found[tmp_path / "adapter.gguf"], expected) < 0.08
    assert distance(found[None], expected) > 0.3, "the adapter changes much"

    fields = gguf.GGUFReader(tmp_path / "adapter.gguf").fields
    said = {key: fields[key].contents() for key in ("general.type", "adapter.type", "localmem.data.scenarios")}
    assert said == {"general.type": "adapter", "adapter.type": "lora", "localmem.data.scenarios": "3"}
    assert fields["adapter.lora.alpha"].contents() == 4.0


def test_an_exported_adapter_is_what_a_training_can_begin_with(
    tiny: Callable[..., Any], wheel_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows back in their order, but for float16."""
    monkeypatch.setattr("training.export.base_file", lambda: wheel_path)
    monkeypatch.setattr("training.export._heads", lambda: {"attn_q": 4, "attn_k": 2})
    first = trainer(tiny(), tmp_path / "first")
    for weight in first.mean.values():
        torch.nn.init.normal_(weight)
    first.save()
    export(tmp_path / "first" / "state.pt", tmp_path / "adapter.gguf", {})
    second = trainer(tiny(), tmp_path / "second")
    second.begin_with(tmp_path / "adapter.gguf")
    for name, weight in first.mean.items():
        assert torch.allclose(second.master[name], weight, rtol=1e-3, atol=1e-6), name


def test_what_a_gguf_adapter_has_no_place_for_is_refused(
    wheel_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.export.base_file", lambda: wheel_path)
    state = {"plan": {"alpha": 4}, "step": 1, "mean": {"base_model.model.lm_head.lora_A.weight": torch.zeros(2, 4)}}
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(SystemExit, match=r"lm_head\.lora_A\.weight has no place in a GGUF adapter"):
        export(tmp_path / "state.pt", tmp_path / "adapter.gguf", {})


# -- what counts


@pytest.fixture(scope="module")
def tiny() -> Callable[..., Any]:
    """Gives a tiny random model with a fresh LoRA: the same one for the same plan."""

    def make(plan: Plan = PLAN) -> Any:
        torch.manual_seed(3)
        sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
        model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.2))
        return with_lora(model, rank=plan.rank, alpha=plan.alpha)

    return make


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Of 8 to 36 tokens, some of which the model chose: near the start, and up to the end."""
    rng = np.random.default_rng(5)
    made = []
    for i, length in enumerate(range(8, 40, 4)):
        chosen = np.unique([3, 4, *range(6 + i, length, 2), length - 1])
        weights = rng.choice([0.5, 1, 4], len(chosen)).astype(np.float32)
        made.append(Record(rng.integers(0, 300, length).astype(np.int32), chosen, weights))
    return made


def loss(model: Any, *batch: Record) -> float:
    with torch.no_grad():
        return float(loss_of(model, batch)[0])


def test_what_the_model_chooses_is_what_counts(tiny: Callable[..., Any], records: list[Record]) -> None:
    """Against the model's own logits, token by token."""
    model, record = tiny(), records[5]
    total, count = loss_of(model, [record])
    ids = torch.from_numpy(record.tokens.astype(np.int64))
    surprise = -torch.log_softmax(model(ids[None]).logits[0], dim=-1)[:-1].gather(1, ids[1:, None]).detach().flatten()
    weights = torch.from_numpy(record.weights)
    assert len(record.chosen) < len(record.tokens) / 2
    assert count == pytest.approx(float(weights.sum()))
    assert float(total.detach()) == pytest.approx(float(surprise[record.chosen - 1] @ weights), rel=1e-5)


def test_what_stands_behind_the_last_choice_changes_nothing(tiny: Callable[..., Any], records: list[Record]) -> None:
    model, tokens = tiny(), records[5].tokens
    record = replace(records[5], chosen=np.array([3, 4, 16, 24]), weights=np.ones(4, np.float32))
    for at, changes in ((25, False), (24, True), (9, True)):
        other = tokens.copy()
        other[at] = (other[at] + 1) % 300
        assert (loss(model, replace(record, tokens=other)) != loss(model, record)) == changes


def test_a_batch_is_the_sum_of_its_records(tiny: Callable[..., Any], records: list[Record]) -> None:
    """So padding, which the shorter ones get, is neither read nor counted."""
    model = tiny()
    with torch.no_grad():
        whole, count = loss_of(model, records)
    assert count == pytest.approx(sum(float(record.weights.sum()) for record in records))
    assert float(whole) == pytest.approx(sum(loss(model, record) for record in records), rel=1e-5)


# -- batches


def taken(records: list[Record], plan: Plan, count: int) -> list[list[int]]:
    """The lengths of the records in each of the first batches."""
    return [[len(record.tokens) for record in batch] for batch in itertools.islice(batches(records, plan), count)]


def test_batches_are_the_same_for_the_same_seed(records: list[Record]) -> None:
    first = taken(records, PLAN, 12)
    assert first == taken(records, PLAN, 12)
    assert first != taken(records, replace(PLAN, seed=8), 12)


def test_batches_hold_each_record_that_is_short_enough_once_a_pass(records: list[Record]) -> None:
    plan = replace(PLAN, most=28)
    fitting = [len(record.tokens) for record in records if len(record.tokens) <= 28]
    assert len(fitting) == len(records) - 2
    made = taken(records, plan, 40)
    ends = list(itertools.accumulate(len(batch) for batch in made))
    assert sorted(itertools.chain(*made[: ends.index(len(fitting)) + 1])) == fitting
    assert all(len(batch) * max(batch) <= plan.batch for batch in made)


# -- training


def trainer(model: Any, out: Path, plan: Plan = PLAN) -> Trainer:
    made = Trainer(model, plan, out)
    made.restore()
    return made


def test_the_gradient_of_merged_weights_is_the_loras() -> None:
    torch.manual_seed(2)
    x, a, b = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 5), (2, 5), (4, 2)))
    weight = torch.randn(4, 5, dtype=torch.float64)
    merged = lambda *given: MergedLinear.apply(given[0], weight, *given[1:], 2.0)  # type: ignore[no-untyped-call]  # noqa: E731
    assert torch.autograd.gradcheck(merged, (x, a, b))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_merged_layer_is_pefts(tiny: Callable[..., Any], dtype: torch.dtype, close: float) -> None:
    """Its output, and both gradients."""
    layer = tiny().to(dtype).get_base_model().model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b, std=0.2)
    x = torch.randn(2, 7, 64, dtype=dtype)
    ours, theirs = layer(x), type(layer).__mro__[1].forward(layer, x)
    for mine, wanted in zip(_with_grads(ours, a, b), _with_grads(theirs, a, b), strict=True):
        assert float((mine - wanted).norm() / wanted.norm()) < close


def test_rounded_weights_are_those_of_the_merged_file(tiny: Callable[..., Any]) -> None:
    """The coarse layers' alone; they follow what is learnt, and gradients pass by the rounding."""
    model = tiny()
    layer = model.get_base_model().model.layers[0]
    x = torch.randn(5, 64)
    for module, coarse in ((layer.mlp.up_proj, True), (layer.mlp.gate_proj, True), (layer.self_attn.q_proj, False)):
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        torch.nn.init.normal_(b, std=0.2)
        exact = module(x)
        _, *grads = _with_grads(exact, a, b)
        round_weights(model)
        merged = (module.base_layer.weight + 2.0 * b @ a).detach()
        expected = x @ torch.from_numpy(rounded(merged.numpy())).t() if coarse else exact.detach()
        assert torch.allclose(module(x), expected, atol=1e-5)
        assert torch.allclose(module(x), exact, atol=1e-5) != coarse
        for mine, wanted in zip(_with_grads(module(x), a, b)[1:], grads, strict=True):
            assert torch.allclose(mine, wanted, atol=1e-5)
    with model.disable_adapter():
        assert torch.allclose(layer.mlp.up_proj(x), x @ layer.mlp.up_proj.base_layer.weight.t(), atol=1e-5)


def _with_grads(out: torch.Tensor, *given: torch.Tensor) -> list[torch.Tensor]:
    weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(out.dtype)
    return [part.float() for part in (out.detach(), *torch.autograd.grad((out * weight).sum(), given))]


@pytest.mark.filterwarnings("ignore")  # torch warns of what its own tracing does
def test_layers_compile_to_the_same_step(tiny: Callable[..., Any], records: list[Record], tmp_path: Path) -> None:
    """Traced as for training; what the compiler makes of it is torch's affair."""
    losses = []
    for compiled in (False, True):
        model = tiny()
        for layer in model.get_base_model().model.layers if compiled else ():
            layer.compile(backend="aot_eager", dynamic=True)
        learner = trainer(model, tmp_path / str(compiled))
        losses.append(
            [learner.learn(records[:2]), learner.learn(records[2:4], replayed=True), learner.measured(records)]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-4)


def test_training_lowers_the_loss(tiny: Callable[..., Any], records: list[Record], tmp_path: Path) -> None:
    plan = replace(PLAN, steps=60)
    learner = trainer(tiny(plan), tmp_path, plan)
    frozen = {name: p.clone() for name, p in learner.model.named_parameters() if not p.requires_grad}
    before = learner.measured(records)
    train(learner, records, records[:2])
    assert learner.step == 60
    assert learner.measured(records) < 0.8 * before
    own = dict(learner.model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in frozen.items()), "the model itself stays as it is"


def test_on_ordinary_text_the_model_is_held_to_what_it_was(
    tiny: Callable[..., Any], records: list[Record], tmp_path: Path
) -> None:
    """The same steps with and without weight on it."""
    ordinary, drift = records[:3], []
    for weight in (0.0, 30.0):
        plan = replace(PLAN, steps=40, replay_every=2, replay_weight=weight)
        learner = trainer(tiny(plan), tmp_path / str(weight), plan)
        assert float(divergence_of(learner.model, ordinary)[0].detach()) == pytest.approx(0.0, abs=1e-3), (
            "a LoRA begins as nothing"
        )
        train(learner, records[3:], [], ordinary)
        total, count = divergence_of(learner.model, ordinary)
        assert count == math.ceil(sum(len(record.chosen) for record in ordinary) / 4)
        drift.append(float(total.detach()))
    assert 0 < drift[1] < 0.5 * drift[0]


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    tiny: Callable[..., Any], records: list[Record], tmp_path: Path
) -> None:
    """Bit for bit, from the last state that was saved."""
    plan = replace(PLAN, replay_every=2, every=2)
    whole = trainer(tiny(), tmp_path / "whole", plan)
    train(whole, records, records[:2], records[:3])

    stopped = trainer(tiny(), tmp_path / "parts", plan)
    learn = stopped.learn

    def stop(batch: Any, **options: Any) -> float:
        if stopped.step == 5:
            raise KeyboardInterrupt
        return learn(batch, **options)

    stopped.learn = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(stopped, records, records[:2], records[:3])
    again = trainer(tiny(), tmp_path / "parts", plan)
    assert again.step == 4
    train(again, records, records[:2], records[:3])
    assert again.step == whole.step == 6
    assert all(torch.equal(again.weights[name], weight) for name, weight in whole.weights.items())
    assert all(torch.equal(again.master[name], weight) for name, weight in whole.master.items())
    assert all(torch.equal(again.mean[name], weight) for name, weight in whole.mean.items())
    assert sorted(file.name for file in (tmp_path / "parts").iterdir()) == ["state.pt"]


def test_what_is_kept_is_the_mean_of_the_last_steps(
    tiny: Callable[..., Any], records: list[Record], tmp_path: Path
) -> None:
    learner = trainer(tiny(), tmp_path, replace(PLAN, horizon=4))
    name = next(iter(learner.master))
    states = []
    for _ in range(12):
        learner.learn(records[:2])
        states.append(learner.master[name].clone())
    expected = states[0]
    for number, state in enumerate(states[1:], 2):
        expected = expected + (state - expected) / min(number, 4)
    assert torch.allclose(learner.mean[name], expected, atol=1e-6)
    learner.measured(records[:1])
    assert torch.equal(learner.weights[name], learner.master[name]), "training goes on with its own"


def test_a_state_of_another_plan_is_refused(tiny: Callable[..., Any], tmp_path: Path) -> None:
    trainer(tiny(), tmp_path).save()
    with pytest.raises(SystemExit, match=r"state\.pt is of another plan; remove it, or give another --out\.$") as told:
        trainer(tiny(), tmp_path, replace(PLAN, seed=8))
    assert "\n" not in str(told.value)
    assert trainer(tiny(), tmp_path, replace(PLAN, steps=99)).step == 0, "there may be more steps than were planned"


def test_a_training_can_begin_with_the_weights_of_another(
    tiny: Callable[..., Any], records: list[Record], tmp_path: Path
) -> None:
    first = trainer(tiny(), tmp_path / "first")
    first.learn(records)
    first.save()
    second = trainer(tiny(), tmp_path / "second", replace(PLAN, seed=8))
    second.begin_with(tmp_path / "first" / "state.pt")
    assert second.step == 0
    for name, weight in first.mean.items():
        assert torch.equal(second.weights[name], weight.to(second.weights[name].dtype))
    other = trainer(tiny(replace(PLAN, rank=2 * PLAN.rank)), tmp_path / "third", replace(PLAN, rank=2 * PLAN.rank))
    with pytest.raises(SystemExit, match="of another model or rank"):
        other.begin_with(tmp_path / "first" / "state.pt")
