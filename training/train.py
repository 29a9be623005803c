"""Trains a LoRA on records, on the dequantised weights of the model's own GGUF file. Seeded; goes on where it stopped.

    python -m training.train --data build/adapter/train.npz --out build/adapter/lora --steps 1000

Only what the model itself is to choose counts: what the grammar forces, nobody has to learn. An adapter that learns one
job forgets others: so one step in some is on ordinary text (see `replay`), to say of it what the model says without the
adapter. Weights and activations are bfloat16, what is trained has a float32 master copy, and what the merged file will
hold coarsely is rounded here too. Under glibc a step takes a fifth less with the environment that `python -m training`
sets.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.export import weights_of
from training.lora import base_file, compile_layers, load_base, round_weights, with_lora
from training.records import Record, read

_SPARSE = 4  # of ordinary text, one choice in four is enough
_CHUNK = 512  # positions whose logits exist at one time: the vocabulary is large


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. `batch` is tokens a step; a record of more than `most` is left out. If there is ordinary text, one
    step in `replay_every` is on that; its loss is multiplied by `replay_weight` before gradients are clipped. What is
    kept is the mean of the weights over the last steps, each counting less than the one after it: `horizon` of them.
    Each `every` steps the state is saved, and the weights are rounded anew. `begun_with` is the sha256 of the file that
    the first weights came from, if they came from one."""

    rank: int = 16
    alpha: int = 32
    learning_rate: float = 8e-4
    warmup: int = 40
    batch: int = 3072
    most: int = 2400
    seed: int = 7
    steps: int = 300
    replay_every: int = 8
    replay_weight: float = 3.0
    horizon: int = 80
    every: int = 40
    begun_with: str = ""


# -- batches


def batches(records: Sequence[Record], plan: Plan) -> Iterator[list[Record]]:
    """Records in batches of about `plan.batch` tokens, alike in length within one, in an order drawn by the seed."""
    rng = random.Random(plan.seed)
    fitting = [record for record in records if len(record.tokens) <= plan.most and len(record.chosen)]
    if not fitting:
        raise SystemExit(f"There is no record of {plan.most} tokens or less to learn from.")
    while True:
        rng.shuffle(fitting)
        for start in range(0, len(fitting), 64):
            group = sorted(fitting[start : start + 64], key=lambda record: len(record.tokens))
            made: list[list[Record]] = [[]]
            for record in group:
                if made[-1] and (len(made[-1]) + 1) * len(record.tokens) > plan.batch:
                    made.append([])
                made[-1].append(record)
            rng.shuffle(made)
            yield from made


def tensors(batch: Sequence[Record]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of shape (records, longest), padded at their ends; flat positions before each choice; weights of choices."""
    longest = max(len(record.tokens) for record in batch)
    ids = np.zeros((len(batch), longest), np.int64)
    places: list[int] = []
    for row, record in enumerate(batch):
        ids[row, : len(record.tokens)] = record.tokens
        places += (row * longest + record.chosen - 1).tolist()
    weights = np.concatenate([record.weights for record in batch])
    return torch.from_numpy(ids), torch.tensor(places), torch.from_numpy(weights)


def loss_of(model: Any, batch: Sequence[Record]) -> tuple[Tensor, float]:
    """The weighted sum of the losses of what the model is to choose, in nats, and the sum of the weights.

    Padding stands behind everything, so that causal attention alone keeps it out.
    """
    ids, places, weights = tensors(batch)
    base = model.get_base_model()
    hidden = _hidden(base, ids)
    wanted = ids.flatten()[places + 1]
    return _summed(_chunk_loss, base.lm_head, hidden[places], wanted, weights), float(weights.sum())


def divergence_of(model: Any, batch: Sequence[Record]) -> tuple[Tensor, float]:
    """The sum over some of the choices of the Kullback-Leibler divergence of the model from itself without the LoRA, in
    nats, and their number: each needs the whole vocabulary, twice."""
    ids, places, _ = tensors(batch)
    places = places[::_SPARSE]
    base = model.get_base_model()
    with torch.no_grad(), model.disable_adapter():
        before = _hidden(base, ids)
    hidden = _hidden(base, ids)
    return _summed(_chunk_divergence, base.lm_head, hidden[places], before[places]), float(len(places))


def _hidden(base: Any, ids: Tensor) -> Tensor:
    """The last hidden states, of shape (records * longest, width)."""
    states: Tensor = base.model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
    return states


def _summed(chunk: Callable[..., Tensor], head: nn.Module, *rows: Tensor) -> Tensor:
    """The sum of what `chunk` makes of the head and of so many of `rows` at a time, whose logits alone exist then."""
    total = torch.zeros(())
    for parts in zip(*(torch.split(row, _CHUNK) for row in rows), strict=True):
        total = total + checkpoint(chunk, head, *parts, use_reentrant=False)
    return total


def _chunk_loss(head: nn.Module, hidden: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    return nn.functional.cross_entropy(head(hidden).float(), wanted, reduction="none") @ weights


def _chunk_divergence(head: nn.Module, hidden: Tensor, before: Tensor) -> Tensor:
    now, then = (head(states).float().log_softmax(-1) for states in (hidden, before))
    return nn.functional.kl_div(now, then, reduction="sum", log_target=True)


# -- training


class Trainer:
    """A LoRA, its float32 master copy, the mean of that over the last steps, and its optimizer."""

    def __init__(self, model: Any, plan: Plan, out: Path) -> None:
        self.model, self.plan, self.out = model, plan, out
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.master = {name: p.detach().float().clone() for name, p in self.weights.items()}
        self.mean = {name: p.clone() for name, p in self.master.items()}
        self.optimizer = torch.optim.AdamW(self.master.values(), lr=plan.learning_rate, weight_decay=0.0)
        self.step = 0
        self.seconds = 0.0

    def learn(self, batch: Sequence[Record], *, replayed: bool = False) -> float:
        """One step; the weighted mean loss of a token, or the mean divergence of ordinary text, in nats."""
        begun = time.monotonic()
        total, count = (divergence_of if replayed else loss_of)(self.model, batch)
        torch.autograd.backward(total / count * (self.plan.replay_weight if replayed else 1.0))
        for name, weight in self.weights.items():
            assert weight.grad is not None
            self.master[name].grad, weight.grad = weight.grad.float(), None
        torch.nn.utils.clip_grad_norm_(list(self.master.values()), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.step += 1
        self._take(self.master)
        with torch.no_grad():
            for name, mean in self.mean.items():
                mean.lerp_(self.master[name], 1 / min(self.step, self.plan.horizon))
        self.seconds += time.monotonic() - begun
        return float(total.detach()) / count

    def _put(self, master: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> None:
        """Go on from these."""
        for own, given in ((self.master, master), (self.mean, mean)):
            for name, values in own.items():
                values.copy_(given[name])
        self._take(self.master)

    @torch.no_grad()
    def _take(self, values: Mapping[str, Tensor]) -> None:
        """Let the model compute with these."""
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def rate(self) -> float:
        """Linear warm-up, then a cosine down to a twentieth."""
        plan = self.plan
        if self.step < plan.warmup:
            return plan.learning_rate * (self.step + 1) / plan.warmup
        done = min(1.0, (self.step - plan.warmup) / max(1, plan.steps - plan.warmup))
        return plan.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))

    def save(self) -> None:
        """Write all that a later run needs to go on, whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "seconds": self.seconds,
            "master": self.master,
            "mean": self.mean,
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.out / "state.partial"
        torch.save(state, partial)
        partial.replace(self.out / "state.pt")

    def restore(self) -> None:
        """Go on where an earlier run stopped, if there is one under the same plan."""
        file = self.out / "state.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True)
        if {**state["plan"], "steps": 0} != {**asdict(self.plan), "steps": 0}:
            raise SystemExit(f"{file} is of another plan; remove it, or give another --out.")
        self.step, self.seconds = state["step"], state["seconds"]
        self.optimizer.load_state_dict(state["optimizer"])
        self._put(state["master"], state["mean"])

    def begin_with(self, file: Path) -> None:
        """Begin with the weights of another training's state, or of an adapter, whatever its plan but the rank."""
        master = weights_of(file) if file.suffix == ".gguf" else torch.load(file, weights_only=True).get("mean", {})
        if {name: tuple(p.shape) for name, p in master.items()} != {n: tuple(p.shape) for n, p in self.master.items()}:
            raise SystemExit(f"{file} is of another model or rank; give one that fits, or none.")
        self._put(master, master)

    @torch.no_grad()
    def measured(self, records: Sequence[Record]) -> float:
        """The weighted mean loss of a token of `records`, in nats, with the mean of the weights, rounded."""
        self._take(self.mean)
        round_weights(self.model)
        sums = [loss_of(self.model, [record]) for record in records]
        self._take(self.master)
        round_weights(self.model)
        return sum(float(total) for total, _ in sums) / sum(count for _, count in sums)


def train(
    trainer: Trainer,
    records: Sequence[Record],
    dev: Sequence[Record],
    replay: Sequence[Record] = (),
) -> None:
    """All steps of the plan that are not done yet."""
    plan = trainer.plan
    round_weights(trainer.model)
    tasks, texts = batches(records, plan), batches(replay, plan)
    for number in range(plan.steps):
        replayed = bool(replay) and number % plan.replay_every == plan.replay_every - 1
        batch = next(texts if replayed else tasks)
        if number < trainer.step:
            continue
        loss = trainer.learn(batch, replayed=replayed)
        if trainer.step % 5 == 0 or replayed:
            rest = trainer.seconds / trainer.step * (plan.steps - trainer.step)
            what = "divergence" if replayed else "loss"
            print(f"step {trainer.step}/{plan.steps} {what} {loss:.4f} rest {rest / 60:.0f} min", flush=True)
        if trainer.step % plan.every == 0 or trainer.step == plan.steps:
            trainer.save()
            if dev:
                print(json.dumps({"step": trainer.step, "dev": round(trainer.measured(dev), 4)}), flush=True)
            else:
                round_weights(trainer.model)


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    plan = Plan(
        rank=options.rank,
        alpha=2 * options.rank,
        learning_rate=options.rate,
        steps=options.steps,
        seed=options.seed,
        every=options.every,
        begun_with=sha256(options.begin_with.read_bytes()).hexdigest() if options.begin_with else "",
    )
    model = with_lora(load_base(base_file()), rank=plan.rank, alpha=plan.alpha)
    compile_layers(model)
    trainer = Trainer(model, plan, options.out)
    if options.begin_with is not None:
        trainer.begin_with(options.begin_with)
    trainer.restore()
    dev = read(options.dev)[: options.dev_records] if options.dev else []
    replay = read(options.replay) if options.replay else []
    train(trainer, [record for file in options.data for record in read(file)], dev, replay)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of records to learn from")
    parser.add_argument(
        "--replay", type=Path, help="records of ordinary text, of which to say what the base model says"
    )
    parser.add_argument("--dev", type=Path, help="records to watch the loss on")
    parser.add_argument("--dev-records", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the LoRA; an unfinished one goes on")
    parser.add_argument(
        "--begin-with", type=Path, help="an adapter, or the state.pt of an earlier training, to begin with its weights"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=40, help="save and round each so many steps (default: 40)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rate", type=float, default=8e-4, help="learning rate (default: 0.0008)")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
