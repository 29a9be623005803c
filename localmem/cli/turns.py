"""Running a turn so that Ctrl-C ends it, and nothing but it.

Knows the agent only as something that yields events and can be interrupted; prints nothing.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localmem.agent import Agent
    from localmem.events import Event

_PULSE_S = 0.05
#: A second Ctrl-C this long after the first, with the turn still going on, breaks it off where it is.
_PATIENCE_S = 2.0


class _Stop:
    """Asks for an interrupt again and again, until it is heeded: between two generations, one would be lost."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._wanted, self._over = threading.Event(), threading.Event()
        self._since = 0.0
        self._thread: threading.Thread | None = None
        self.pressed = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._wanted.is_set():
            if now - self._since > _PATIENCE_S:
                raise KeyboardInterrupt
            return
        self.pressed, self._since = True, now
        self._wanted.set()
        self._interrupt()
        if self._thread is None:
            self._thread = threading.Thread(target=self._pulse, name="localmem-interrupt", daemon=True)
            self._thread.start()

    def _pulse(self) -> None:
        while not self._over.wait(_PULSE_S):
            if self._wanted.is_set():
                self._interrupt()

    def heeded(self) -> None:
        self._wanted.clear()

    def end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()


@contextmanager
def _ctrl_c(stop: _Stop) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, stop.on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stoppable(interrupt: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Inside, Ctrl-C interrupts generations, one after the other, and breaks off nothing else: no query of the store.

    What is given is to be called now and then: it raises KeyboardInterrupt if Ctrl-C was pressed.
    """
    stop = _Stop(interrupt)

    def check() -> None:
        if stop.pressed:
            raise KeyboardInterrupt

    try:
        with _ctrl_c(stop):
            yield check
    finally:
        stop.end()


def run_turn(agent: Agent, events: Iterable[Event], show: Callable[[Event], None]) -> bool:
    """Show each event as it is committed; whether Ctrl-C was pressed.

    The first Ctrl-C stops the generation, and the agent records what was said. Should the turn not end by that, a later
    one breaks it off: then what was not committed is gone, and main context is read anew from the events.
    """
    stop = _Stop(agent.interrupt)
    try:
        with _ctrl_c(stop):
            for event in events:
                if event.details.get("interrupted"):
                    stop.heeded()
                show(event)
    except KeyboardInterrupt:
        stop.pressed = True
        agent.move(agent.store.head)
    finally:
        stop.end()
    return stop.pressed
