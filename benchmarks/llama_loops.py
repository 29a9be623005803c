"""Two loops to measure LlamaEngine against: bare llama.cpp calls, and llama-cpp-python's high-level `Llama`.

Both load the file themselves, with the same window, batch, threads and KV types as the engine that they are given.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp

from localmem.engine.llama import LlamaEngine
from localmem.engine.llama_log import captured_log
from localmem.models import physical_cores
from localmem.protocols import Sampling


@dataclass(frozen=True, slots=True)
class Run:
    """One generation: its tokens, and the seconds from the first sample to the last token in the KV cache."""

    tokens: Sequence[int]
    seconds: float


class RawLoop:
    """llama_decode one token at a time and llama_sampler_sample with the engine's chain; nothing else."""

    def __init__(self, path: Path, engine: LlamaEngine) -> None:
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), _model_params(engine))
        self._context = llama_cpp.llama_init_from_model(self._model, _context_params(engine))
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._n_batch = engine.options.n_batch
        self._sampling = engine.options.sampling
        self._held = 0

    def prefill(self, prompt: Sequence[int]) -> float:
        """Read all of `prompt` into an empty KV cache. Seconds."""
        llama_cpp.llama_memory_clear(self._memory, True)
        self._held = 0
        started = time.perf_counter()
        self._feed(prompt)
        llama_cpp.llama_synchronize(self._context)
        return time.perf_counter() - started

    def generate(self, prompt: Sequence[int], max_tokens: int, seed: int) -> Run:
        """Continue `prompt`, all but whose last token may be in the cache from the last call."""
        self._rewind(prompt)
        sampler = sampler_chain(self._sampling, seed)
        tokens: list[int] = []
        one = (llama_cpp.llama_token * 1)()
        started = time.perf_counter()
        while len(tokens) < max_tokens:
            token = llama_cpp.llama_sampler_sample(sampler, self._context, -1)
            if llama_cpp.llama_vocab_is_eog(self._vocab, token):
                break
            tokens.append(token)
            one[0] = token
            llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(one, 1))
        llama_cpp.llama_synchronize(self._context)
        seconds = time.perf_counter() - started
        llama_cpp.llama_sampler_free(sampler)
        return Run(tokens, seconds)

    def _rewind(self, prompt: Sequence[int]) -> None:
        shared = min(self._held, len(prompt) - 1)
        if not llama_cpp.llama_memory_seq_rm(self._memory, 0, shared, -1):
            llama_cpp.llama_memory_clear(self._memory, True)  # a recurrent model cannot go back
            shared = 0
        self._feed(prompt[shared:])
        self._held = len(prompt)

    def _feed(self, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), self._n_batch):
            part = tokens[start : start + self._n_batch]
            array = (llama_cpp.llama_token * len(part))(*part)  # the batch only points at it
            if llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(array, len(part))):
                raise RuntimeError("llama_decode failed")

    def close(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


class HighLevel:
    """llama-cpp-python's `Llama.generate` under a GBNF grammar that it builds from a JSON Schema itself.

    Its converter knows no pattern with control characters, and llama.cpp refuses repetitions of thousands, so lengths
    and patterns of strings are left out: an easier grammar than the one that localmem enforces.
    """

    def __init__(self, path: Path, engine: LlamaEngine, schema: Mapping[str, Any]) -> None:
        options = engine.options
        threads = options.threads or physical_cores()
        with captured_log():
            self._llama = llama_cpp.Llama(
                str(path),
                n_ctx=engine.n_ctx,
                n_batch=options.n_batch,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=options.n_gpu_layers,
                verbose=False,
            )
            grammar = llama_cpp.LlamaGrammar.from_json_schema(json.dumps(_without_bounds(schema)), verbose=False)
        self._grammar = grammar
        self._sampling = options.sampling

    def generate(self, prompt: Sequence[int], max_tokens: int, seed: int) -> Run:
        sampling = self._sampling
        self._llama.set_seed(seed)
        stream = self._llama.generate(
            list(prompt),
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            temp=sampling.temperature,
            grammar=self._grammar,
        )
        tokens: list[int] = []
        started = 0.0
        with captured_log():
            for token in stream:
                started = started or time.perf_counter()  # the first token is not counted: prefill comes before it
                if token == self._llama.token_eos():
                    break
                tokens.append(token)
                if len(tokens) >= max_tokens:
                    break
        return Run(tokens[1:], time.perf_counter() - started)

    def close(self) -> None:
        self._llama.close()


def _without_bounds(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        dropped = ("pattern", "minLength", "maxLength")
        return {key: _without_bounds(value) for key, value in schema.items() if key not in dropped}
    return [_without_bounds(item) for item in schema] if isinstance(schema, list) else schema


def _model_params(engine: LlamaEngine) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = engine.options.n_gpu_layers
    return params


def _context_params(engine: LlamaEngine) -> Any:
    options = engine.options
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = engine.n_ctx, options.n_batch, min(options.n_batch, 512)
    params.n_threads = params.n_threads_batch = options.threads or physical_cores()
    params.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[options.flash_attn]
    params.type_k, params.type_v = _ggml_type(options.type_k), _ggml_type(options.type_v)
    params.swa_full = params.no_perf = True
    return params


def _ggml_type(name: str) -> int:
    return 30 if name == "bf16" else int(getattr(llama_cpp, f"GGML_TYPE_{name.upper()}"))


def sampler_chain(sampling: Sampling, seed: int) -> Any:
    """The chain of localmem's engine: top-k, top-p, min-p, temperature, draw; greedy at temperature 0."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    links = [llama_cpp.llama_sampler_init_greedy()]
    if sampling.temperature > 0:
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
