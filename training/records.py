"""Records: the traces of many scenarios in one file, made by several processes, the same for the same seed.

    python -m training.records train --count 3000 --out build/adapter/train.npz

The tokens of records stand one after the other, int32; `lengths` says where each ends, and `chosen` are the places of
those that the model is to choose, with their `weights`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recorder import Recorder, Trace
from training.texts import KINDS, load

_N_CTX = 8192
_PATIENCE_S = 5


@dataclass(frozen=True, slots=True)
class Record:
    """What main context held: `tokens`, the places of those that the model chose (no grammar forced them), and how
    much each of these counts."""

    tokens: NDArray[np.int32]
    chosen: NDArray[np.int64]
    weights: NDArray[np.float32]


def traces(split: str, seeds: Sequence[int]) -> Iterator[tuple[int, list[Trace]]]:
    """The traces of each of `seeds`."""
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
            yield seed, recorder.record(compose(texts, seed, weights))
    finally:
        engine.close()
        embedder.close()


def _some(given: tuple[str, Sequence[int], Any]) -> None:
    split, seeds, queue = given
    for seed, made in traces(split, seeds):
        queue.put((seed, made))
    queue.put(None)


def make(split: str, seeds: range, processes: int) -> dict[int, list[Trace]]:
    """The traces of the scenarios of `seeds`."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    parts = [seeds[start::processes] for start in range(processes)]
    workers = [context.Process(target=_some, args=((split, part, queue),), daemon=True) for part in parts]
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
    records = [trace for made in found.values() for trace in made]
    lengths = [len(trace.tokens) for trace in records]
    tokens = np.concatenate([np.array(trace.tokens, np.int32) for trace in records])
    starts = np.cumsum([0, *lengths[:-1]])
    places = [np.array(trace.chosen, np.int64) for trace in records]
    chosen = np.concatenate([start + part for start, part in zip(starts, places, strict=True)])
    weights = np.array([weight for trace in records for weight in trace.weights], np.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, tokens=tokens, lengths=np.array(lengths), chosen=chosen, weights=weights)
    kinds = Counter(kind for trace in records for _, kind in trace.kinds)
    return {
        "scenarios": len(found),
        "records": len(records),
        "calls": sum(len(trace.written) for trace in records),
        "tokens": int(tokens.size),
        "written": sum(end - start for trace in records for start, end in trace.written),
        "chosen": int(chosen.size),
        "kinds": dict(kinds.most_common()),
        "data": hashlib.sha256(tokens.tobytes()).hexdigest()[:16],
    }


def read(file: Path) -> list[Record]:
    """The records of a file."""
    with np.load(file) as data:
        ends = np.cumsum(data["lengths"])
        parts = np.split(data["tokens"], ends[:-1])
        cuts = np.searchsorted(data["chosen"], ends[:-1])
        chosen, weights = np.split(data["chosen"], cuts), np.split(data["weights"], cuts)
    starts = ends - [len(part) for part in parts]
    return [
        Record(part, places - start, w) for part, places, start, w in zip(parts, chosen, starts, weights, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.records", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("split", choices=["train", "dev", "test"])
    parser.add_argument("--count", type=int, default=3000, help="scenarios (default: 3000)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first of them (default: 0)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print({kind: len(load(options.split)[kind]) for kind in KINDS})
    made = make(options.split, range(options.first, options.first + options.count), options.processes)
    print(json.dumps(write(made, options.out)))


if __name__ == "__main__":
    main()
