"""LlamaEngine: a GGUF model on llama.cpp's low-level API. Tokens in, tokens out.

Its own loop instead of llama-cpp-python's high-level `Llama`: that one parses the grammar at every call and masks the
whole vocabulary at every token. Decoding runs in a worker thread, so that the main thread is free for Ctrl-C, and an
interrupt reaches llama.cpp inside a batch (see `worker`).

Knows nothing of messages' meaning, functions or memory.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp

from localmem.engine.chat_format import CHATML, TemplateFormat
from localmem.engine.decoding import DecodeLoop, Source
from localmem.engine.fingerprint import cache_settings
from localmem.engine.kv import Match
from localmem.engine.llama_source import LlamaSource
from localmem.engine.loading import LlamaOptions, apply_adapter, load_model, new_context
from localmem.engine.loading import build_info as build_info
from localmem.engine.probe import Probe, timed_matcher, timed_source
from localmem.engine.reading import Reading
from localmem.engine.saving import Saving
from localmem.engine.sequences import Sequences
from localmem.engine.spelling import TokenBytes
from localmem.engine.vocabulary import LlamaVocabulary
from localmem.engine.worker import AbortFlag, Job
from localmem.errors import ModelError
from localmem.protocols import Generation, Grammar, Matcher, Sampling, TextCallback


class LlamaEngine:
    """A loaded model and its KV cache. Use it from one thread; `interrupt` from any."""

    def __init__(self, path: Path, options: LlamaOptions | None = None, *, name: str | None = None) -> None:
        path = path.resolve()
        self.options = options or LlamaOptions()
        self.name = name or path.stem
        with contextlib.ExitStack() as undo:
            self._model = load_model(path, self.options)
            undo.callback(llama_cpp.llama_model_free, self._model)
            self._context, layout = new_context(self._model, path, self.options)
            undo.callback(llama_cpp.llama_free, self._context)
            apply_adapter(self._model, self._context, self.options)
            self.n_ctx = layout.window
            self.vocabulary = LlamaVocabulary(self._model)
            self.chat_format = self._chat_format()
            undo.pop_all()
        self._spell = TokenBytes(self.vocabulary)
        self._abort = AbortFlag(self._context)
        self._sequences = Sequences(self._context, layout)
        self._saving = Saving(
            self._sequences, self.name, lambda: cache_settings(self._model, path, self.options, layout)
        )
        self._source = LlamaSource(self._context, self._saving, self.vocabulary, self._abort)
        self._source.select(self._sequences.current)
        self._reading: Reading | None = None
        self._read_before = 0
        self._job: Job[tuple[Match, float, float]] | None = None
        self._turn = threading.RLock()
        self._closed = False
        self._asked_to_stop = False
        #: Set to a dict, it collects the nanoseconds of each part of decoding, call by call.
        self.probe: Probe | None = None

    def _chat_format(self) -> TemplateFormat:
        template = self.options.chat_template
        if template is None:
            raw = llama_cpp.llama_model_chat_template(self._model, None)
            template = raw.decode("utf-8", "replace") if raw else CHATML
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        eos = int(llama_cpp.llama_vocab_eos(vocab))
        return TemplateFormat(self.vocabulary, template, bos=self.vocabulary.bos, eos=eos if eos >= 0 else None)

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
        """Prefill what the KV cache does not hold of `prompt` (text or token ids), then decode up to `max_tokens`.

        The KV cache then holds the prompt and every generated token; the last of them are fed while the caller goes on,
        and whatever is asked of the engine next waits for that. Ctrl-C in the main thread and
        `interrupt()` end it with finish "interrupted". Raises ModelError if the window is too small, GrammarError if
        the shortest document of `constraint` does not fit `max_tokens`.
        """
        started = time.perf_counter()
        with self._turn:
            self._asked_to_stop = False
            self._wait()
            self._abort.clear()
            tokens = self._prompt_tokens(prompt, max_tokens)
            self._source.select(self._sequences.choose(tokens, len(tokens) + max_tokens))
            matcher = constraint.bind(self.vocabulary) if constraint is not None else None
            loop = self._loop(matcher, max_tokens)
            sampling = self._sampling(temperature, seed)
            self._job = Job(
                lambda hand_on: self._run(loop, tokens, sampling, hand_on if on_text else _nobody),
                self._abort,
                after=lambda: self._settle(loop),
            )
            if self._asked_to_stop:  # while it waited
                self._abort.set()
            match, first, last = self._job.result(on_text)
        times = first - started, last - first
        return loop.generation(prompt=len(tokens), reused=match.reused, diverged_at=match.diverged_at, times=times)

    def _loop(self, matcher: Matcher | None, max_tokens: int) -> DecodeLoop:
        source: Source = self._source
        if self.probe is not None:
            source = timed_source(source, self.probe)
            matcher = matcher and timed_matcher(matcher, self.probe)
        return DecodeLoop(source, self.vocabulary, self._spell, matcher=matcher, max_tokens=max_tokens)

    def _run(
        self, loop: DecodeLoop, tokens: list[int], sampling: Sampling, hand_on: TextCallback
    ) -> tuple[Match, float, float]:
        """In the worker: how the prompt met the cache, and when its first and last token came."""
        match = self._source.begin(tokens, sampling)
        try:
            loop.run(tokens[match.reused :], hand_on)
        except BaseException:
            self._source.resync()
            raise
        last = time.perf_counter()
        return match, self._source.first_sample or last, last

    def _settle(self, loop: DecodeLoop) -> None:
        """In the worker, after the result is out. What cannot be fed is not in the log: the next prompt brings it."""
        try:
            loop.settle()
        except ModelError:
            self._source.resync()
        self._saving.write_kept()

    def _wait(self) -> None:
        """For the last batch of a generation, or one that an exception (a second Ctrl-C) left running.

        What is being read ahead is stopped.
        """
        if self._job is not None:
            self._job.wait()
            self._job = None
        if self._reading is not None:
            self._reading.stop()
            self._read_before += self._reading.read
            self._reading = None

    # -- the KV cache between generations

    @property
    def held(self) -> list[int]:
        """The tokens whose keys and values the current sequence of the KV cache holds."""
        with self._turn:
            self._wait()
            return list(self._sequences.current.log)

    @property
    def fingerprint(self) -> str:
        return self._saving.fingerprint

    @property
    def idle_tokens(self) -> int:
        return self._read_before + (self._reading.read if self._reading is not None else 0)

    @property
    def reading(self) -> bool:
        return self._reading is not None and self._reading.going_on

    def missing(self, prompt: Sequence[int]) -> int:
        with self._turn:
            self._wait()
            return len(prompt) if self._closed else self._sequences.missing(prompt)

    def read_ahead(self, prompt: Sequence[int]) -> bool:
        with self._turn:
            self._wait()
            if self._closed or not 0 < len(prompt) <= self.n_ctx:
                return False
            cache = self._sequences.to_read(prompt)
            if cache is None:
                return False
            self._abort.clear()
            self._source.select(cache)
            cache.mark()
            rest = list(prompt[len(cache.log) :])
            breaks_off = cache.rewinds and self.options.n_gpu_layers == 0
            self._reading = Reading(rest, self._source.read, self._abort.set, breaks_off=breaks_off)
            self._reading.start()
            return True

    def wait_idle(self, seconds: float | None = None) -> bool:
        reading = self._reading
        return reading is None or reading.wait(seconds)

    def keep(self, prefix: Sequence[int], file: Path, *, most: int) -> None:
        with self._turn:
            self._wait()
            if not self._closed:
                self._saving.keep(prefix, file, most=most)
                self._saving.write_kept()

    def save(self, file: Path, prompt: Sequence[int], *, agent: str, layout: Mapping[str, Any], most: int) -> bool:
        with self._turn:
            self._wait()
            if self._closed or not prompt:
                return False
            self._saving.write_kept()
            return self._saving.save(file, prompt, agent=agent, layout=layout, most=most)

    def restore(self, file: Path, prompt: Sequence[int]) -> int:
        with self._turn:
            self._wait()
            return 0 if self._closed else self._saving.restore(file, prompt)

    def _prompt_tokens(self, prompt: str | Sequence[int], max_tokens: int) -> list[int]:
        if self._closed:
            raise ModelError("This engine is closed; load the model again.")
        if isinstance(prompt, str):
            bos = self.vocabulary.bos
            tokens = [*([] if bos is None else [bos]), *self.vocabulary.tokenize(prompt)]
        else:
            tokens = list(prompt)
        if not tokens:
            raise ModelError("The prompt is empty; give at least one token.")
        if not 0 <= min(tokens) <= max(tokens) < self.vocabulary.size:
            raise ModelError(f"A token of the prompt is not one of the model's: ids are below {self.vocabulary.size}.")
        if len(tokens) + max_tokens > self.n_ctx:
            raise ModelError(
                f"The prompt's {len(tokens)} tokens and max_tokens {max_tokens} do not fit n_ctx {self.n_ctx}; "
                "shorten the prompt or load the model with a larger n_ctx."
            )
        return tokens

    def _sampling(self, temperature: float | None, seed: int | None) -> Sampling:
        own = self.options.sampling
        return Sampling(
            temperature=own.temperature if temperature is None else temperature,
            top_k=own.top_k,
            top_p=own.top_p,
            min_p=own.min_p,
            seed=own.seed if seed is None else seed,
        )

    def interrupt(self) -> None:
        """Stop a running `generate` within 200 ms."""
        self._asked_to_stop = True
        if self._reading is None:  # what is read ahead is nobody's turn
            self._abort.set()

    def close(self) -> None:
        """Free the model, ending a running `generate` first. Further use raises ModelError."""
        if self._closed:
            return
        self._closed = True
        self._abort.set()
        with self._turn:
            self._wait()
            self._source.close()
            self.vocabulary.close()
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)


def _nobody(text: str) -> None:
    """Takes text that no one asked for: waking the caller's thread for each token costs what decoding could use."""
