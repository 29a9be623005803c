"""How fast a model writes: freely, and under the grammar of an agent's first call, run by each backend that can.

All contenders write behind the same prompt with the same sampler, in interleaved rounds (see `rounds`). Prefill is
measured apart and is in no decode figure; so is the binding of a grammar. Each generation has a thread of its own, as
always in the engine. Measures and gives data; knows nothing of what it is compared with elsewhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from localmem.bench.first_call import Request, compile_smaller
from localmem.bench.rounds import Progress, Rounds, Run, Tally, interleaved
from localmem.engine.llama import LlamaEngine
from localmem.errors import GrammarError
from localmem.grammar.compile import BACKENDS, Backend
from localmem.models import physical_cores
from localmem.protocols import Grammar

#: What is timed inside the decode loop (`LlamaEngine.probe`), besides the batches.
PARTS = ("sampler", "validate", "mask", "forced", "closing")

_PREFILL = 256
_BINDS = 3


@dataclass(slots=True)
class Contender:
    """A grammar on one backend. `leading` tokens come with the prefill: nothing else may stand there.

    `bind_ms` is what each generation pays before its first token: a matcher, up to the first tokens that it forces.
    """

    grammar: Grammar
    leading: int
    bind_ms: float
    shorter: int | None = None


@dataclass(slots=True)
class Timings:
    """Nanoseconds of each part of the loop, over all generations of one contender, and the tokens it sampled."""

    parts: dict[str, list[int]] = field(default_factory=lambda: {part: [] for part in PARTS})
    sampled: int = 0

    def figures(self) -> dict[str, dict[str, float]]:
        """Of each part that ran, in microseconds: what a call took, how often a sampled token, and the mean a token."""
        return {
            part: {
                "calls_a_token": round(len(spent) / self.sampled, 3),
                "us_a_token": round(sum(spent) / self.sampled / 1000, 2),
                "p50_us": round(_quantile(spent, 0.50) / 1000, 2),
                "p99_us": round(_quantile(spent, 0.99) / 1000, 2),
            }
            for part, spent in self.parts.items()
            if spent and self.sampled
        }


def _quantile(values: Sequence[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Throughput:
    """One model and what it is asked for. `left_out` says why a backend does not take part."""

    def __init__(self, engine: LlamaEngine, request: Request, backends: Sequence[Backend] = BACKENDS) -> None:
        self.engine, self.request = engine, request
        self.backends: dict[str, Contender] = {}
        self.left_out: dict[str, str] = {}
        self.timings: dict[str, Timings] = {}
        for backend in backends:
            try:
                self.backends[backend] = self._contender(backend)
            except GrammarError as error:
                self.left_out[backend] = " ".join(str(error).split())

    def _contender(self, backend: Backend) -> Contender:
        grammar, longest = compile_smaller(self.request.source, backend)
        leading = len(grammar.bind(self.engine.vocabulary).forced())  # the first time, it may build what it keeps
        spent = []
        for _ in range(_BINDS):
            started = time.perf_counter()
            grammar.bind(self.engine.vocabulary).forced()
            spent.append(1000 * (time.perf_counter() - started))
        return Contender(grammar, leading, statistics.median(spent), longest)

    def runs(self) -> dict[str, Run]:
        """The contenders: "free", and each backend by its name."""
        return {"free": self._free, **{name: self._constrained(name) for name in self.backends}}

    def measure(self, rounds: int, tokens: int, progress: Progress | None = None) -> Rounds:
        """`rounds` interleaved rounds of `tokens` tokens."""
        return interleaved(self.runs(), rounds, tokens, progress)

    def _free(self, left: int, seed: int) -> Tally:
        return self._run("free", seed, left, None)

    def _constrained(self, name: str) -> Run:
        """A whole call, whatever is left: a grammar always ends its document."""
        return lambda _left, seed: self._run(name, seed, self.request.max_tokens, self.backends[name])

    def _run(self, name: str, seed: int, max_tokens: int, contender: Contender | None) -> Tally:
        probe: dict[str, list[int]] = {part: [] for part in (*PARTS, "feed", "fed")}
        self.engine.probe = probe
        try:
            done = self.engine.generate(
                self.request.prompt,
                constraint=contender.grammar if contender is not None else None,
                max_tokens=max_tokens,
                seed=seed,
            )
        finally:
            self.engine.probe = None
        if done.finish == "interrupted":
            raise KeyboardInterrupt
        sampled = len(done.tokens) - done.forced_tokens
        timings = self.timings.setdefault(name, Timings())
        for part in PARTS:
            timings.parts[part] += probe[part]
        timings.sampled += sampled
        leading = contender.leading if contender is not None else 0
        singles = [spent for spent, fed in zip(probe["feed"], probe["fed"], strict=False) if fed == 1]
        beside = sum(sum(probe[part]) for part in PARTS) / max(1, sampled)
        return Tally(
            counted=len(done.tokens) - leading,
            sampled=sampled,
            seconds=done.decode_s,
            singles=len(singles),
            single_s=(sum(singles) + len(singles) * beside) / 1e9,
            calls=1,
        )

    def prefill_rate(self, rounds: int) -> float:
        """Tokens a second of a prompt of which the KV cache holds nothing."""
        prompt = self.request.prompt[:_PREFILL]
        another = next((token for token in prompt if token != prompt[0]), 0)
        rates = []
        for _ in range(rounds):
            self.engine.generate([another, prompt[0]], max_tokens=1)  # now the cache shares nothing with the prompt
            done = self.engine.generate(prompt, max_tokens=1)
            if done.finish == "interrupted":
                raise KeyboardInterrupt
            rates.append((done.prompt_tokens - done.reused_tokens) / done.ttft_s)
        return statistics.median(rates)

    def figures(self, result: Rounds, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """The figures of a run, JSON-ready: rates in tokens a second, times as their names say; ratios of `pairs`."""
        names = list(result.tallies)
        return {
            "model": self.engine.name,
            "n_ctx": self.engine.n_ctx,
            "threads": self.engine.options.threads or physical_cores(),
            "prompt_tokens": len(self.request.prompt),
            "decode": {name: round(result.rate(name), 1) for name in names},
            "decode_from_to": {name: [round(rate, 1) for rate in result.span(name)] for name in names},
            "sampled_token_ms": {name: round(result.sampled_ms(name), 3) for name in names},
            "one_token_step_ms": {name: _rounded(result.step_ms(name)) for name in names},
            "ratios": {f"{a}/{b}": round(result.ratio(a, b), 3) for a, b in pairs},
            "sampled_token_ratios": {f"{a}/{b}": round(result.sampled_ratio(a, b), 3) for a, b in pairs},
            "one_token_step_ratios": {f"{a}/{b}": _rounded(result.step_ratio(a, b)) for a, b in pairs},
            "forced_share": {name: round(result.forced_share(name), 3) for name in self.backends},
            "bind_ms": {name: round(contender.bind_ms, 2) for name, contender in self.backends.items()},
            "inside_us": {name: timings.figures() for name, timings in self.timings.items()},
            "shorter_strings": {name: c.shorter for name, c in self.backends.items() if c.shorter is not None},
            "left_out": dict(self.left_out),
        }

    def pairs(self) -> list[tuple[str, str]]:
        """Each backend beside free decoding."""
        return [(name, "free") for name in self.backends]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
