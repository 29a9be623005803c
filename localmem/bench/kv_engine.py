"""An engine to which the calls are dictated: a real model that really prefills and decodes, and has no say in it.

Each answer of the script is spelled token by token, one decoding step each, under the grammar of the agent's call: what
the agent could not have been answered is a mistake in the script. Times and counts are the engine's own. Knows the text
of calls; nothing of turns or policies.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from localmem.bench.first_call import document_of
from localmem.bench.kv_script import merged, page_out
from localmem.engine.llama import LlamaEngine
from localmem.errors import GrammarError, ModelError
from localmem.protocols import End, Engine, Generation, Grammar, Matcher, TextCallback, Vocabulary

_POLL_S = 0.05

#: Which of the cuts that are on offer to take, given their last events.
Choice = Callable[[Sequence[int]], int]


@dataclass(frozen=True, slots=True)
class Spelling:
    """A grammar that allows one text, spelled in one way, where `real` allows it too. Nothing in it is forced."""

    text: str
    real: Grammar

    def bind(self, vocabulary: Vocabulary) -> SpellingMatcher:
        return SpellingMatcher(self.text, vocabulary, self.real.bind(vocabulary))


class SpellingMatcher:
    """Allows the next token of the text. It ends with the text, and plans no other end."""

    end_bound: int | None = None

    def __init__(self, text: str, vocabulary: Vocabulary, real: Matcher) -> None:
        self._text, self._tokens, self._size, self._real = text, vocabulary.tokenize(text), vocabulary.size, real
        self._at = 0

    def forced(self) -> list[int]:
        return []

    def accept(self, token: int) -> bool:
        if self.complete or token != self._tokens[self._at]:
            return False
        if not self._real.accept(token):
            raise GrammarError(f"The script has a call that the agent cannot make here: {self._text}")
        self._at += 1
        return True

    def mask(self) -> NDArray[np.bool_]:
        allowed = np.zeros(self._size, dtype=np.bool_)
        if not self.complete:
            allowed[self._tokens[self._at]] = True
        return allowed

    @property
    def complete(self) -> bool:
        return self._at == len(self._tokens)

    @property
    def can_stop(self) -> bool:
        return self.complete

    def end(self, text: str) -> End | None:
        return None


class Dictated:
    """A loaded engine that writes `calls`, in order, and `summaries` where the agent asks for a page-out.

    With no call left it writes what the model itself would, greedily; summaries are merged by dictation if they were
    dictated. `choose` picks the cut of a page-out. All else is the engine's own, but without `reads_ahead` it does
    nothing in idle time. `generations` are all that there were, each with the name of the function that was called, and
    `began_at` says when; `moved` are the seconds of each snapshot saved or restored.
    """

    def __init__(self, engine: LlamaEngine, choose: Choice, *, reads_ahead: bool = True) -> None:
        self._engine, self._choose, self._reads_ahead = engine, choose, reads_ahead
        self._stopped = self._paged_out = False
        self.calls: deque[str] = deque()
        self.summaries: deque[str] = deque()
        self.generations: list[tuple[str, Generation]] = []
        self.began_at: list[float] = []
        self.moved: dict[str, list[float]] = {"save": [], "restore": []}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

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
        """As the engine, under the next answer's own grammar in place of `constraint`."""
        self.began_at.append(time.perf_counter())
        dictated = self._next(constraint)
        if dictated is not None and constraint is not None:
            constraint = Spelling(dictated, constraint)
        done = self._engine.generate(
            prompt, constraint=constraint, max_tokens=max_tokens, temperature=0.0, seed=seed, on_text=on_text
        )
        if done.finish == "interrupted" or self._stopped:
            raise KeyboardInterrupt
        if dictated is not None and done.text != dictated:
            raise ModelError(f"The script's call takes more than {max_tokens} tokens: {dictated}")
        self.generations.append((str(json.loads(done.text)["function"]), done))
        return done

    def _next(self, constraint: Grammar | None) -> str | None:
        offered = cuts_offered(constraint)
        if offered and self.summaries:
            self._paged_out = True
            return page_out(self._choose(offered), self.summaries.popleft())
        if offered:
            return merged(offered[0]) if self._paged_out else None
        return self.calls.popleft() if self.calls else None

    def read_ahead(self, prompt: Sequence[int]) -> bool:
        """As the engine, if this one reads ahead."""
        return self._reads_ahead and self._engine.read_ahead(prompt)

    def wait(self) -> None:
        """Until nothing is read ahead any more: the user has read the answer and typed the next message."""
        while self._engine.reading:
            self._engine.wait_idle(_POLL_S)
            if self._stopped:
                raise KeyboardInterrupt

    def interrupt(self) -> None:
        """Break off whatever goes on, with a KeyboardInterrupt in its thread."""
        self._stopped = True
        self._engine.interrupt()

    def save(self, *given: Any, **options: Any) -> bool:
        """As the engine; timed."""
        return bool(self._timed("save", given, options))

    def restore(self, *given: Any, **options: Any) -> int:
        """As the engine; timed."""
        return int(self._timed("restore", given, options))

    def _timed(self, name: str, given: Sequence[Any], options: Mapping[str, Any]) -> Any:
        started = time.perf_counter()
        done = getattr(self._engine, name)(*given, **options)
        self.moved[name].append(time.perf_counter() - started)
        return done


def cuts_offered(constraint: Grammar | None) -> list[int]:
    """What a page-out that is asked for may choose from; empty if other calls may be written."""
    properties = document_of(constraint).schema.get("properties") if constraint is not None else None
    if properties is None or properties["function"].get("const") != "page_out":
        return []
    through = properties["arguments"]["properties"]["through"]
    return [through["const"]] if "const" in through else list(through["enum"])
