"""A GGUF file and options -> llama.cpp's model and context. Each failure is one ModelError with llama.cpp's own reason.

Knows nothing of generating.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cpp

from localmem.engine.llama_log import captured_log
from localmem.engine.sequences import Layout
from localmem.errors import ModelError
from localmem.models import physical_cores
from localmem.protocols import Sampling

KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
_FLASH = {"auto": -1, "off": 0, "on": 1}


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """How a model is loaded. `n_gpu_layers` -1 is all of them; `threads` 0 is one a physical core.

    With `reads_ahead` the KV cache has cells for a second prompt, to be read in idle time. `hashes` is the file where
    the hashes of models are remembered.
    """

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
    reads_ahead: bool = True
    hashes: Path | None = None


def load_model(path: Path, options: LlamaOptions) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = options.n_gpu_layers
    with captured_log() as log:
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelError(f"llama.cpp cannot load {path}: {log.cause()}. Pull the model again or use another file.")
    return model


def new_context(model: Any, path: Path, options: LlamaOptions) -> tuple[Any, Layout]:
    """A context, and how its KV cache is laid out."""
    layout = Layout.of(model, options.n_ctx, reads_ahead=options.reads_ahead)
    threads = options.threads or physical_cores()
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = layout.cells
    params.n_seq_max = layout.count
    params.kv_unified = layout.pooled  # apart, llama.cpp deals out equal shares, and can copy whole sequences only
    params.n_batch = max(options.n_batch, layout.count)  # llama.cpp aborts on batches with less than a token a sequence
    params.n_ubatch = min(params.n_batch, 512)
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = _FLASH[options.flash_attn]
    params.type_k, params.type_v = KV_TYPES[options.type_k], KV_TYPES[options.type_v]
    params.swa_full = True  # a window that rewinds freely; checkpoints would be the other way
    params.no_perf = True
    with captured_log() as log:
        context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelError(f"No context of {options.n_ctx} tokens for {path.name}: {log.cause()}. Use a smaller n_ctx.")
    return context, layout


def apply_adapter(model: Any, context: Any, options: LlamaOptions) -> None:
    """Put the adapter's weights over the context; they belong to the model and are freed with it."""
    adapter = options.adapter
    if adapter is None:
        return
    with captured_log() as log:
        loaded = llama_cpp.llama_adapter_lora_init(model, os.fsencode(adapter))
        if not loaded:
            raise ModelError(f"The adapter {adapter} does not fit the model: {log.cause()}. Remove adapter: or fix it.")
        scale = (ctypes.c_float * 1)(options.adapter_scale)
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded)
        llama_cpp.llama_set_adapters_lora(context, adapters, 1, scale)


def build_info() -> dict[str, Any]:
    """What this build of llama.cpp can do: `version`, `gpu_offload`, `system_info`."""
    return {
        "version": llama_cpp.__version__,
        "gpu_offload": bool(llama_cpp.llama_supports_gpu_offload()),
        "system_info": llama_cpp.llama_print_system_info().decode("utf-8", "replace").strip(),
    }
