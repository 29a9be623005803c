"""Writes small GGUF files for tests, byte by byte, so that they can be wrong in one place."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = list[Any]

#: A language model's least metadata.
TINY: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 1,
    "llama.block_count": 2,
    "llama.context_length": 512,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["<s>", "a", "b"],
    "tokenizer.chat_template": "{{ messages }}",
}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value_bytes(value: Any) -> bytes:
    """Type and value of one metadata pair."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case list() if value and isinstance(value[0], str):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        case list():
            return struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
    raise TypeError(value)


def tensor_bytes(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_bytes(values: Mapping[str, Any] | None = None, *, version: int = 3, tensor: bytes | None = None) -> bytes:
    """A whole file: `values` over TINY (None removes one), and one F16 tensor of 64 x 4."""
    merged = {key: value for key, value in (TINY | dict(values or {})).items() if value is not None}
    tensor = tensor_bytes("token_embd.weight", (64, 4), 1, 0) if tensor is None else tensor
    data = b"GGUF" + struct.pack("<IQQ", version, 1, len(merged))
    for key, value in merged.items():
        data += text(key) + value_bytes(value)
    data += tensor
    data += bytes(-len(data) % 32)
    return data + bytes(64 * 4 * 2)


def write_gguf(path: Path, values: Mapping[str, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf_bytes(values))
    return path


def write_lora(
    path: Path, tensors: Mapping[str, np.ndarray], values: Mapping[str, Any] | None = None, *, alpha: float = 32.0
) -> Path:
    """A LoRA: `tensors` are the factors by their whole names, `values` go over the metadata (None removes one)."""
    own = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    merged = own | {"adapter.lora.alpha": alpha} | dict(values or {})
    merged = {key: value for key, value in merged.items() if value is not None}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(merged))
    head += b"".join(text(key) + value_bytes(value) for key, value in merged.items())
    data = b""
    for name, array in tensors.items():
        head += tensor_bytes(name, array.shape[::-1], 1 if array.dtype == np.float16 else 0, len(data))
        data += array.tobytes() + bytes(-array.nbytes % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def factors(
    shapes: Mapping[str, tuple[int, int]], *, rank: int = 4, seed: int = 0, size: float = 0.05
) -> dict[str, np.ndarray]:
    """Random factors for tensors of these shapes, (rows, columns)."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, (rows, columns) in shapes.items():
        made[f"{name}.lora_a"] = rng.standard_normal((rank, columns)).astype(np.float32)
        made[f"{name}.lora_b"] = (rng.standard_normal((rows, rank)) * size).astype(np.float16)
    return made
