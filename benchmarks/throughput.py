"""Decoding in one run: raw llama.cpp, localmem free and constrained by each backend, and llama-cpp-python's GBNF.

    python -m benchmarks.throughput [--model M] [--preset P] [--threads T] [--tokens N] [--rounds R] [--json]

What `localmem bench throughput` measures, beside two loops that are not localmem's (see `llama_loops`): the same
prompt, sampler chain, window and threads, in interleaved rounds, each until N tokens. Prefill is measured apart.

Each generation has a thread of its own, as in LlamaEngine: libgomp slows down for as long as two threads of a process
have run OpenMP code (LOG.md, "Two teams of threads"), and every contender would pay for the others.

A sampled token is timed in two ways: all of the decoding time divided by the sampled tokens (forced tokens ride along),
and the mean time of the steps that fed one token alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from benchmarks.llama_loops import HighLevel, RawLoop
from benchmarks.llama_loops import Run as LoopRun
from benchmarks.table import table
from localmem.bench.first_call import first_request
from localmem.bench.rounds import Rounds, Run, Tally, interleaved
from localmem.bench.throughput import Throughput
from localmem.config import Paths, load_config
from localmem.engine.load import load_engine
from localmem.models import locate

Result = TypeVar("Result")
_PREFILL = 256  # tokens


class Contest:
    """localmem and the two loops beside it, on one model."""

    def __init__(self, options: argparse.Namespace) -> None:
        chosen = load_config().model(options.model)
        chosen = replace(chosen, threads=options.threads or chosen.threads)
        path = locate(chosen, Paths.default())
        self.engine = load_engine(chosen, n_ctx=options.n_ctx)
        request = first_request(self.engine, options.preset or chosen.prompt, options.longest_call)
        self.localmem = Throughput(self.engine, request)
        self.raw = RawLoop(path, self.engine)
        self.high_level: HighLevel | None = None
        try:
            self.high_level = HighLevel(path, self.engine, request.source.schema)
        except (ValueError, RuntimeError) as error:  # llama-cpp-python's converter does not take every schema
            self.localmem.left_out["high_level"] = str(error)

    def measure(self, rounds: int, tokens: int) -> tuple[Rounds, dict[str, Any]]:
        """All rounds, and the figures of them."""
        prefill = {"raw": self._raw_prefill(rounds), "engine": self.localmem.prefill_rate(rounds)}
        runs: dict[str, Run] = {"raw": self._raw, **self.localmem.runs()}
        if self.high_level is not None:
            runs["high_level"] = self._high_level
        result = interleaved(runs, rounds, tokens)
        figures = {
            "benchmark": "throughput",
            "rounds": rounds,
            "tokens": tokens,
            **self.localmem.figures(result, self._pairs()),
            "prefill": {name: round(rate, 1) for name, rate in prefill.items()},
        }
        return result, figures

    def _pairs(self) -> list[tuple[str, str]]:
        others = ["raw", *(["high_level"] if self.high_level is not None else [])]
        backends = list(self.localmem.backends)
        return [("free", "raw"), *self.localmem.pairs(), *((name, other) for name in backends for other in others)]

    def _raw_prefill(self, rounds: int) -> float:
        prompt = self.localmem.request.prompt[:_PREFILL]
        return statistics.median(len(prompt) / _alone(lambda: self.raw.prefill(prompt)) for _ in range(rounds))

    def _raw(self, left: int, seed: int) -> Tally:
        return _tally(_alone(lambda: self.raw.generate(self.localmem.request.prompt, left, seed)))

    def _high_level(self, _left: int, seed: int) -> Tally:
        high_level, request = self.high_level, self.localmem.request
        assert high_level is not None
        return _tally(_alone(lambda: high_level.generate(request.prompt, request.max_tokens, seed)))

    def close(self) -> None:
        self.engine.close()
        self.raw.close()
        if self.high_level is not None:
            self.high_level.close()


def _alone(run: Callable[[], Result]) -> Result:
    """`run()` in a thread that ends with it."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(run).result()


def _tally(run: LoopRun) -> Tally:
    """Each of its tokens was sampled, and fed in a batch of its own."""
    count = len(run.tokens)
    return Tally(count, count, run.seconds, singles=count, single_s=run.seconds, calls=1)


_SHOWN = {"raw": "raw llama.cpp loop", "free": "localmem, free", "high_level": "llama-cpp-python, GBNF"}


def report(figures: Mapping[str, Any], result: Rounds) -> str:
    """The tables, and a line about each thing beside them."""
    rows = []
    for name, rate in figures["decode"].items():
        slowest, fastest = figures["decode_from_to"][name]
        step = figures["one_token_step_ms"][name]
        shown = [f"{rate:.1f}", f"{slowest:.1f}-{fastest:.1f}", f"{result.ratio(name, 'raw'):.2f}"]
        shown += [f"{figures['sampled_token_ms'][name]:.2f}", "-" if step is None else f"{step:.2f}"]
        rows.append([_SHOWN.get(name, f"localmem, {name}"), *shown])
    parts = ("sampler", "validate", "mask", "forced", "closing")
    inside = [
        [name, *(f"{at['p50_us']:.1f} / {at['p99_us']:.1f}" if (at := spent.get(part)) else "-" for part in parts)]
        for name, spent in figures["inside_us"].items()
    ]
    prefill = figures["prefill"]
    lines = [
        f"{figures['model']}, n_ctx {figures['n_ctx']}, {figures['threads']} thread(s), a prompt of "
        f"{figures['prompt_tokens']} tokens, {figures['rounds']} rounds of {figures['tokens']} tokens",
        "",
        table(["decode", "tokens/s", "from-to", "to raw", "ms/sampled token", "ms/one-token step"], rows),
        "",
        table(["inside, p50 / p99 microseconds", *parts], inside),
        "",
        *(f"{pair:24}  {ratio:.2f}" for pair, ratio in figures["ratios"].items()),
        f"prefill           raw {prefill['raw']:.0f} tokens/s, localmem {prefill['engine']:.0f} tokens/s",
    ]
    for name, forced in figures["forced_share"].items():
        lines.append(
            f"{name:17} {forced:.0%} forced; binding {figures['bind_ms'][name]:.1f} ms a call, not in the above"
        )
    for name, longest in figures["shorter_strings"].items():
        lines.append(f"{name:17} a smaller grammar: strings of at most {longest} characters")
    lines += [f"left out          {name}: {why}" for name, why in figures["left_out"].items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--preset", help="the prompt preset (default: what models.yaml says)")
    parser.add_argument("--n-ctx", type=int, help="tokens of main context (default: what models.yaml says)")
    parser.add_argument("--threads", type=int, default=0, help="for all contenders (default: what models.yaml says)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens a round (default: 64)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument("--longest-call", type=int, default=160, help="tokens of one call (default: 160)")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    options = parser.parse_args(arguments)
    contest = Contest(options)
    try:
        result, figures = contest.measure(options.rounds, options.tokens)
        if not options.json:
            print(report(figures, result), end="\n\n")
        print(json.dumps(figures))
    finally:
        contest.close()


if __name__ == "__main__":
    main()
