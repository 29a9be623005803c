"""LlamaEngine: a GGUF model on llama.cpp's low-level API. Tokens in, tokens out.

Its own loop instead of llama-cpp-python's high-level `Llama`: that one parses the grammar at every call and masks the
whole vocabulary at every token. Decoding runs in a worker thread, so that the main thread is free for Ctrl-C, and an
interrupt reaches llama.cpp inside a batch through an abort callback that is C code: a Python callback, asked hundreds of
times a token, would fight for the GIL each time.

Knows nothing of messages' meaning, functions or memory.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp

from localmem.engine.chat_format import CHATML, TemplateFormat
from localmem.engine.decoding import Decoded, DecodeLoop, TokenBytes
from localmem.engine.llama_log import captured_log
from localmem.engine.llama_source import LlamaSource
from localmem.engine.vocabulary import LlamaVocabulary
from localmem.errors import ModelError
from localmem.models import physical_cores
from localmem.protocols import Generation, Grammar, Sampling, TextCallback

KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
_FLASH = {"auto": -1, "off": 0, "on": 1}


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """How a model is loaded. `n_gpu_layers` -1 is all of them; `threads` 0 is one a physical core."""

    n_ctx: int = 4096
    n_batch: int = 512
    threads: int = 0
    n_gpu_layers: int = 0
    flash_attn: str = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    chat_template: str | None = None
    adapter: Path | None = None
    adapter_scale: float = 1.0
    sampling: Sampling = field(default_factory=Sampling)


class LlamaEngine:
    """A loaded model with one sequence of KV cache. Use it from one thread; `interrupt` from any."""

    def __init__(self, path: Path, options: LlamaOptions | None = None, *, name: str | None = None) -> None:
        self.options = options or LlamaOptions()
        self.name = name or path.stem
        self._model = _load_model(path, self.options)
        try:
            self._context = _new_context(self._model, path, self.options)
            self._adapter = _apply_adapter(self._model, self._context, self.options)
        except ModelError:
            llama_cpp.llama_model_free(self._model)
            raise
        self.vocabulary = LlamaVocabulary(self._model)
        self._spell = TokenBytes(self.vocabulary)
        self._abort = _AbortFlag(self._context)
        self._source = LlamaSource(self._context, self._model, self.vocabulary, self._abort, self.options.n_batch)
        self.chat_format = self._chat_format()
        self._closed = False

    @property
    def n_ctx(self) -> int:
        return int(llama_cpp.llama_n_ctx(self._context))

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

        When it returns, the KV cache holds the prompt and every generated token. Ctrl-C in the main thread and
        `interrupt()` end it with finish "interrupted". Raises ModelError if the window is too small, GrammarError if
        the shortest document of `constraint` does not fit `max_tokens`.
        """
        tokens = self._prompt_tokens(prompt, max_tokens)
        matcher = constraint.bind(self.vocabulary) if constraint is not None else None
        loop = DecodeLoop(self._source, self.vocabulary, self._spell, matcher=matcher, max_tokens=max_tokens)
        self._abort.clear()
        started = time.perf_counter()
        match = self._source.begin(tokens, self._sampling(temperature, seed))
        out = self._in_worker(loop, tokens[match.reused :], on_text)
        first = self._source.first_sample or time.perf_counter()
        return Generation(
            text=loop.text,
            tokens=out.tokens,
            finish=out.finish,
            closed_by=out.closed_by,
            closed_paths=out.closed_paths,
            prompt_tokens=len(tokens),
            reused_tokens=match.reused,
            forced_tokens=out.forced,
            ttft_s=first - started,
            decode_s=time.perf_counter() - first,
            diverged_at=match.diverged_at,
        )

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

    def _in_worker(self, loop: DecodeLoop, rest: Sequence[int], on_text: TextCallback | None) -> Decoded:
        """Run the loop in a thread and hand its text over in this one, where Ctrl-C arrives."""
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        result: list[Decoded | BaseException] = []

        def work() -> None:
            try:
                result.append(loop.run(rest, pieces.put if on_text else lambda _: None))
            except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread, whatever it is
                result.append(error)
            finally:
                pieces.put(None)

        worker = threading.Thread(target=work, name="localmem-decode", daemon=True)
        worker.start()
        try:
            self._hand_over(pieces, on_text)
        except BaseException:
            self._abort.set()
            worker.join()
            raise
        worker.join()
        if isinstance(result[0], BaseException):
            self._source.resync()
            raise result[0]
        return result[0]

    def _hand_over(self, pieces: queue.SimpleQueue[str | None], on_text: TextCallback | None) -> None:
        while True:
            try:
                piece = pieces.get()
                if piece is None:
                    return
                if on_text is not None:
                    on_text(piece)
            except KeyboardInterrupt:
                self.interrupt()

    def interrupt(self) -> None:
        """Stop a running `generate` within 200 ms."""
        self._abort.set()

    def close(self) -> None:
        """Free the model. Further use raises ModelError."""
        if not self._closed:
            self._closed = True
            self._source.close()
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)


class _AbortFlag:
    """The interrupt that llama.cpp sees: libc's strlen of a buffer that holds an empty or a one-character string."""

    def __init__(self, context: llama_cpp.llama_context_p) -> None:
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


def _load_model(path: Path, options: LlamaOptions) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = options.n_gpu_layers
    with captured_log() as log:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelError(f"llama.cpp cannot load {path}: {log.cause()}. Pull the model again or use another file.")
    return model


def _new_context(model: Any, path: Path, options: LlamaOptions) -> Any:
    threads = options.threads or physical_cores()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = options.n_ctx
    params.n_batch = options.n_batch
    params.n_ubatch = min(options.n_batch, 512)
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = _FLASH[options.flash_attn]
    params.type_k, params.type_v = KV_TYPES[options.type_k], KV_TYPES[options.type_v]
    params.swa_full = True  # a window that rewinds freely; checkpoints would be the other way
    params.no_perf = True
    with captured_log() as log:
        context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelError(f"No context of {options.n_ctx} tokens for {path.name}: {log.cause()}. Use a smaller n_ctx.")
    return context


def _apply_adapter(model: Any, context: Any, options: LlamaOptions) -> Any:
    adapter = options.adapter
    if adapter is None:
        return None
    with captured_log() as log:
        loaded = llama_cpp.llama_adapter_lora_init(model, os.fsencode(adapter))
        if not loaded:
            raise ModelError(f"The adapter {adapter} does not fit the model: {log.cause()}. Remove adapter: or fix it.")
        scale = (ctypes.c_float * 1)(options.adapter_scale)
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded)
        llama_cpp.llama_set_adapters_lora(context, adapters, 1, scale)
    return loaded


def build_info() -> dict[str, Any]:
    """What this build of llama.cpp can do: `version`, `gpu_offload`, `system_info`."""
    return {
        "version": llama_cpp.__version__,
        "gpu_offload": bool(llama_cpp.llama_supports_gpu_offload()),
        "system_info": llama_cpp.llama_print_system_info().decode("utf-8", "replace").strip(),
    }
