"""Dictation: an engine that writes what it is told to, in a real model's tokens, or lets the model write.

What is dictated goes through the product's own decode loop under the agent's own grammar: forced tokens are forced, and
a call that the agent could not have made here is refused. No model computes anything for it. Knows nothing of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from localmem.engine.decoding import DecodeLoop
from localmem.engine.llama import LlamaEngine
from localmem.engine.spelling import TokenBytes
from localmem.errors import GrammarError
from localmem.protocols import Engine, Generation, Grammar, TextCallback, Vocabulary

#: Gives the text of the next answer, or None to let the model write; asked with the grammar it will be written under.
Author = Callable[[Grammar | None], str | None]
#: Gets each dictated generation: the tokens of the prompt, those written, and which of these the grammar left open.
Listener = Callable[[Sequence[int], Sequence[int], Sequence[int]], None]


class _Pen:
    """Writes one text: at each free choice, the first token of what is left of it as the vocabulary spells it."""

    def __init__(self, vocabulary: Vocabulary, text: str, prompt: int) -> None:
        self._vocabulary, self._left, self._prompt = vocabulary, text.encode(), prompt
        self._fed = 0
        #: Places of the tokens that the grammar left open.
        self.chosen: list[int] = []

    def feed(self, tokens: Sequence[int]) -> None:
        skipped = min(self._prompt, len(tokens))
        self._prompt -= skipped
        self._fed += len(tokens) - skipped
        for token in tokens[skipped:]:
            piece = self._vocabulary.token_bytes(token)
            if not self._left.startswith(piece):
                raise GrammarError(f"The grammar forces {piece!r} where the script says {self._left[:40]!r}.")
            self._left = self._left[len(piece) :]

    def sample(self, allowed: NDArray[np.bool_] | None) -> int:
        if not self.chosen or self.chosen[-1] != self._fed:  # asked again, it was refused
            self.chosen.append(self._fed)
        if not self._left:
            return min(self._vocabulary.end_tokens)
        if allowed is None:
            return self._vocabulary.tokenize(self._left.decode("utf-8", "replace"))[0]
        spelled = ((self._vocabulary.token_bytes(int(token)), int(token)) for token in np.flatnonzero(allowed))
        fitting = [(len(piece), token) for piece, token in spelled if piece and self._left.startswith(piece)]
        if not fitting:
            raise GrammarError(f"The agent could not write this here: {self._left[:80]!r}.")
        return max(fitting)[1]

    def drop(self, count: int) -> None:
        raise GrammarError("The grammar ended the text before the script did.")


class DictatedEngine:
    """A loaded model to which answers are dictated by `author`; where it has none, the model writes, greedily.

    All that the KV cache does in idle time is left out: nothing is computed here but what the model itself writes.
    """

    def __init__(self, engine: LlamaEngine, author: Author, listener: Listener) -> None:
        self._engine, self._author, self._listener = engine, author, listener
        self._spell = TokenBytes(engine.vocabulary)
        self.name, self.n_ctx = engine.name, engine.n_ctx
        self.vocabulary, self.chat_format = engine.vocabulary, engine.chat_format
        self.idle_tokens, self.fingerprint, self.reading = 0, "", False
        self.held: list[int] = []

    @property
    def engine(self) -> Engine:
        """Itself, as what agents want."""
        return cast(Engine, self)

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
        """The next answer. GrammarError if the agent could not give it here."""
        text = self._author(constraint)
        if text is None:
            return self._engine.generate(
                prompt, constraint=constraint, max_tokens=max_tokens, temperature=0.0, on_text=on_text
            )
        tokens = self.vocabulary.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        pen = _Pen(self.vocabulary, text, len(tokens))
        matcher = constraint.bind(self.vocabulary) if constraint is not None else None
        loop = DecodeLoop(pen, self.vocabulary, self._spell, matcher=matcher, max_tokens=max_tokens)
        loop.run(tokens, on_text or (lambda _: None))
        done = loop.generation(prompt=len(tokens), reused=0, diverged_at=None, times=(0.0, 0.0))
        if done.text != text:
            raise GrammarError(f"The answer is cut: {done.text!r} of {text!r}.")
        self._listener(tokens, done.tokens, [at for at in pen.chosen if at < len(done.tokens)])
        return done

    def interrupt(self) -> None:
        """There is nothing that takes long."""

    def missing(self, prompt: Sequence[int]) -> int:
        """Nothing has to be read."""
        return 0

    def read_ahead(self, prompt: Sequence[int]) -> bool:
        """Nothing is read ahead."""
        return False

    def wait_idle(self, seconds: float | None = None) -> bool:
        """Always idle."""
        return True

    def keep(self, prefix: Sequence[int], file: Path, *, most: int) -> None:
        """Nothing is saved."""

    def save(self, *given: Any, **options: Any) -> bool:
        """Nothing is saved."""
        return False

    def restore(self, *given: Any, **options: Any) -> int:
        """Nothing is restored."""
        return 0

    def close(self) -> None:
        """The model stays with its owner."""
