"""Reading ahead: a prompt is decoded into the KV cache while nothing else is asked of the engine.

In batches, in a thread of its own, which stops within 150 ms when it is told to. What was read by then stays. Knows
neither why a prompt is read nor what follows it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from localmem.engine.decoding import Interrupted
from localmem.errors import ModelError

#: Where a batch cannot be broken off, none is to take longer.
LONGEST_BATCH_S = 0.08
_BATCH = 64
_FIRST_BATCH = 8


class Feed(Protocol):
    def __call__(self, tokens: Sequence[int]) -> None:
        """Decode `tokens`. Raises Interrupted, ModelError."""
        ...


class Reading:
    """One prompt being read ahead; `breaks_off` says that `abort` ends a batch at once."""

    def __init__(self, tokens: Sequence[int], feed: Feed, abort: Callable[[], None], *, breaks_off: bool) -> None:
        self._tokens, self._feed, self._abort = list(tokens), feed, abort
        self._breaks_off = breaks_off
        self._stop = threading.Event()
        self._over = threading.Event()
        self._gate = threading.Lock()
        self._begun = False
        #: Tokens read so far.
        self.read = 0

    def start(self) -> None:
        """Begin. Whoever starts it holds it already, so that an exception in here (Ctrl-C) leaves none behind."""
        threading.Thread(target=self._run, name="localmem-read-ahead", daemon=True).start()

    def _run(self) -> None:
        with self._gate:
            if self._stop.is_set():
                return
            self._begun = True
        size = _BATCH if self._breaks_off else _FIRST_BATCH
        try:
            while self._tokens and not self._stop.is_set():
                started = time.perf_counter()
                batch, self._tokens = self._tokens[:size], self._tokens[size:]
                self._feed(batch)
                self.read += len(batch)
                if not self._breaks_off:
                    size = _next_size(size, time.perf_counter() - started)
        except (Interrupted, ModelError):
            pass  # the log holds what was read; what was not is read when it is asked for
        finally:
            self._over.set()

    @property
    def going_on(self) -> bool:
        return not self._over.is_set()

    def stop(self) -> None:
        """Until the thread is done with the context. One that has not begun never will."""
        self._stop.set()
        with self._gate:
            if not self._begun:
                self._over.set()
        if self._breaks_off and self.going_on:
            self._abort()
        self._over.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Until it ends, or so long; whether it has ended."""
        return self._over.wait(seconds)


def _next_size(size: int, took: float) -> int:
    """Batches as large as may be without taking too long."""
    fitting = int(size * LONGEST_BATCH_S / max(took, 1e-6))
    return max(1, min(2 * size, fitting, _BATCH))
