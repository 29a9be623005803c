"""outlines_core's table of an expression, built in a process of its own that is ended when it takes too much.

How large an automaton becomes cannot be told from an expression, and outlines_core itself knows no limit.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from typing import Any

from localmem.errors import GrammarError

#: Seconds of processor time, so that a busy machine refuses no more than an idle one, and bytes of memory.
MOST_SECONDS = 10
MOST_BYTES = 2 << 30

#: However busy the machine is, nobody waits longer.
MOST_WAIT = 60.0

# What the building process runs. Its own limits end it even if this process dies.
_BUILD = """
import pickle, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2]) + 1))
except ImportError:
    pass
import outlines_core
regex, tokens = pickle.load(sys.stdin.buffer)
try:
    answer = outlines_core.Index(regex, tokens)
except ValueError as error:
    answer = str(error)
pickle.dump(answer, sys.stdout.buffer)
"""


def build(regex: str, tokens: Any) -> tuple[Any, int]:
    """The Index of `regex` over a Vocabulary of outlines_core, and its size in bytes.

    Raises GrammarError past the caps, or if outlines_core cannot read the expression.
    """
    command = [sys.executable, "-P", "-c", _BUILD, str(MOST_BYTES), str(MOST_SECONDS)]
    data = pickle.dumps((regex, tokens))
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=MOST_WAIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise _too_large(f"more than {MOST_WAIT:g} s") from error
    if done.returncode != 0:
        raise _failure(done.returncode, done.stderr.decode("utf-8", "replace"))
    answer = pickle.loads(done.stdout)
    if isinstance(answer, str) and "vocabulary" in answer:
        raise GrammarError("No text matches this regular expression, or the model's vocabulary cannot write it.")
    if isinstance(answer, str):
        raise GrammarError(f"outlines_core cannot use this regular expression: {' '.join(answer.split())[:200]}")
    return answer, len(done.stdout)


def _failure(code: int, said: str) -> GrammarError:
    if code == -getattr(signal, "SIGXCPU", 0):
        return _too_large(f"more than {MOST_SECONDS} s")
    if "memory" in said.lower():
        return _too_large(f"more than {MOST_BYTES >> 20:,} MB of memory")
    last = said.strip().rpartition("\n")[2]
    return GrammarError(f"outlines_core failed ({last[:200]}); use backend llguidance.")


def _too_large(what: str) -> GrammarError:
    return GrammarError(
        f"Backend outlines needs {what} to compile this; use lower bounds of length and repetition, or backend "
        "llguidance."
    )
