"""Runs a generation in a worker thread, so that the main thread is free for Ctrl-C, and carries the interrupt.

All that decodes runs in a worker: a KeyboardInterrupt, which only ever strikes the main thread, can then not fall
between what the cache holds and what its log says. What else touches the cache is checked where it is taken up.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import llama_cpp

from localmem.protocols import TextCallback

Result = TypeVar("Result")


class AbortFlag:
    """The interrupt that llama.cpp sees: libc's strlen of a buffer that holds an empty or a one-character string.

    C code, because llama.cpp asks hundreds of times a token: a Python callback would fight for the GIL each time.
    """

    def __init__(self, context: Any) -> None:
        self._buffer = ctypes.create_string_buffer(2)
        libc = ctypes.CDLL("msvcrt" if os.name == "nt" else None)
        strlen = ctypes.cast(libc.strlen, llama_cpp.ggml_abort_callback)
        self._keep = strlen
        llama_cpp.llama_set_abort_callback(context, strlen, ctypes.cast(self._buffer, ctypes.c_void_p))

    def set(self) -> None:
        self._buffer[0] = b"\x01"

    def clear(self) -> None:
        self._buffer[0] = b"\x00"

    @property
    def is_set(self) -> bool:
        return self._buffer[0] != b"\x00"


class Job(Generic[Result]):
    """One generation in its thread: `work` gets a callback for its text, which `result` hands over in this thread.

    `after` runs in the same thread once the result is out: nobody but `wait` waits for it. That is for a flag of its
    own and not for the thread: a Ctrl-C in `Thread.join` makes Python believe that the thread has ended.
    """

    def __init__(
        self, work: Callable[[TextCallback], Result], abort: AbortFlag, *, after: Callable[[], None] | None = None
    ) -> None:
        self._work = work
        self._after = after
        self._abort = abort
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._results: list[Result] = []
        self._errors: list[BaseException] = []
        self._gate = threading.Lock()
        self._begun = self._dropped = False
        self._over = threading.Event()

    def _run(self) -> None:
        with self._gate:
            if self._dropped:
                return
            self._begun = True
        try:
            self._work_and_tell()
            if self._after is not None and not self._errors:
                self._after()
        finally:
            self._over.set()

    def _work_and_tell(self) -> None:
        try:
            self._results.append(self._work(self._pieces.put))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread, whatever it is
            self._errors.append(error)
        finally:
            self._pieces.put(None)

    def result(self, on_text: TextCallback | None) -> Result:
        """Start, hand the text over, and return what `work` did. Ctrl-C and an exception in `on_text` end the work."""
        try:
            threading.Thread(target=self._run, name="localmem-decode").start()
            self._hand_over(on_text)
        except BaseException:
            self._abort.set()
            self.wait()
            raise
        if self._errors:
            raise self._errors[0]
        return self._results[0]

    def _hand_over(self, on_text: TextCallback | None) -> None:
        while True:
            try:
                piece = self._pieces.get()
                if piece is None:
                    return
                if on_text is not None:
                    on_text(piece)
            except KeyboardInterrupt:
                self._abort.set()
                if (self._results or self._errors) and self._pieces.empty():
                    return  # it may have struck while the last piece was taken

    def wait(self) -> None:
        """Until the thread is done with the context. One that has not begun never will."""
        with self._gate:
            self._dropped = not self._begun
        if not self._dropped:
            self._over.wait()
