"""What a GGUF file says of the language model in it, and how anything else is refused.

Any bytes give a GGUFInfo or a ModelError (see `gguf_layout`). Knows nothing of configuration or memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from localmem.errors import ModelError
from localmem.models.gguf_layout import KEPT_ELEMENTS, TENSOR_TYPES, Reader, opened

#: general.file_type -> the name by which people know it (llama.h, enum llama_ftype).
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GGUFInfo:
    """What a model's file says about itself. Lengths are in elements, sizes in bytes.

    `n_head_kv` has one number a layer: 0 for a layer without attention, as hybrid and recurrent models have.
    """

    path: Path
    architecture: str
    name: str
    context_length: int
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: tuple[int, ...]
    key_length: int
    value_length: int
    n_vocab: int
    quantisation: str
    parameters: int
    file_size: int
    chat_template: str | None
    sliding_window: int | None


def read_gguf(path: Path) -> GGUFInfo:
    """What the file at `path` says about itself. Raises ModelError for anything but a whole language model."""
    with opened(path) as data:
        return _ModelReader(path, data).info()


class _ModelReader(Reader):
    """Gives a language model's facts, or says what else the file is."""

    def info(self) -> GGUFInfo:
        self.walk()
        self.refuse_other_kinds()
        types: dict[str, int] = {}
        for tensor in self.found.values():
            label = TENSOR_TYPES[tensor.kind][0]
            types[label] = types.get(label, 0) + math.prod(tensor.shape)
        parameters = sum(types.values())
        n_layer, n_embd = self.whole("block_count", 0), self.whole("embedding_length", 0)
        context, n_head = self.whole("context_length", 0), max(self.each("attention.head_count", n_layer, 0), default=0)
        if not (n_layer and n_embd and context and parameters):
            self.broken("it lacks the sizes that every language model states")
        head = n_embd // n_head if n_head else 0
        stated = self.values.get("general.file_type")
        quantisation = _FILE_TYPES.get(stated if isinstance(stated, int) else -1, max(types, key=types.__getitem__))
        return GGUFInfo(
            path=self.path,
            architecture=self.architecture,
            name=str(self.values.get("general.name") or self.path.stem),
            context_length=context,
            n_layer=n_layer,
            n_embd=n_embd,
            n_head=n_head,
            n_head_kv=self.each("attention.head_count_kv", n_layer, n_head),
            key_length=self.whole("attention.key_length", head),
            value_length=self.whole("attention.value_length", head),
            n_vocab=self.lengths.get("tokenizer.ggml.tokens") or self.whole("vocab_size", 0),
            quantisation=quantisation,
            parameters=parameters,
            file_size=self.size,
            chat_template=self.text("tokenizer.chat_template"),
            sliding_window=self.whole("attention.sliding_window", 0) or None,
        )

    def refuse_other_kinds(self) -> None:
        """GGUF also holds what is no language model by itself."""
        self.architecture = self.text("general.architecture") or self.broken("it names no architecture")
        kind = self.values.get("general.type", "model")
        if kind == "adapter":
            raise ModelError(
                f"{self.path} is an adapter, not a model: name it as `adapter` of its model in models.yaml"
            )
        if kind == "mmproj" or self.architecture == "clip":
            raise ModelError(f"{self.path} is the vision part of a model: choose the model's own file")
        parts = self.values.get("split.count", 0)
        if isinstance(parts, int) and parts > 1:
            raise ModelError(f"{self.path} is one of {parts} parts: join them with `llama-gguf-split --merge` first")

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return value if isinstance(value, str) and value else None

    def whole(self, key: str, default: int) -> int:
        """A size of this architecture; where it is given layer by layer, the largest."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if isinstance(value, tuple):
            value = max(value, default=0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            self.broken(f"{key} is {value!r}"[:80])
        return value

    def each(self, key: str, n_layer: int, default: int) -> tuple[int, ...]:
        """A size of every layer, given once for all or layer by layer."""
        value = self.values.get(f"{self.architecture}.{key}", default)
        if n_layer > KEPT_ELEMENTS:
            self.broken(f"it has {n_layer} layers")
        if isinstance(value, tuple):
            if len(value) < n_layer or not all(isinstance(item, int) and 0 <= item < 1 << 20 for item in value):
                self.broken(f"{key} does not fit its layers")
            return value[:n_layer]
        return (min(self.whole(key, default), 1 << 20),) * n_layer
