"""Decoding in one run: raw llama.cpp, LlamaEngine free, and LlamaEngine under the grammar of the built-in functions.

    python -m benchmarks.throughput [--model M] [--preset P] [--threads T] [--tokens N] [--rounds R] [--json]

All decode the same prompt (the one with which an agent asks for its first call) with the same sampler chain, window and
threads, in interleaved rounds, each until N tokens are written. Prefill is measured apart, in rounds of its own, and is
in no decode figure. Figures are medians over rounds, ratios medians of the rounds' ratios.

Each generation has a thread of its own, as in LlamaEngine: libgomp slows down for as long as two threads of a process
have run OpenMP code (LOG.md, "Two teams of threads"), and every contender would pay for the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import localmem
from benchmarks.llama_loops import HighLevel, RawLoop, Run
from benchmarks.table import table
from localmem.config import Paths, load_config
from localmem.engine.llama import LlamaEngine
from localmem.engine.load import load_engine
from localmem.grammar.llg import LLGuidanceGrammar
from localmem.memory.embedder import HashEmbedder
from localmem.models import locate, physical_cores
from localmem.opening import Setting
from localmem.protocols import Generation, Grammar

MESSAGE = "My name is Ada, I live in Lisbon, and I am learning to play the cello. What could I practise today?"
Result = TypeVar("Result")
PREFILL = 256  # tokens


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent asks its engine for: the first call of a turn."""

    prompt: list[int]
    constraint: LLGuidanceGrammar
    max_tokens: int


class _Asked(BaseException):
    """Thrown out of the loop once it has asked for its first call."""


class _Recorder:
    """An engine that notes what it is asked for instead of writing it."""

    def __init__(self, engine: LlamaEngine) -> None:
        self.name, self.n_ctx = engine.name, engine.n_ctx
        self.vocabulary, self.chat_format = engine.vocabulary, engine.chat_format
        self.request: Request | None = None

    def generate(
        self, prompt: str | Sequence[int], *, constraint: Grammar | None = None, max_tokens: int = 256, **_: Any
    ) -> Generation:
        assert isinstance(constraint, LLGuidanceGrammar)
        assert not isinstance(prompt, str)
        self.request = Request(list(prompt), constraint, max_tokens)
        raise _Asked

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def first_request(engine: LlamaEngine, preset: str, longest: int) -> Request:
    """What is asked for first in an agent with one passage and one message."""
    recorder = _Recorder(engine)
    with tempfile.TemporaryDirectory() as home:
        setting = Setting(load_config(), Paths.under(Path(home)), engine=recorder, embedder=HashEmbedder())
        with localmem.open_agent("bench", setting=setting, prompt=preset) as agent:
            agent.archival.insert("Ada's cello teacher is called Rui.")
            with contextlib.suppress(_Asked):
                list(agent.send(MESSAGE))
    assert recorder.request is not None
    return replace(recorder.request, max_tokens=min(recorder.request.max_tokens, longest))


@dataclass(slots=True)
class Tally:
    """What one contender did in one round. `counted` leaves out tokens that came with the prefill."""

    counted: int = 0
    sampled: int = 0
    seconds: float = 0.0
    calls: int = 0

    @property
    def rate(self) -> float:
        return self.counted / self.seconds


@dataclass(slots=True)
class Rounds:
    """All rounds of all contenders."""

    decode: dict[str, list[Tally]] = field(default_factory=dict)
    prefill: dict[str, list[float]] = field(default_factory=dict)
    bind_ms: list[float] = field(default_factory=list)

    def rate(self, name: str) -> float:
        return statistics.median(tally.rate for tally in self.decode[name])

    def ratio(self, name: str, other: str) -> float:
        pairs = zip(self.decode[name], self.decode[other], strict=True)
        return statistics.median(a.rate / b.rate for a, b in pairs)

    def token_ms(self, name: str) -> float:
        """Milliseconds a sampled token."""
        return statistics.median(1000 * tally.seconds / tally.sampled for tally in self.decode[name])

    def forced_share(self, name: str) -> float:
        tallies = self.decode[name]
        return 1 - sum(tally.sampled for tally in tallies) / sum(tally.counted for tally in tallies)


class Throughput:
    """The contenders on one model."""

    def __init__(self, options: argparse.Namespace) -> None:
        chosen = load_config().model(options.model)
        chosen = replace(chosen, threads=options.threads or chosen.threads)
        path = locate(chosen, Paths.default())
        self.engine = load_engine(chosen, n_ctx=options.n_ctx)
        self.request = first_request(self.engine, options.preset or chosen.prompt, options.longest_call)
        self.raw = RawLoop(path, self.engine)
        self.leading = len(self.request.constraint.bind(self.engine.vocabulary).forced())
        self.high_level: HighLevel | None = None
        self.why_not = ""
        try:
            self.high_level = HighLevel(path, self.engine, self.request.constraint.schema)
        except (ValueError, RuntimeError) as error:  # llama-cpp-python's converter does not take every schema
            self.why_not = str(error)

    def measure(self, rounds: int, tokens: int) -> Rounds:
        contenders: dict[str, Callable[[int, int], Tally]] = {
            "raw": self._raw,
            "free": self._free,
            "constrained": self._constrained,
        }
        if self.high_level is not None:
            contenders["high_level"] = self._high_level
        result = Rounds()
        for _ in range(rounds):
            self._prefill(result)
        for run in contenders.values():  # what is built once, and the prompt's prefill, are not what is measured
            run(8, 1)
        for number in range(rounds):
            for name, run in contenders.items():
                result.decode.setdefault(name, []).append(_until(tokens, run, seed=1000 * number))
            started = time.perf_counter()
            self.request.constraint.bind(self.engine.vocabulary)
            result.bind_ms.append(1000 * (time.perf_counter() - started))
        return result

    def _prefill(self, result: Rounds) -> None:
        prompt = self.request.prompt[:PREFILL]
        result.prefill.setdefault("raw", []).append(len(prompt) / _alone(lambda: self.raw.prefill(prompt)))
        self.engine.generate([prompt[-1], prompt[0]], max_tokens=1)  # now the cache shares nothing with the prompt
        generation = self.engine.generate(prompt, max_tokens=1)
        assert generation.reused_tokens == 0
        result.prefill.setdefault("engine", []).append(len(prompt) / generation.ttft_s)

    def _raw(self, left: int, seed: int) -> Tally:
        return _tally(_alone(lambda: self.raw.generate(self.request.prompt, left, seed)))

    def _free(self, left: int, seed: int) -> Tally:
        done = self.engine.generate(self.request.prompt, max_tokens=left, seed=seed)
        return Tally(len(done.tokens), len(done.tokens), done.decode_s, 1)

    def _constrained(self, left: int, seed: int) -> Tally:
        """A whole call, whatever is left: a grammar always ends its document."""
        request = self.request
        done = self.engine.generate(
            request.prompt, constraint=request.constraint, max_tokens=request.max_tokens, seed=seed
        )
        sampled = len(done.tokens) - done.forced_tokens
        return Tally(len(done.tokens) - self.leading, sampled, done.decode_s, 1)

    def _high_level(self, left: int, seed: int) -> Tally:
        high_level = self.high_level
        assert high_level is not None
        return _tally(_alone(lambda: high_level.generate(self.request.prompt, self.request.max_tokens, seed)))

    def close(self) -> None:
        self.engine.close()
        self.raw.close()
        if self.high_level is not None:
            self.high_level.close()


def _alone(run: Callable[[], Result]) -> Result:
    """`run()` in a thread that ends with it."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(run).result()


def _tally(run: Run) -> Tally:
    return Tally(len(run.tokens), len(run.tokens), run.seconds, 1)


def _until(tokens: int, run: Callable[[int, int], Tally], *, seed: int) -> Tally:
    """Generations, one seed after another, until there are `tokens` tokens."""
    total = Tally()
    while total.counted < tokens:
        seed += 1
        one = run(tokens - total.counted, seed)
        total.counted += one.counted
        total.sampled += one.sampled
        total.seconds += one.seconds
        total.calls += one.calls
    return total


def summary(bench: Throughput, result: Rounds, tokens: int) -> dict[str, Any]:
    """The figures, JSON-ready: rates in tokens a second, times in milliseconds."""
    ratios = [("free", "raw"), ("constrained", "free"), ("constrained", "raw")]
    if "high_level" in result.decode:
        ratios.append(("constrained", "high_level"))
    return {
        "benchmark": "throughput",
        "model": bench.engine.name,
        "n_ctx": bench.engine.n_ctx,
        "threads": bench.engine.options.threads or physical_cores(),
        "prompt_tokens": len(bench.request.prompt),
        "tokens": tokens,
        "rounds": len(result.bind_ms),
        "decode": {name: round(result.rate(name), 1) for name in result.decode},
        "sampled_token_ms": {name: round(result.token_ms(name), 2) for name in result.decode},
        "ratios": {f"{a}/{b}": round(result.ratio(a, b), 3) for a, b in ratios},
        "forced_share": round(result.forced_share("constrained"), 3),
        "prefill": {name: round(statistics.median(rates), 1) for name, rates in result.prefill.items()},
        "bind_ms": round(statistics.median(result.bind_ms), 2),
        "high_level_left_out": bench.why_not or None,
    }


_SHOWN = {
    "raw": "raw llama.cpp loop",
    "free": "localmem, free",
    "constrained": "localmem, constrained",
    "high_level": "llama-cpp-python, GBNF",
}


def report(figures: Mapping[str, Any], result: Rounds) -> str:
    """The table and a line about each thing beside it."""
    rows = [
        [
            _SHOWN[name],
            f"{rate:.1f}",
            f"{min(tally.rate for tally in result.decode[name]):.1f}-{max(t.rate for t in result.decode[name]):.1f}",
            f"{figures['sampled_token_ms'][name]:.2f}",
            f"{result.ratio(name, 'raw'):.2f}",
        ]
        for name, rate in figures["decode"].items()
    ]
    prefill = figures["prefill"]
    return "\n".join(
        [
            f"{figures['model']}, n_ctx {figures['n_ctx']}, {figures['threads']} thread(s), a prompt of "
            f"{figures['prompt_tokens']} tokens, {figures['rounds']} rounds of {figures['tokens']} tokens",
            "",
            table(["decode", "tokens/s", "from-to", "ms/sampled token", "to raw"], rows),
            "",
            f"forced tokens     {figures['forced_share']:.0%} of those constrained",
            f"binding a grammar {figures['bind_ms']:.1f} ms a call, not in the figures above",
            f"prefill           raw {prefill['raw']:.0f} tokens/s, localmem {prefill['engine']:.0f} tokens/s",
            *([f"left out          llama-cpp-python: {why}"] if (why := figures["high_level_left_out"]) else []),
        ]
    )


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
    bench = Throughput(options)
    try:
        result = bench.measure(options.rounds, options.tokens)
        figures = summary(bench, result, options.tokens)
        if not options.json:
            print(report(figures, result), end="\n\n")
        print(json.dumps(figures))
    finally:
        bench.close()


if __name__ == "__main__":
    main()
