"""ScriptedEngine: the shipped fake, so that everything above the engine is testable without weights.

It runs the real decode loop under the real grammar, on a vocabulary of bytes, and draws each answer from a queue or
from a function of the prompt. An answer that the grammar refuses is a mistake in the script and is reported as one.
Without an answer it writes random legal text (seeded): the adversarial model against which validity is proved.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localmem.engine.chat_format import CHATML, TemplateFormat
from localmem.engine.decoding import DecodeLoop, Interrupted
from localmem.engine.kv import common_prefix
from localmem.engine.spelling import TokenBytes
from localmem.errors import GrammarError, ModelError
from localmem.events import write_call
from localmem.protocols import Finish, Generation, Grammar, TextCallback, TokenRules

_SPECIAL = [b"<|im_start|>", b"<|im_end|>", b"<|endoftext|>"]
_START, _END, _EOT = 256, 257, 258

Answer = Mapping[str, Any] | str
Script = Callable[[str], Answer | None]


class ByteVocabulary:
    """One token a byte, and ChatML's markers."""

    size = 259
    end_tokens = frozenset({_END, _EOT})
    control_tokens = frozenset({_START, _END, _EOT})

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        if not special:
            return list(text.encode("utf-8", "replace"))
        tokens: list[int] = []
        data = text.encode("utf-8", "replace")
        while data:
            marker = next((i for i, name in enumerate(_SPECIAL) if data.startswith(name)), None)
            tokens.append(data[0] if marker is None else 256 + marker)
            data = data[1 if marker is None else len(_SPECIAL[marker]) :]
        return tokens

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else _SPECIAL[token - 256]

    def gbnf(self, source: str) -> TokenRules:
        raise GrammarError("GBNF is run by llama.cpp, which has no part in this engine; use backend llguidance.")

    def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(t for t in tokens if t < 256).decode("utf-8", "replace")


#: Shared, so that what is built once a vocabulary is built once.
BYTES = ByteVocabulary()


class ScriptedEngine:
    """An `Engine` that writes what it is told to.

    `answers` are texts or calls (`{"function": ..., "arguments": ..., "thought": ...}`), used in order; `script` is
    asked with the prompt's text when the queue is empty, and where it returns None (or is absent) the text is random.
    """

    name = "scripted"

    def __init__(
        self, answers: Iterable[Answer] = (), *, script: Script | None = None, n_ctx: int = 16384, seed: int = 0
    ) -> None:
        self.answers = deque(answers)
        self.prompts: list[str] = []
        self.n_ctx = n_ctx
        self.vocabulary = BYTES
        self.chat_format = TemplateFormat(BYTES, CHATML)
        self._script = script
        self._random = random.Random(seed)
        self._log: list[int] = []
        self._ahead: list[int] = []
        self.idle_tokens = 0
        self._spell = TokenBytes(BYTES)
        self._stop = False

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        constraint: Grammar | None = None,
        max_tokens: int = 256,
        temperature: float | None = None,
        seed: int | None = None,
        on_text: TextCallback | None = None,
    ) -> Generation:
        tokens = BYTES.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if len(tokens) + max_tokens > self.n_ctx:
            raise ModelError(f"The prompt's {len(tokens)} tokens and {max_tokens} more exceed n_ctx {self.n_ctx}.")
        text = BYTES.detokenize(tokens)
        self.prompts.append(text)
        if common_prefix(self._ahead, tokens) > common_prefix(self._log, tokens):
            self._log, self._ahead = self._ahead, []
        reused = common_prefix(self._log, tokens)
        diverged = reused if reused < len(self._log) else None
        self._log = tokens[:reused]
        self._stop = False
        started = time.perf_counter()
        source = _ScriptedSource(self, self._next_answer(text))
        matcher = constraint.bind(BYTES) if constraint is not None else None
        loop = DecodeLoop(source, BYTES, self._spell, matcher=matcher, max_tokens=max_tokens)
        out = loop.run(tokens[reused:], on_text or (lambda _: None))
        loop.settle()
        source.check(loop.text, out.finish)
        times = 0.0, time.perf_counter() - started
        return loop.generation(prompt=len(tokens), reused=reused, diverged_at=diverged, times=times)

    def _next_answer(self, prompt: str) -> str | None:
        answer = self.answers.popleft() if self.answers else self._script(prompt) if self._script else None
        if answer is None or isinstance(answer, str):
            return answer
        return write_call(answer.get("thought", ""), answer["function"], answer.get("arguments") or {})

    def interrupt(self) -> None:
        self._stop = True

    # -- the KV cache between generations: whatever is to be read ahead is read at once, and nothing is saved

    fingerprint = ""
    reading = False

    @property
    def held(self) -> list[int]:
        return list(self._log)

    def missing(self, prompt: Sequence[int]) -> int:
        return len(prompt) - max(common_prefix(log, prompt) for log in (self._log, self._ahead))

    def read_ahead(self, prompt: Sequence[int]) -> bool:
        self.idle_tokens += self.missing(prompt)
        if self._log == list(prompt[: len(self._log)]):
            self._log = list(prompt)
        else:
            self._ahead = list(prompt)
        return True

    def wait_idle(self, seconds: float | None = None) -> bool:
        return True

    def keep(self, prefix: Sequence[int], file: Path, *, most: int) -> None:
        pass

    def save(self, file: Path, prompt: Sequence[int], *, agent: str, layout: Mapping[str, Any], most: int) -> bool:
        return False

    def restore(self, file: Path, prompt: Sequence[int]) -> int:
        return 0

    def close(self) -> None:
        self._log.clear()


class _ScriptedSource:
    """Writes one answer byte by byte, or random legal bytes."""

    def __init__(self, engine: ScriptedEngine, answer: str | None) -> None:
        self._engine = engine
        self._scripted = answer
        self._answer = None if answer is None else answer.encode()
        self._start = -1

    def feed(self, tokens: Sequence[int]) -> None:
        if self._engine._stop:
            raise Interrupted
        self._engine._log += tokens
        if self._start < 0:
            self._start = self._prompt_end(tokens)

    def _prompt_end(self, tokens: Sequence[int]) -> int:
        """Where the answer begins in the log: forced tokens may have come in one batch with the prompt."""
        forced = len(_common_suffix(bytes(t for t in tokens if t < 256), self._answer or b""))
        return len(self._engine._log) - forced

    def sample(self, allowed: NDArray[np.bool_] | None) -> int:
        if self._answer is None:
            return self._random_token(allowed)
        if self._start < 0:  # the prompt was in the log already, to its last token
            self._start = len(self._engine._log)
        at = len(self._engine._log) - self._start
        token = self._answer[at] if at < len(self._answer) else _END
        if allowed is None or allowed[token]:
            return token
        self._answer = None
        return self._random_token(allowed)

    def _random_token(self, allowed: NDArray[np.bool_] | None) -> int:
        if allowed is None:
            return int(self._engine._random.choice([_END, *range(32, 127)]))
        choices = np.flatnonzero(allowed)
        # Random bytes alone would hardly ever end a string.
        quote = ord('"')
        if allowed[quote] and self._engine._random.random() < 0.1:
            return quote
        at = self._engine._random.randrange(len(choices))
        return int(choices[at])

    def drop(self, count: int) -> None:
        del self._engine._log[len(self._engine._log) - count :]

    def check(self, text: str, finish: Finish) -> None:
        """Raise AssertionError if the grammar made something else of the answer: the script is wrong."""
        if self._scripted is not None and finish == "stop" and text != self._scripted:
            raise AssertionError(f"The grammar does not allow the scripted answer {self._scripted}; it made {text}")


def _common_suffix(batch: bytes, answer: bytes) -> bytes:
    """The longest beginning of `answer` that `batch` ends with."""
    for length in range(min(len(batch), len(answer)), 0, -1):
        if batch.endswith(answer[:length]):
            return answer[:length]
    return b""
