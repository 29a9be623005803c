"""Timers and heartbeats of a chat: what is due, and when. Knows no agent and starts no thread: whoever waits asks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from localmem.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_MOST_S = 400 * 86400


def parse_span(text: str) -> float:
    """Seconds of `90s`, `10m`, `1h30m`, `2d`. ConfigError if it is none of that kind."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text) if _SPAN.fullmatch(text) else []
    seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
    if not 0 < seconds <= _MOST_S:
        raise ConfigError(f"{text!r} is no length of time; write 90s, 10m, 1h30m or 2d")
    return seconds


def span_text(seconds: float) -> str:
    """Seconds as `parse_span` reads them, in the two largest units."""
    rest, parts = max(1, round(seconds)), []
    for unit, size in reversed(_UNITS.items()):
        if rest >= size:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return "".join(parts[:2])


@dataclass(slots=True)
class Timer:
    """Due at `due`, by the clock of its `Timers`. With `every`, in seconds, it is a heartbeat."""

    due: float
    text: str = ""
    every: float | None = None


class Timers:
    """What a chat waits for beside its user."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._timers: list[Timer] = []

    def set(self, seconds: float, text: str) -> None:
        """Once, after so many seconds."""
        self._timers.append(Timer(self._clock() + seconds, text))

    def heartbeat(self, every: float) -> None:
        """Again and again, counted from the end of the one before."""
        self._timers.append(Timer(self._clock() + every, every=every))

    def pending(self) -> list[tuple[float, str]]:
        """The timers that were set, without heartbeats: seconds left and text, the next one first."""
        now = self._clock()
        return sorted((timer.due - now, timer.text) for timer in self._timers if timer.every is None)

    def clear(self) -> int:
        """Forget the timers, but no heartbeat; how many they were."""
        kept = [timer for timer in self._timers if timer.every is not None]
        count = len(self._timers) - len(kept)
        self._timers = kept
        return count

    def wait(self) -> float | None:
        """Seconds until the next one is due, 0 if one is; None if there is none."""
        if not self._timers:
            return None
        return max(0.0, min(timer.due for timer in self._timers) - self._clock())

    def take_due(self) -> list[Timer]:
        """The timers that are due, the first one first; heartbeats among them are set anew by `again`."""
        now = self._clock()
        due = sorted((timer for timer in self._timers if timer.due <= now), key=lambda timer: timer.due)
        self._timers = [timer for timer in self._timers if timer.due > now]
        return due

    def again(self, timer: Timer) -> None:
        """A heartbeat is over: the next one counts from now."""
        if timer.every is not None:
            self.heartbeat(timer.every)
