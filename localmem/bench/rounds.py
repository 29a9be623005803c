"""Interleaved rounds: every contender writes so many tokens, in turn, and what it did is counted.

Interleaved, so that a machine that slows down slows all of them down; ratios are taken within a round, and the median
of the rounds is what counts. Knows no engine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from localmem.errors import ModelError

#: A generation: the tokens that are left to write, and a seed.
Run = Callable[[int, int], "Tally"]
Progress = Callable[[int, int], None]

_PATIENCE = 50


@dataclass(slots=True)
class Tally:
    """What one contender did in one round. `counted` leaves out tokens that came with the prefill.

    `single_s` is the time of the steps that fed one token, of which there were `singles`.
    """

    counted: int = 0
    sampled: int = 0
    seconds: float = 0.0
    singles: int = 0
    single_s: float = 0.0
    calls: int = 0

    def add(self, other: Tally) -> None:
        """Count what one more generation did."""
        self.counted += other.counted
        self.sampled += other.sampled
        self.seconds += other.seconds
        self.singles += other.singles
        self.single_s += other.single_s
        self.calls += other.calls

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.counted / self.seconds

    @property
    def sampled_ms(self) -> float:
        """All of the decoding time for each token that was sampled: what comes beside it (forced tokens) included."""
        return 1000 * self.seconds / self.sampled

    @property
    def step_ms(self) -> float | None:
        """The mean time of a step that fed one token; None if that was not timed, or there was none."""
        return 1000 * self.single_s / self.singles if self.singles else None


@dataclass(slots=True)
class Rounds:
    """All rounds of all contenders. Figures are medians over the rounds, ratios medians of the rounds' ratios."""

    tallies: dict[str, list[Tally]] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        return statistics.median(tally.rate for tally in self.tallies[name])

    def span(self, name: str) -> tuple[float, float]:
        """The slowest round's rate and the fastest one's."""
        rates = [tally.rate for tally in self.tallies[name]]
        return min(rates), max(rates)

    def ratio(self, name: str, other: str) -> float:
        """Tokens a second of one to those of another."""
        return statistics.median(a.rate / b.rate for a, b in self._pairs(name, other))

    def sampled_ms(self, name: str) -> float:
        return statistics.median(tally.sampled_ms for tally in self.tallies[name])

    def sampled_ratio(self, name: str, other: str) -> float:
        """Milliseconds a sampled token of one to those of another."""
        return statistics.median(a.sampled_ms / b.sampled_ms for a, b in self._pairs(name, other))

    def step_ms(self, name: str) -> float | None:
        steps = [tally.step_ms for tally in self.tallies[name]]
        return statistics.median(step for step in steps if step is not None) if any(steps) else None

    def step_ratio(self, name: str, other: str) -> float | None:
        """Milliseconds of a step that fed one token, of one to those of another; None if not timed in both."""
        steps = [(a.step_ms, b.step_ms) for a, b in self._pairs(name, other)]
        ratios = [a / b for a, b in steps if a is not None and b is not None]
        return statistics.median(ratios) if ratios else None

    def forced_share(self, name: str) -> float:
        tallies = self.tallies[name]
        return 1 - sum(tally.sampled for tally in tallies) / sum(tally.counted for tally in tallies)

    def _pairs(self, name: str, other: str) -> Iterator[tuple[Tally, Tally]]:
        return zip(self.tallies[name], self.tallies[other], strict=True)


def interleaved(contenders: Mapping[str, Run], rounds: int, tokens: int, progress: Progress | None = None) -> Rounds:
    """`rounds` rounds in which each contender writes at least `tokens` tokens.

    Each runs once before, uncounted: what is built once, and the prompt's prefill, are not what is measured.
    """
    done, result = 0, Rounds({name: [] for name in contenders})
    total = len(contenders) * (rounds + 1)
    for number in range(-1, rounds):
        for name, run in contenders.items():
            if number < 0:
                run(8, 1)
            else:
                result.tallies[name].append(_until(tokens, run, seed=1000 * number))
            done += 1
            if progress is not None:
                progress(done, total)
    return result


def _until(tokens: int, run: Run, *, seed: int) -> Tally:
    """Generations, one seed after another, until there are `tokens` tokens."""
    total, silent = Tally(), 0
    while total.counted < tokens:
        seed += 1
        before = total.counted
        total.add(run(tokens - total.counted, seed))
        silent = silent + 1 if total.counted <= before else 0
        if silent > _PATIENCE:
            raise ModelError("The model ends its text before the first token, again and again: it cannot be measured.")
    return total
