"""Times the parts of a decode loop, call by call, for benchmarks. Nothing of it runs unless it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from localmem.engine.decoding import Source
from localmem.protocols import Matcher

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: Nanoseconds of each call, by part: "sampler", "validate", "mask", "forced", "closing", "feed"; and beside the last,
#: as "fed", the tokens of each batch.
Probe = dict[str, list[int]]

_MATCHER = {"accept": "validate", "mask": "mask", "forced": "forced"}
_SOURCE = {"sample": "sampler", "feed": "feed"}


class _Timed:
    """Something of whose methods some are timed."""

    def __init__(self, inner: Any, probe: Probe, methods: dict[str, str]) -> None:
        self._inner = inner
        for method, part in methods.items():
            setattr(self, method, timed(getattr(inner, method), probe.setdefault(part, [])))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def timed_matcher(matcher: Matcher, probe: Probe) -> Matcher:
    """`matcher`, its calls timed into `probe`."""
    return cast(Matcher, _Timed(matcher, probe, {**_MATCHER, "end": "closing"}))


def timed_source(source: Source, probe: Probe) -> Source:
    """`source`, its calls timed into `probe`."""
    seen: Any = _Timed(source, probe, _SOURCE)
    feed, fed = seen.feed, probe.setdefault("fed", [])

    def counted(tokens: Sequence[int]) -> None:
        fed.append(len(tokens))
        feed(tokens)

    seen.feed = counted
    return cast(Source, seen)


def timed(run: Callable[Parameters, Result], into: list[int]) -> Callable[Parameters, Result]:
    """`run`, with the nanoseconds of each call appended to `into`."""

    def call(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        started = time.perf_counter_ns()
        try:
            return run(*args, **options)
        finally:
            into.append(time.perf_counter_ns() - started)

    return call
