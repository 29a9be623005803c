"""Writes tiny GGUF models with random weights: real llama.cpp architectures, and the real tokenizer of another file.

The tokenizer's metadata is copied as raw bytes, so a file takes milliseconds where decoding its strings takes seconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf_files import text, value_bytes

EMBD, HEADS, FF, LAYERS = 64, 4, 128, 2
CONTROL, USER_DEFINED, BYTE, NORMAL, UNKNOWN = 3, 4, 6, 1, 2
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@dataclass
class Tokenizer:
    """The `tokenizer.*` pairs of a GGUF file: key -> type and value as raw bytes."""

    pairs: dict[str, bytes]
    size: int

    @classmethod
    def of_file(cls, path: Path) -> Tokenizer:
        with path.open("rb") as file:
            data = file.read(32 << 20)
        n_pairs = struct.unpack_from("<Q", data, 16)[0]
        at, pairs, size = 24, {}, 0
        for _ in range(n_pairs):
            length = struct.unpack_from("<Q", data, at)[0]
            key = data[at + 8 : at + 8 + length].decode()
            start = at + 8 + length
            at = _after_value(data, start)
            if key.startswith("tokenizer."):
                pairs[key] = data[start:at]
            if key == "tokenizer.ggml.tokens":
                size = struct.unpack_from("<Q", data, start + 8)[0]
        return cls(pairs, size)

    @classmethod
    def sentencepiece(cls, words: Sequence[str], *, template: str | None = None) -> Tokenizer:
        """An SPM vocabulary: unknown, BOS, EOS, a token for each byte, then single characters and `words`."""
        pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
        types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
        letters = sorted({c for word in words for c in word})
        grown = {word[:n] for word in words for n in range(2, len(word) + 1)}
        normal = [*letters, *sorted(grown, key=len)]
        pairs = {
            "tokenizer.ggml.model": value_bytes("llama"),
            "tokenizer.ggml.tokens": value_bytes([*pieces, *normal]),
            "tokenizer.ggml.scores": _floats([0.0] * len(pieces) + [float(len(w)) for w in normal]),
            "tokenizer.ggml.token_type": _signed([*types, *([NORMAL] * len(normal))]),
            "tokenizer.ggml.bos_token_id": value_bytes(1),
            "tokenizer.ggml.eos_token_id": value_bytes(2),
            "tokenizer.ggml.unknown_token_id": value_bytes(0),
        }
        if template is not None:
            pairs["tokenizer.chat_template"] = value_bytes(template)
        return cls(pairs, len(pieces) + len(normal))

    def with_type(self, token: int, kind: int) -> Tokenizer:
        """The same tokenizer, one token of another type."""
        raw = bytearray(self.pairs["tokenizer.ggml.token_type"])
        struct.pack_into("<i", raw, 16 + 4 * token, kind)  # value type, element type, count
        return Tokenizer({**self.pairs, "tokenizer.ggml.token_type": bytes(raw)}, self.size)

    def with_tokens(
        self, names: Sequence[str], template: str, *, eos: str, bos: str = "", kind: int = CONTROL
    ) -> Tokenizer:
        """The same tokenizer with a token of `kind` for each name that it has not, and another chat template."""
        tokens = bytearray(self.pairs["tokenizer.ggml.tokens"])
        types = bytearray(self.pairs["tokenizer.ggml.token_type"])
        ids = {name: at for at, name in enumerate(_texts(bytes(tokens)))}
        for name in names:
            if name not in ids:
                ids[name] = len(ids)
                tokens += text(name)
                types += struct.pack("<i", kind)
        for value in (tokens, types):
            struct.pack_into("<Q", value, 8, len(ids))  # value type, element type, count
        pairs = {"tokenizer.ggml.tokens": bytes(tokens), "tokenizer.ggml.token_type": bytes(types)}
        pairs["tokenizer.chat_template"] = value_bytes(template)
        pairs["tokenizer.ggml.eos_token_id"] = value_bytes(ids[eos])
        pairs["tokenizer.ggml.add_bos_token"] = struct.pack("<IB", 7, bool(bos))
        if bos:
            pairs["tokenizer.ggml.bos_token_id"] = value_bytes(ids[bos])
        return Tokenizer({**self.pairs, **pairs}, len(ids))


def _texts(array: bytes) -> list[str]:
    at, found = 16, []
    while at < len(array):
        length = struct.unpack_from("<Q", array, at)[0]
        found.append(array[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return found


def _floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<IIQ{len(values)}f", 9, 6, len(values), *values)


def _signed(values: Sequence[int]) -> bytes:
    return struct.pack(f"<IIQ{len(values)}i", 9, 5, len(values), *values)


def _after_value(data: bytes, at: int) -> int:
    kind = struct.unpack_from("<I", data, at)[0]
    at += 4
    if kind == 8:
        return at + 8 + int(struct.unpack_from("<Q", data, at)[0])
    if kind != 9:
        return at + _SIZES[kind]
    element, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if element != 8:
        return int(at + count * _SIZES[element])
    for _ in range(count):
        at += 8 + int(struct.unpack_from("<Q", data, at)[0])
    return at


def write_tiny(
    path: Path,
    tokenizer: Tokenizer,
    *,
    architecture: str = "llama",
    n_ctx: int = 4096,
    seed: int = 0,
    heads: int = HEADS,
    favour: Sequence[int] = (),
) -> Path:
    """A model of `architecture` (llama, qwen2, gemma3, mamba or lfm2). The same seed, the same file.

    A head is EMBD // `heads` wide, and two share their keys and values. Tokens in `favour` are written as often as not:
    quotes, say, so that strings end before the budget does.
    """
    values, tensors = _MAKERS[architecture](np.random.default_rng(seed), tokenizer.size, heads)
    tensors["output.weight"][list(favour)] *= 8
    own = {
        "general.architecture": architecture,
        "general.name": f"Tiny {architecture}",
        "general.file_type": 0,
        f"{architecture}.context_length": n_ctx,
        f"{architecture}.embedding_length": EMBD,
        f"{architecture}.block_count": LAYERS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
    } | {f"{architecture}.{key}": value for key, value in values.items()}
    pairs = {key: value_bytes(value) for key, value in own.items()} | tokenizer.pairs
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(text(key) + raw for key, raw in pairs.items())
    blobs, offset = [], 0
    for name, array in tensors.items():
        blob = array.tobytes()
        head += text(name) + struct.pack(
            f"<I{array.ndim}QIQ", array.ndim, *reversed(array.shape), 1 if array.dtype == np.float16 else 0, offset
        )
        blobs.append(blob + bytes(-len(blob) % 32))
        offset += len(blobs[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + bytes(-len(head) % 32) + b"".join(blobs))
    return path


Made = tuple[Mapping[str, Any], dict[str, np.ndarray]]


def _weights(rng: np.random.Generator, *shape: int, scale: float = 0.3, kind: Any = np.float32) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(kind)


def _attention(
    rng: np.random.Generator, n_vocab: int, heads: int, *, bias: bool = False, sandwich: bool = False
) -> Made:
    head, kv_heads = EMBD // heads, heads // 2
    tensors = {"token_embd.weight": _weights(rng, n_vocab, EMBD, kind=np.float16)}
    for layer in range(LAYERS):
        blk = f"blk.{layer}."
        shapes = {
            "attn_q": (EMBD, EMBD),
            "attn_k": (head * kv_heads, EMBD),
            "attn_v": (head * kv_heads, EMBD),
            "attn_output": (EMBD, EMBD),
            "ffn_gate": (FF, EMBD),
            "ffn_up": (FF, EMBD),
            "ffn_down": (EMBD, FF),
        }
        for name, shape in shapes.items():
            tensors[f"{blk}{name}.weight"] = _weights(rng, *shape)
        norms = ["attn_norm", "ffn_norm", *(["post_attention_norm", "post_ffw_norm"] if sandwich else [])]
        for name in norms:
            tensors[f"{blk}{name}.weight"] = np.ones(EMBD, np.float32)
        if sandwich:
            for name in ("attn_q_norm", "attn_k_norm"):
                tensors[f"{blk}{name}.weight"] = np.ones(head, np.float32)
        if bias:
            for name in ("attn_q", "attn_k", "attn_v"):
                tensors[f"{blk}{name}.bias"] = _weights(rng, shapes[name][0])
    tensors["output_norm.weight"] = np.ones(EMBD, np.float32)
    tensors["output.weight"] = _weights(rng, n_vocab, EMBD, kind=np.float16)
    values = {
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "feed_forward_length": FF,
        "rope.dimension_count": head,
        "rope.freq_base": 10000.0,
    }
    if sandwich:
        values |= {"attention.key_length": head, "attention.value_length": head, "attention.sliding_window": 32}
    return values, tensors


def _mamba(rng: np.random.Generator, n_vocab: int, heads: int) -> Made:
    inner, state, conv, rank = 2 * EMBD, 8, 4, 4
    tensors = {"token_embd.weight": _weights(rng, n_vocab, EMBD, kind=np.float16)}
    for layer in range(LAYERS):
        blk = f"blk.{layer}."
        tensors |= {
            f"{blk}attn_norm.weight": np.ones(EMBD, np.float32),
            f"{blk}ssm_in.weight": _weights(rng, 2 * inner, EMBD),
            f"{blk}ssm_conv1d.weight": _weights(rng, inner, conv),
            f"{blk}ssm_conv1d.bias": _weights(rng, inner),
            f"{blk}ssm_x.weight": _weights(rng, rank + 2 * state, inner),
            f"{blk}ssm_dt.weight": _weights(rng, inner, rank),
            f"{blk}ssm_dt.bias": _weights(rng, inner),
            f"{blk}ssm_a": -np.abs(_weights(rng, inner, state, scale=1.0)),
            f"{blk}ssm_d": np.ones(inner, np.float32),
            f"{blk}ssm_out.weight": _weights(rng, EMBD, inner),
        }
    tensors["output_norm.weight"] = np.ones(EMBD, np.float32)
    tensors["output.weight"] = _weights(rng, n_vocab, EMBD, kind=np.float16)
    values = {
        "ssm.conv_kernel": conv,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
        "feed_forward_length": 0,
        "attention.head_count": 0,
    }
    return values, tensors


def _lfm2(rng: np.random.Generator, n_vocab: int, heads: int) -> Made:
    """An attention layer between two short convolutions: a hybrid. Layers without heads of keys are convolutions."""
    head, conv = EMBD // heads, 3
    kv_heads = [0, heads // 2, 0]
    tensors = {"token_embd.weight": _weights(rng, n_vocab, EMBD, kind=np.float16)}
    for layer, kv in enumerate(kv_heads):
        blk = f"blk.{layer}."
        shapes = {"ffn_gate": (FF, EMBD), "ffn_up": (FF, EMBD), "ffn_down": (EMBD, FF)}
        if kv:
            shapes |= {"attn_q": (EMBD, EMBD), "attn_output": (EMBD, EMBD)}
            shapes |= {"attn_k": (head * kv, EMBD), "attn_v": (head * kv, EMBD)}
        else:
            shapes |= {"shortconv.in_proj": (3 * EMBD, EMBD), "shortconv.out_proj": (EMBD, EMBD)}
            shapes |= {"shortconv.conv": (EMBD, conv)}
        norms = {"attn_norm": EMBD, "ffn_norm": EMBD} | ({"attn_q_norm": head, "attn_k_norm": head} if kv else {})
        tensors |= {f"{blk}{name}.weight": _weights(rng, *shape) for name, shape in shapes.items()}
        tensors |= {f"{blk}{name}.weight": np.ones(width, np.float32) for name, width in norms.items()}
    tensors["token_embd_norm.weight"] = np.ones(EMBD, np.float32)  # so is the last layer's norm called here
    tensors["output.weight"] = _weights(rng, n_vocab, EMBD, kind=np.float16)
    values = {
        "block_count": len(kv_heads),
        "shortconv.l_cache": conv,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "feed_forward_length": FF,
        "rope.freq_base": 10000.0,
    }
    return values, tensors


_MAKERS = {
    "llama": _attention,
    "qwen2": lambda *sizes: _attention(*sizes, bias=True),
    "gemma3": lambda *sizes: _attention(*sizes, sandwich=True),
    "mamba": _mamba,
    "lfm2": _lfm2,
}
