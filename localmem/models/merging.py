"""Adds a LoRA's weights to a model's, tensor by tensor, and writes the sum as a GGUF file of another quantisation.

W + scale * (alpha / rank) * B A, with tensors paired, shaped and scaled as llama.cpp does when it applies an adapter as
the model runs (llama-adapter.cpp). Metadata, tokenizer and one-dimensional tensors are copied as they are. The same
input gives the same bytes. Knows nothing of where files lie.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType, quants
from numpy.typing import NDArray

from localmem.config import Quantisation
from localmem.config.entries import MERGED_TYPES
from localmem.errors import ModelError
from localmem.models import iq4_nl
from localmem.models.gguf_layout import TENSOR_TYPES, Layout, Tensor, opened, read_layout
from localmem.models.merged import Recipe

Floats = NDArray[np.float32]

_BLOCK = 1 << 21  # weights that are computed at once
_MOST = float(np.finfo(np.float16).max)  # which no weight of a working model comes near
_ALL_F32, _F32, _F16 = int(LlamaFileType.ALL_F32), int(GGMLQuantizationType.F32), int(GGMLQuantizationType.F16)
_IQ4_NL = int(GGMLQuantizationType.IQ4_NL)

_EMBEDDING = "token_embd.weight"
_FILE_TYPES = {kind: LlamaFileType[f"MOSTLY_{kind.upper()}"] for kind in MERGED_TYPES}

#: Weights that llama.cpp's own quantiser leaves alone (llama-quant.cpp): small ones, and those not multiplied with.
_LEFT_ALONE = (
    "_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight", "ssm_conv1d.weight",
    "shortconv.conv.weight", "time_mix_first.weight", "attn_rel_b.weight",
)  # fmt: skip


def merge(model: Path, adapter: Path, target: Path, recipe: Recipe) -> None:
    """Write `model` with `adapter` merged into it as `target`. Raises ModelError for an adapter that does not fit."""
    layout = read_layout(model)
    lora = _Lora.read(adapter, recipe.scale)
    lora.check(model, layout)
    kinds = {name: _kind(tensor, layout, recipe.quantisation) for name, tensor in layout.tensors.items()}
    sizes = {name: _size(tensor, kinds[name]) for name, tensor in layout.tensors.items()}
    with opened(model) as data, opened(adapter) as lora_data, target.open("wb") as out:
        out.write(_head(layout, kinds, sizes, _notes(recipe, layout) | lora.notes()))
        for name, tensor in layout.tensors.items():
            delta = lora.delta(name, lora_data)
            for block in _blocks(tensor, data, layout.start, delta, kinds[name]):
                out.write(block)
            out.write(bytes(-sizes[name] % layout.alignment))


# --- the adapter -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Delta:
    """What is added to a tensor: factor * B A. Three axes each, the first for tensors of several matrices."""

    a: Floats
    b: Floats
    factor: float

    def rows(self, matrix: int, first: int, last: int) -> Floats:
        """By einsum, which sums in one order, whatever matrix library and however many threads there are."""
        with np.errstate(all="ignore"):  # what is no number is refused afterwards
            b = self.b[matrix, first:last].astype(np.float64) * self.factor
            added: Floats = np.einsum("or,ri->oi", b, self.a[matrix].astype(np.float64)).astype(np.float32)
        return added


@dataclass(frozen=True, slots=True)
class _Lora:
    """An adapter's file: the two factors of each tensor that it changes, not yet read."""

    path: Path
    layout: Layout
    scale: float
    factors: dict[str, tuple[Tensor, Tensor]]

    @classmethod
    def read(cls, path: Path, scale: float) -> _Lora:
        layout = read_layout(path, "put the right adapter there")
        values, tensors = layout.values, layout.tensors
        if values.get("general.type") != "adapter" or values.get("adapter.type") != "lora":
            raise ModelError(f"{path} is no LoRA adapter: correct `adapter` in models.yaml")
        if "adapter.alora.invocation_tokens" in layout.pairs:
            raise ModelError(f"the adapter {path} is for parts of a text only and cannot be merged: leave out `merge`")
        if not isinstance(values.get("adapter.lora.alpha", 0.0), int | float):
            raise ModelError(f"the adapter {path} is damaged (its alpha is no number)")
        names = [name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")]
        stray = set(tensors) - {f"{name}.lora_{factor}" for name in names for factor in "ab"}
        if stray or not names or len(tensors) != 2 * len(names):
            raise ModelError(f"the adapter {path} is damaged (its tensors are not pairs of .lora_a and .lora_b)")
        return cls(path, layout, scale, {n: (tensors[f"{n}.lora_a"], tensors[f"{n}.lora_b"]) for n in names})

    def check(self, model: Path, layout: Layout) -> None:
        """Whether it fits the model; llama.cpp's conditions."""
        own, wanted = (part.values.get("general.architecture") for part in (self.layout, layout))
        if own != wanted:
            raise ModelError(f"the adapter {self.path} is for the architecture {own!r}, and {model} is {wanted!r}")
        for name, (a, b) in self.factors.items():
            tensor = layout.tensors.get(name)
            if tensor is None:
                raise ModelError(f"the adapter {self.path} changes {name}, which {model} has not")
            if name == _EMBEDDING and "output.weight" not in layout.tensors:
                raise ModelError(f"the adapter {self.path} changes {name}, which in {model} is the output as well")
            if not _fits(tensor, a.shape, b.shape):
                shapes = ", ".join(" x ".join(map(str, part.shape)) for part in (a, b, tensor))
                raise ModelError(f"the adapter {self.path} does not fit {model}: {name} has the shapes {shapes}")

    def delta(self, name: str, data: mmap.mmap) -> _Delta | None:
        """What it adds to a tensor, read now."""
        if name not in self.factors:
            return None
        a, b = (self._floats(factor, data) for factor in self.factors[name])
        alpha, rank = float(self.layout.values.get("adapter.lora.alpha", 0.0)), b.shape[-1]
        factor = self.scale * alpha / rank if alpha else self.scale
        if name == _EMBEDDING:  # there a token's row is looked up in A
            a, b = b.swapaxes(1, 2), a
        return _Delta(a, b, factor)

    def _floats(self, tensor: Tensor, data: mmap.mmap) -> Floats:
        columns, rows = tensor.shape[:2]
        start = self.layout.start + tensor.offset
        flat = _floats(data[start : start + tensor.size], tensor.size // math.prod(tensor.shape[1:]), tensor)
        return flat.reshape(-1, rows, columns)

    def notes(self) -> dict[str, bytes]:
        """What it says of itself in localmem's own keys, and its version."""
        own = {key: pair for key, pair in self.layout.pairs.items() if key.startswith("localmem.")}
        version = self.layout.values.get("general.version")
        return own | ({} if version is None else _pair("localmem.merged.adapter_version", str(version)))


def _fits(tensor: Tensor, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    if not len(tensor.shape) == len(a) == len(b) or len(a) < 2 or 0 in a + b:
        return False
    if tensor.name == _EMBEDDING:
        return (b[1], a[1], a[0]) == (*tensor.shape[:2], b[0])
    return (a[0], b[1], a[1]) == (*tensor.shape[:2], b[0]) and a[2:] == b[2:] == tensor.shape[2:]


# --- the file --------------------------------------------------------------------------------------------------------


def _kind(tensor: Tensor, layout: Layout, quantisation: Quantisation) -> int:
    """The type that a tensor is written as. Those of which the model keeps all digits keep them."""
    all_f32 = layout.values.get("general.file_type") in (None, _ALL_F32)
    if len(tensor.shape) < 2 or not tensor.name.endswith(".weight") or tensor.name.endswith(_LEFT_ALONE):
        return tensor.kind
    if tensor.kind == _F32 and not all_f32:
        return tensor.kind
    chosen = quantisation.default
    if tensor.name in (_EMBEDDING, "output.weight"):
        chosen = quantisation.embedding
    elif ".ffn_" in tensor.name:
        chosen = quantisation.ffn_down if ".ffn_down" in tensor.name else quantisation.ffn
    kind = int(GGMLQuantizationType[chosen.upper()])
    return _F16 if tensor.shape[0] % TENSOR_TYPES[kind][1] else kind


def _head(layout: Layout, kinds: Mapping[str, int], sizes: Mapping[str, int], notes: Mapping[str, bytes]) -> bytes:
    """All that stands before the tensors' data: the model's own pairs, changed ones in their places, then new ones."""
    pairs = {key: pair for key, pair in layout.pairs.items() if not key.startswith("localmem.merged.")}
    pairs.update(notes)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(kinds), len(pairs)) + b"".join(pairs.values())
    offset = 0
    for name, tensor in layout.tensors.items():
        head += _text(name) + struct.pack(
            f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, kinds[name], offset
        )
        offset += sizes[name] + -sizes[name] % layout.alignment
    return head + bytes(-len(head) % layout.alignment)


def _blocks(tensor: Tensor, data: mmap.mmap, start: int, delta: _Delta | None, kind: int) -> Iterator[bytes]:
    """A tensor's data as `kind`, piece by piece."""
    at = start + tensor.offset
    if delta is None and kind == tensor.kind:
        for piece in range(at, at + tensor.size, _BLOCK):
            yield data[piece : min(piece + _BLOCK, at + tensor.size)]
        return
    columns, rows, matrices = tensor.shape[0], tensor.shape[1], math.prod(tensor.shape[2:])
    width, step = tensor.size // (rows * matrices), max(1, _BLOCK // columns)
    for matrix in range(matrices):
        for first in range(0, rows, step):
            last = min(first + step, rows)
            begin = at + (matrix * rows + first) * width
            weights = _floats(data[begin : begin + (last - first) * width], width, tensor)
            if delta is not None:
                weights = weights + delta.rows(matrix, first, last)
                if not np.abs(weights).max() <= _MOST:  # nor if it is no number
                    raise ModelError(f"the adapter makes weights of {tensor.name} that no model has: it is damaged")
            yield _quantised(weights, kind, tensor)


def _floats(raw: bytes, width: int, tensor: Tensor) -> Floats:
    """Rows of `width` bytes as numbers."""
    try:
        rows: Floats = quants.dequantize(
            np.frombuffer(raw, np.uint8).reshape(-1, width), GGMLQuantizationType(tensor.kind)
        )
    except (NotImplementedError, ValueError) as error:
        raise _unreadable(tensor) from error
    return rows


def _quantised(weights: Floats, kind: int, tensor: Tensor) -> bytes:
    if kind == _IQ4_NL:
        return iq4_nl.quantised(weights).tobytes()
    try:
        with np.errstate(all="ignore"):
            return bytes(quants.quantize(weights, GGMLQuantizationType(kind)).tobytes())
    except NotImplementedError as error:
        raise _unreadable(tensor) from error


def _unreadable(tensor: Tensor) -> ModelError:
    label = TENSOR_TYPES[tensor.kind][0]
    return ModelError(
        f"{tensor.name} is quantised as {label}, which cannot be merged: choose another file of the model"
    )


def _size(tensor: Tensor, kind: int) -> int:
    _, block, block_size = TENSOR_TYPES[kind]
    return math.prod(tensor.shape) // block * block_size


def _notes(recipe: Recipe, layout: Layout) -> dict[str, bytes]:
    """The pairs that change, and those that say what the file was made of."""
    changed = {"general.file_type": int(_FILE_TYPES[recipe.quantisation.default])}
    if "general.quantization_version" not in layout.pairs:
        changed["general.quantization_version"] = GGML_QUANT_VERSION
    told = {f"localmem.merged.{key}": value for key, value in asdict(recipe).items() if key != "quantisation"}
    told["localmem.merged.quantisation"] = str(recipe.quantisation)
    return {key: raw for name, value in (changed | told).items() for key, raw in _pair(name, value).items()}


def _pair(key: str, value: str | int | float) -> dict[str, bytes]:
    match value:
        case str():
            return {key: _text(key) + struct.pack("<I", 8) + _text(value)}
        case int():
            return {key: _text(key) + struct.pack("<II", 4, value)}
        case float():
            return {key: _text(key) + struct.pack("<Id", 12, value)}


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data
