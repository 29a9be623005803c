"""The worker: Ctrl-C at awkward instants. Whole generations are tested in test_llama."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time

import pytest

from localmem.engine.worker import Job


class Flag:
    """An AbortFlag without a context."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True


def _ctrl_c_in(seconds: float) -> None:
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


def test_a_ctrl_c_while_waiting_does_not_make_the_next_wait_short() -> None:
    done: list[str] = []

    def after() -> None:
        time.sleep(0.6)
        done.append("after")

    job = Job(lambda _: "result", Flag(), after=after)
    assert job.result(None) == "result"
    _ctrl_c_in(0.1)
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert done == []
    job.wait()
    assert done == ["after"]


def test_a_ctrl_c_that_swallows_the_last_piece_is_no_endless_wait() -> None:
    class Swallowing(queue.SimpleQueue):
        """Raises as Python does between taking a piece and giving it back."""

        def get(self, *args: object, **options: object) -> object:
            if super().get() is None:
                raise KeyboardInterrupt
            return "piece"

    job = Job(lambda hand_on: hand_on("piece") or "result", Flag())
    job._pieces = Swallowing()
    assert job.result(None) == "result"


def test_what_is_dropped_before_it_begins_never_begins() -> None:
    worked: list[int] = []
    job = Job(worked.append, Flag())
    job.wait()
    job._run()
    assert not worked


def test_an_error_in_the_work_is_the_callers_and_nothing_comes_after() -> None:
    later: list[int] = []
    job = Job(lambda _: 1 // 0, Flag(), after=lambda: later.append(1))
    with pytest.raises(ZeroDivisionError):
        job.result(None)
    job.wait()
    assert not later
