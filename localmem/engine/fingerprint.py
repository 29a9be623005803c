"""What shapes a KV cache, as data and as one hash: a snapshot made under one fingerprint is read under no other.

A state holds numbers and checks neither weights nor settings, so everything that they depend on is in here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import llama_cpp

from localmem.engine.loading import LlamaOptions
from localmem.engine.sequences import Layout, original_context
from localmem.models.hashes import file_hash


def cache_settings(model: Any, path: Path, options: LlamaOptions, layout: Layout) -> dict[str, Any]:
    """Model, adapter, build, KV types, attention and RoPE, JSON-ready."""
    adapter = options.adapter
    return {
        "model": file_hash(path, options.hashes),
        "adapter": None if adapter is None else file_hash(adapter, options.hashes),
        "adapter_scale": None if adapter is None else options.adapter_scale,
        "llama_cpp": llama_cpp.__version__,
        "system": llama_cpp.llama_print_system_info().decode("utf-8", "replace").strip(),
        "state_version": llama_cpp.LLAMA_STATE_SEQ_VERSION,
        "type_k": options.type_k,
        "type_v": options.type_v,
        "flash_attn": options.flash_attn,
        "n_gpu_layers": options.n_gpu_layers,
        "long_rope": 0 < original_context(model) < (layout.cells if layout.pooled else layout.window),
        "rope": [int(llama_cpp.llama_model_rope_type(model)), llama_cpp.llama_model_rope_freq_scale_train(model)],
        "swa_full": True,
    }


def fingerprint(settings: dict[str, Any]) -> str:
    """The sha256 of settings, in hex."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
