"""The decode loop's source on llama.cpp: batches into a sequence of the KV cache, samples out of the logits."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, Protocol

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from localmem.engine.decoding import Interrupted
from localmem.engine.kv import Match, SequenceCache
from localmem.engine.saving import Saving
from localmem.errors import ModelError
from localmem.protocols import Sampling, Vocabulary


class AbortFlag(Protocol):
    @property
    def is_set(self) -> bool: ...


class LlamaSource:
    """A llama.cpp context: the sequence that is being written, a batch to fill it, and a sampler chain."""

    cache: SequenceCache

    def __init__(self, context: Any, saving: Saving, vocabulary: Vocabulary, abort: AbortFlag) -> None:
        self._context, self._saving = context, saving
        self._size = vocabulary.size
        self._abort = abort
        # Never more than the context's cells: llama.cpp aborts on a larger batch.
        self._n_batch = int(llama_cpp.llama_n_batch(context))
        self._batch = llama_cpp.llama_batch_init(self._n_batch, 0, 1)
        for i in range(self._n_batch):  # what no batch changes
            self._batch.n_seq_id[i] = 1
            self._batch.logits[i] = 0
        self._token = np.ctypeslib.as_array(self._batch.token, shape=(self._n_batch,))
        self._pos = np.ctypeslib.as_array(self._batch.pos, shape=(self._n_batch,))
        self._sampler: Any = None
        self.first_sample: float | None = None

    def select(self, cache: SequenceCache) -> None:
        """Go on with this sequence."""
        self.cache = cache
        for i in range(self._n_batch):
            self._batch.seq_id[i][0] = cache.sequence

    def begin(self, prompt: Sequence[int], sampling: Sampling) -> Match:
        """Set the cache back to what it shares with `prompt`, and the sampler to `sampling`."""
        self._free_sampler()
        self._sampler = _sampler_chain(sampling)
        self.first_sample = None
        match = self.cache.fit(prompt)
        self.cache.mark()
        return match

    def feed(self, tokens: Sequence[int]) -> None:
        """Decode `tokens`; logits for the last one only. Raises Interrupted, ModelError."""
        self._feed(tokens, logits=True)

    def read(self, tokens: Sequence[int]) -> None:
        """Decode `tokens` without asking what follows them. Raises Interrupted, ModelError."""
        self._feed(tokens, logits=False)

    def _feed(self, tokens: Sequence[int], *, logits: bool) -> None:
        """In batches, one of which ends where a prefix that is to be saved ends."""
        count = self._saving.before_boundary(self.cache, tokens[:-1] if logits else tokens)
        if count:
            self._feed_batches(tokens[:count], logits=False)
            self._saving.at_boundary(self.cache)
        self._feed_batches(tokens[count:], logits=logits)

    def _feed_batches(self, tokens: Sequence[int], *, logits: bool) -> None:
        for start in range(0, len(tokens), self._n_batch):
            if self._abort.is_set:
                raise Interrupted
            last = start + self._n_batch >= len(tokens)
            self._decode(tokens[start : start + self._n_batch], last=logits and last)

    def _decode(self, tokens: Sequence[int], *, last: bool) -> None:
        batch, n, position = self._batch, len(tokens), len(self.cache.log)
        batch.n_tokens = n
        self._token[:n] = tokens
        self._pos[:n] = np.arange(position, position + n)
        batch.logits[n - 1] = last
        status = llama_cpp.llama_decode(self._context, batch)
        batch.logits[n - 1] = 0
        self.cache.log += tokens
        if status:
            self.cache.resync()
            if status == 2:
                raise Interrupted
            raise ModelError(f"llama.cpp failed to decode a batch (status {status}); use a smaller n_ctx or n_batch.")

    def sample(self, allowed: NDArray[np.bool_] | None) -> int:
        if self._abort.is_set:
            raise Interrupted
        if self.first_sample is None:
            self.first_sample = time.perf_counter()
        if allowed is not None:
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), shape=(self._size,))
            logits[~allowed] = -np.inf
        token = int(llama_cpp.llama_sampler_sample(self._sampler, self._context, -1))
        if allowed is not None and not allowed[token]:  # every allowed token's probability was rounded to nothing
            token = int(np.flatnonzero(allowed)[np.argmax(logits[allowed])])
        return token

    def drop(self, count: int) -> None:
        kept = self.cache.log[: len(self.cache.log) - count]
        rest = kept[self.cache.fit([*kept, -1]).reused :]
        self.feed(rest)

    def resync(self) -> None:
        self.cache.resync()

    def close(self) -> None:
        self._free_sampler()
        llama_cpp.llama_batch_free(self._batch)

    def _free_sampler(self) -> None:
        if self._sampler is not None:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None


def _sampler_chain(sampling: Sampling) -> Any:
    """llama.cpp's usual order: top-k, top-p, min-p, temperature, draw; greedy at temperature 0."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    if sampling.temperature <= 0:
        links = [llama_cpp.llama_sampler_init_greedy()]
    else:
        seed = random.getrandbits(32) if sampling.seed is None else sampling.seed & 0xFFFFFFFF
        links = [
            llama_cpp.llama_sampler_init_top_k(sampling.top_k),
            llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1),
            llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1),
            llama_cpp.llama_sampler_init_temp(sampling.temperature),
            llama_cpp.llama_sampler_init_dist(seed),
        ]
    for link in links:
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain
