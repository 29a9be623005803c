"""Whether every call is valid, however bad the model and however small the budget.

    python -m benchmarks.validity [--random N] [--calls N] [--model M] [--backend B] [--threads T]
                                  [--seed S] [--json]

Agents live at random (see `localmem.bench.validity`) and write at temperature 2.0, with budgets from the shortest
legal document to 512 tokens: most on two-layer models of random weights with the real tokenizer, one of which writes
quotes as often as not, so that its strings end before the budget does; the rest on a real model.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.table import table
from localmem.bench.validity import Call, Plan, run_validity
from localmem.bench.verdicts import verdict
from localmem.config import Paths, load_config
from localmem.engine.llama import LlamaEngine
from localmem.engine.load import load_engine
from localmem.engine.loading import LlamaOptions
from localmem.grammar.compile import BACKENDS
from localmem.models import locate

_TESTS = Path(__file__).resolve().parent.parent / "tests"
_N_CTX = 6144


@contextmanager
def random_models(model: str | None) -> Iterator[list[LlamaEngine]]:
    """Two models of random weights with the tokenizer of `model`, the second of which likes quotes."""
    sys.path.insert(0, str(_TESTS))  # the suite writes such models too
    tiny = importlib.import_module("tiny_gguf")
    tokenizer = tiny.Tokenizer.of_file(locate(load_config().model(model), Paths.default()))
    with tempfile.TemporaryDirectory() as folder:
        plain = _load(tiny.write_tiny(Path(folder) / "random.gguf", tokenizer, n_ctx=_N_CTX, seed=1))
        quotes = [t for t in range(plain.vocabulary.size) if plain.vocabulary.token_bytes(t).startswith(b'"')]
        quoting = _load(tiny.write_tiny(Path(folder) / "quoting.gguf", tokenizer, n_ctx=_N_CTX, seed=2, favour=quotes))
        try:
            yield [plain, quoting]
        finally:
            plain.close()
            quoting.close()


def _load(path: Path) -> LlamaEngine:
    return LlamaEngine(path, LlamaOptions(n_ctx=_N_CTX, threads=1))


def _told(name: str, since: float) -> Any:
    """Tells on stderr how far a run is, every hundred calls."""

    def tell(done: int, total: int) -> None:
        if done % 100 == 0 and done != tell.last:  # type: ignore[attr-defined]
            tell.last = done  # type: ignore[attr-defined]
            print(f"{name}: {done} of {total} calls, {time.perf_counter() - since:.0f} s", file=sys.stderr, flush=True)

    tell.last = 0  # type: ignore[attr-defined]
    return tell


def _run(engine: LlamaEngine, name: str, plan: Plan) -> list[Call]:
    return run_validity(engine, plan, _told(name, time.perf_counter())) if plan.calls else []


def measure(options: argparse.Namespace) -> dict[str, list[Call]]:
    """The calls of each model."""
    done: dict[str, list[Call]] = {}
    if options.random:
        half = options.random // 2
        with random_models(options.model) as (plain, quoting):
            for name, engine, calls in (("random", plain, options.random - half), ("quoting", quoting, half)):
                plan = Plan(calls=calls, seed=options.seed, backend=options.backend)
                done[f"{name} weights"] = _run(engine, name, plan)
    if options.calls:
        chosen = load_config().model(options.model)
        engine = load_engine(replace(chosen, threads=options.threads or chosen.threads), n_ctx=_N_CTX)
        try:
            plan = Plan(calls=options.calls, seed=options.seed + 1, backend=options.backend)
            done[engine.name] = _run(engine, engine.name, plan)
        finally:
            engine.close()
    return done


_COUNTS = ("calls", "parsed", "fits", "complete", "executed", "handed_back", "failed", "closed_by_budget", "closed_by_loop", "valid")  # fmt: skip # noqa: E501


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--random", type=int, default=9000, help="calls of the models of random weights (9000)")
    parser.add_argument("--calls", type=int, default=1000, help="calls of the real model (1000)")
    parser.add_argument("--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--backend", choices=BACKENDS, help="what runs the grammars (default: llguidance)")
    parser.add_argument("--threads", type=int, default=0, help="of the real model (default: what models.yaml says)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    options = parser.parse_args(arguments)
    done = measure(options)
    figures = {name: verdict(calls) for name, calls in done.items()}
    figures["all"] = verdict([call for calls in done.values() for call in calls])
    if not options.json:
        rows = [[name, *(str(about[key]) for key in _COUNTS)] for name, about in figures.items()]
        print(table(["model", *(key.replace("_", " ") for key in _COUNTS)], rows), end="\n\n")
        by_budget = figures["all"]["by_budget"]
        print(table(["budget", *_COUNTS], [[g["budget"], *(str(g[key]) for key in _COUNTS)] for g in by_budget]))
        by_function = figures["all"]["by_function"].items()
        print(table(["function", *_COUNTS], [[name, *(str(g[key]) for key in _COUNTS)] for name, g in by_function]))
        print()
    print(json.dumps({"benchmark": "validity", "seed": options.seed, "backend": options.backend, **figures}))
    if figures["all"]["valid"] != figures["all"]["calls"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
