"""llama.cpp's log, kept off the terminal; its last errors explain a failed load."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import llama_cpp

_ERROR = 4  # GGML_LOG_LEVEL_ERROR


@dataclass(slots=True)
class Log:
    """The newest error lines."""

    errors: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def cause(self) -> str:
        """The first error in one line: what follows it is consequence."""
        first = next((line for line in self.errors if line), "no reason given")
        return " ".join(first.split(":", 1)[-1].split()).rstrip(".")


_log = Log()


def _keep_error(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == _ERROR:
        _log.errors.append(text.decode("utf-8", "replace").strip())


_keep = llama_cpp.llama_log_callback(_keep_error)


@contextmanager
def captured_log() -> Iterator[Log]:
    """Within it, and after it, llama.cpp prints nothing; the errors of this block are in the Log."""
    llama_cpp.llama_log_set(_keep, ctypes.c_void_p(0))
    _log.errors.clear()
    yield _log
