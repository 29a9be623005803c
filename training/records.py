"""Records: the traces of many scenarios in one file, made by several processes, the same for the same seed.

    python -m training.records train --count 3000 --out build/adapter/train.npz

The tokens of records stand one after the other, int32; `lengths` says where each ends, and `chosen` are the places of
those that the model is to choose, with their `weights`. A record ends with its branches, if it has any: `counts` says
how many, and `branches` where in the record each begins, where it ends, and in the place of which token it could have
stood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recorder import Recorder
from training.texts import KINDS, load
from training.traces import DECIDES, Trace

_N_CTX = 8192
_PATIENCE_S = 5


@dataclass(frozen=True, slots=True)
class Record:
    """What main context held: `tokens`, the places of those that the model chose (no grammar forced them), and how
    much each of these counts.

    The last tokens are branches: what could have stood at an earlier place. `branches`, of shape (branches, 3), says
    where each begins and ends among the tokens, and in the place of which token it could have stood.
    """

    tokens: NDArray[np.int32]
    chosen: NDArray[np.int64]
    weights: NDArray[np.float32]
    branches: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 3), np.int64))

    @property
    def trunk(self) -> int:
        """The number of tokens that did stand in main context."""
        return int(self.branches[0, 0]) if len(self.branches) else len(self.tokens)

    def pruned(self, most: int, rng: random.Random) -> Record:
        """Up to a place drawn by `rng`, where a branch could have stood, or the end; with as many of the branches there
        and before as keep it within `most` tokens, the nearest first. Late places, which have more, are likelier.
        """
        if not len(self.branches):
            return self
        places = [*np.unique(self.branches[:, 2]).tolist(), self.trunk]
        trunk = max(rng.choices(places, k=2))
        stays, room = np.arange(len(self.tokens)) < trunk, most - trunk
        for start, end, at in sorted(self.branches.tolist(), key=lambda branch: (-branch[2], rng.random())):
            if at <= trunk and end - start <= room:
                stays[start:end] = True
                room -= end - start
        place = np.cumsum(stays) - 1  # of each token that stays, among those
        chosen, branches = stays[self.chosen], self.branches[stays[self.branches[:, 0]]]
        branches = np.stack([place[branches[:, 0]], place[branches[:, 1] - 1] + 1, branches[:, 2]], axis=1)
        return Record(self.tokens[stays], place[self.chosen[chosen]], self.weights[chosen], branches)


def recorded(split: str, seeds: Sequence[int], instead: int) -> Iterator[tuple[int, list[Trace]]]:
    """The traces of each of `seeds`, with up to `instead` branches at each message."""
    from localmem.config import Paths, load_config
    from localmem.engine.load import load_engine
    from localmem.memory.embedder import SentenceEmbedder
    from localmem.models import locate_embedder
    from training.compose import PRACTICE, WEIGHTS, compose

    config = load_config()
    chosen = config.embedder(None)
    embedder = SentenceEmbedder(locate_embedder(chosen, Paths.default()), chosen.name)
    engine = load_engine("smollm2-135m", n_ctx=_N_CTX)
    try:
        recorder, texts = Recorder(engine, embedder), load(split)
        weights = PRACTICE if split == "train" else WEIGHTS
        for seed in seeds:
            yield seed, recorder.record(compose(texts, seed, weights, instead=instead))
    finally:
        engine.close()
        embedder.close()


def _some(given: tuple[str, Sequence[int], int, Any]) -> None:
    split, seeds, instead, queue = given
    for seed, made in recorded(split, seeds, instead):
        queue.put((seed, made))
    queue.put(None)


def make(split: str, seeds: range, processes: int, *, instead: int = 0) -> dict[int, list[Trace]]:
    """The traces of the scenarios of `seeds`."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    parts = [seeds[start::processes] for start in range(processes)]
    workers = [context.Process(target=_some, args=((split, part, instead, queue),), daemon=True) for part in parts]
    for worker in workers:
        worker.start()
    found: dict[int, list[Trace]] = {}
    running, begun = len(workers), time.monotonic()
    while running:
        if any(worker.exitcode for worker in workers):  # it has said why
            raise SystemExit("a process that makes records has ended early")
        try:
            item = queue.get(timeout=_PATIENCE_S)
        except Empty:
            continue
        if item is None:
            running -= 1
            continue
        found[item[0]] = item[1]
        if len(found) % 200 == 0:
            print(f"{len(found)} of {len(seeds)} scenarios, {time.monotonic() - begun:.0f} s", flush=True)
    return dict(sorted(found.items()))


def write(found: dict[int, list[Trace]], file: Path) -> dict[str, Any]:
    """Write records down; what they hold, JSON-ready."""
    traces = [trace for made in found.values() for trace in made]
    records = [_record(trace) for trace in traces]
    tokens, weights, branches = (
        np.concatenate([getattr(record, name) for record in records]) for name in ("tokens", "weights", "branches")
    )
    lengths = [len(record.tokens) for record in records]
    starts = np.cumsum([0, *lengths[:-1]])
    chosen = np.concatenate([start + record.chosen for start, record in zip(starts, records, strict=True)])
    counts = np.array([len(record.branches) for record in records])
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        file, tokens=tokens, lengths=np.array(lengths), chosen=chosen, weights=weights, branches=branches, counts=counts
    )
    kinds = Counter(kind for trace in traces for _, kind in trace.kinds)
    return {
        "scenarios": len(found),
        "records": len(records),
        "branches": len(branches),
        "calls": sum(len(trace.written) for trace in traces),
        "tokens": int(tokens.size),
        "written": sum(end - start for trace in traces for start, end in trace.written),
        "chosen": int(chosen.size),
        "kinds": dict(kinds.most_common()),
        "data": hashlib.sha256(tokens.tobytes()).hexdigest()[:16],
    }


def _record(trace: Trace) -> Record:
    tokens, chosen, weights, branches = [*trace.tokens], [*trace.chosen], [*trace.weights], []
    for branch in trace.branches:
        branches.append((len(tokens), len(tokens) + len(branch.tokens), branch.at))
        tokens += branch.tokens
        chosen += range(len(tokens) - branch.word, len(tokens))
        weights += [DECIDES] * branch.word
    return Record(
        np.array(tokens, np.int32),
        np.array(chosen, np.int64),
        np.array(weights, np.float32),
        np.array(branches, np.int64).reshape(-1, 3),
    )


def read(file: Path) -> list[Record]:
    """The records of a file."""
    with np.load(file) as data:
        ends = np.cumsum(data["lengths"])
        parts = np.split(data["tokens"], ends[:-1])
        cuts = np.searchsorted(data["chosen"], ends[:-1])
        chosen, weights = np.split(data["chosen"], cuts), np.split(data["weights"], cuts)
        branches = np.split(data["branches"], np.cumsum(data["counts"])[:-1])
    starts = ends - [len(part) for part in parts]
    return [
        Record(part, places - start, *rest)
        for part, places, start, *rest in zip(parts, chosen, starts, weights, branches, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.records", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("split", choices=["train", "dev", "test"])
    parser.add_argument("--count", type=int, default=3000, help="scenarios (default: 3000)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first of them (default: 0)")
    parser.add_argument("--instead", type=int, default=7, help="branches at each of the user's messages (default: 7)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print({kind: len(load(options.split)[kind]) for kind in KINDS})
    seeds = range(options.first, options.first + options.count)
    made = make(options.split, seeds, options.processes, instead=options.instead)
    print(json.dumps(write(made, options.out)))


if __name__ == "__main__":
    main()
