"""A trained LoRA -> a GGUF adapter that llama.cpp reads, with what it was made of in its metadata; and back again.

GGUF keeps the rows of Llama's q and k weights in another order (RoPE pairs side by side), so the rows of their B
matrices are put in that order too. Source of format and order: llama.cpp's convert_lora_to_gguf.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from training.lora import base_file

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_PATH = re.compile(r"layers\.(\d+)\.(.+?)\.lora_([AB])\.")
_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.weight\.lora_([ab])")
#: Raised when the data or their making change in a way that figures depend on.
DATA_VERSION = 10


def rows_of_gguf(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a q or k weight of `heads` heads, from transformers' order to GGUF's."""
    out, width = weights.shape
    halves = weights.reshape(heads, 2, out // heads // 2, width)
    return halves.swapaxes(1, 2).reshape(out, width)


def rows_of_transformers(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a q or k weight of `heads` heads, from GGUF's order to transformers'."""
    out, width = weights.shape
    pairs = weights.reshape(heads, out // heads // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(out, width)


def _heads() -> dict[str, int]:
    """Of each kind of weight whose rows GGUF keeps in another order, the number of heads."""
    base = gguf.GGUFReader(base_file())
    counts = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    return {kind: int(base.fields[key].contents()) for kind, key in counts.items()}


def weights_of(adapter: Path) -> dict[str, torch.Tensor]:
    """The weights of an exported adapter, by the names that they had in training: float32 of what was float16."""
    heads, paths = _heads(), {kind: path for path, kind in _NAMES.items()}
    weights = {}
    for tensor in gguf.GGUFReader(adapter).tensors:
        found = _TENSOR.fullmatch(tensor.name)
        if found is None or found[2] not in paths:
            raise SystemExit(f"{adapter} changes {tensor.name}, which is not trained here")
        layer, kind, factor = found.groups()
        side, matrix = factor.upper(), tensor.data.astype(np.float32)
        if side == "B" and kind in heads:
            matrix = rows_of_transformers(matrix, heads[kind])
        name = f"base_model.model.model.layers.{layer}.{paths[kind]}.lora_{side}.default.weight"
        weights[name] = torch.from_numpy(matrix.copy())
    return weights


def export(state: Path, file: Path, about: dict[str, Any]) -> None:
    """Write the LoRA of a training state as GGUF, float16. `about` goes into its metadata under `localmem.`."""
    saved = torch.load(state, weights_only=True)
    heads = _heads()
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(saved["plan"]["alpha"]))
    writer.add_name("SmolLM2-135M-Instruct, memory functions")
    writer.add_license("Apache-2.0")
    writer.add_string("localmem.base.sha256", hashlib.sha256(base_file().read_bytes()).hexdigest())
    writer.add_uint32("localmem.data.version", DATA_VERSION)
    writer.add_string("localmem.training", json.dumps(saved["plan"] | {"steps_done": saved["step"]}))
    for key, value in about.items():
        writer.add_string(f"localmem.{key}", value if isinstance(value, str) else json.dumps(value))
    for name, weight in sorted(saved["mean"].items()):
        found = _PATH.search(name)
        if found is None:
            raise SystemExit(f"{name} has no place in a GGUF adapter")
        layer, part, side = found.groups()
        kind = _NAMES[part]
        matrix = weight.numpy()
        if side == "B" and kind in heads:
            matrix = rows_of_gguf(matrix, heads[kind])
        writer.add_tensor(f"blk.{layer}.{kind}.weight.lora_{side.lower()}", matrix.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("state", type=Path, help="state.pt of a training")
    parser.add_argument("file", type=Path, help="the GGUF file to write")
    parser.add_argument("--about", type=Path, help="JSON with what else its metadata shall say")
    options = parser.parse_args()
    about = json.loads(options.about.read_text(encoding="utf-8")) if options.about else {}
    export(options.state, options.file, about)


if __name__ == "__main__":
    main()
