"""How much memory a model takes, and so how long a window fits.

Knows what llama.cpp allocates, not how to call it. All sizes are bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localmem.errors import ModelError
from localmem.models.machine import available_ram

if TYPE_CHECKING:
    from localmem.config import ModelConfig
    from localmem.models.gguf import GGUFInfo

#: Bytes of one element in the KV cache (block bytes / block elements, ggml.h).
_KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}  # fmt: skip

STEP = 256  # llama.cpp pads a window to a multiple of this
_UBATCH = 512  # tokens that llama.cpp computes at once, however large n_batch is
_OVERHEAD = 64 << 20  # Python, its libraries and llama.cpp itself, once a model runs
_SPARE = 0.1  # of the memory that is available, for everything else on the machine


def human(size: float) -> str:
    """A size as people read it: powers of 1000, as disks and downloads are labelled."""
    for unit in ("bytes", "kB", "MB"):
        if abs(size) < 999.95:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def kv_bytes_per_token(info: GGUFInfo, type_k: str = "f16", type_v: str = "f16") -> int:
    """KV cache that one token of context takes over all layers, sliding-window layers at full length."""
    cell = info.key_length * _KV_BYTES[type_k] + info.value_length * _KV_BYTES[type_v]
    return int(sum(info.n_head_kv) * cell)


def spare_cells(n_ctx: int, *, sliding: bool = False) -> int:
    """Cells of the KV cache beside a window of `n_ctx` tokens, for what is read ahead: half as many.

    With sliding-window attention as many again: there a second sequence cannot share the cells of the first.
    """
    return -(-(n_ctx if sliding else n_ctx // 2) // STEP) * STEP


def memory_estimate(info: GGUFInfo, model: ModelConfig, n_ctx: int) -> int:
    """Weights + KV cache with the spare cells of `idle_rebase` + compute buffer, for a window of `n_ctx` tokens.

    The state of recurrent layers and its checkpoints (at most 128 MB) are left out. The rest came within 4 % of the
    buffers that llama.cpp reports for two models at windows of 2,048 to 8,192, each with and without spare cells, flash
    attention and quantised types.
    """
    sliding = bool(info.sliding_window)
    window = -(-n_ctx // STEP) * STEP
    cells = window + (spare_cells(n_ctx, sliding=sliding) if model.idle_rebase else 0)
    seen = window if sliding else cells  # by one batch: sliding windows have a cache for each sequence
    kv_cache = cells * kv_bytes_per_token(info, model.type_k, model.type_v)
    return info.file_size + kv_cache + _compute(info, model, seen) + _OVERHEAD


def _compute(info: GGUFInfo, model: ModelConfig, cells: int) -> int:
    """The compute buffer: a batch's logits, or what attention to so many cells needs, if that is larger.

    Flash attention needs a mask of 16-bit numbers; without it, it is the mask and each head's scores, of 32 bits.
    """
    batch = min(model.n_batch, _UBATCH, cells)
    mask = 2 * cells if model.flash_attn != "off" else 4 * cells * (info.n_head + 1)
    return batch * max(4 * (info.n_vocab + 2 * info.n_embd), mask + 24 * info.n_embd)


def fitting_context(info: GGUFInfo, model: ModelConfig, available_ram: int) -> int:
    """The longest window, a multiple of 256 up to the model's own, that fits; 0 if none does."""
    usable = int(available_ram * (1 - _SPARE))
    low, high = 0, max(info.context_length // STEP, 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if memory_estimate(info, model, middle * STEP) <= usable else (low, middle - 1)
    return low * STEP


def choose_n_ctx(model: ModelConfig, info: GGUFInfo, requested: int | None = None, *, ram: int | None = None) -> int:
    """The window to open `model` with: `requested`, else the model's `n_ctx`; 0 is the longest that fits.

    `ram` stands in for `available_ram()`, for example where weights lie on a GPU. A `requested` window longer than the
    model's own is refused, a configured one is cut to it. Raises ModelError for what cannot fit.
    """
    ram = available_ram() if ram is None else ram
    wanted = model.n_ctx if requested is None else requested
    if requested is not None and requested > info.context_length:
        raise ModelError(f"{model.name} reads at most {info.context_length} tokens, not {requested}: ask for fewer")
    fitting = fitting_context(info, model, ram)
    if fitting == 0:
        needed = memory_estimate(info, model, STEP)
        raise ModelError(
            f"{model.name} needs {human(needed)} of memory and {human(ram)} are free: choose a smaller model, or close "
            "other programs"
        )
    wanted = min(wanted or fitting, info.context_length)
    if wanted > fitting and memory_estimate(info, model, wanted) > int(ram * (1 - _SPARE)):
        needed = memory_estimate(info, model, wanted)
        raise ModelError(
            f"{model.name} with a window of {wanted} tokens needs {human(needed)} of memory "
            f"and {human(ram)} are free: the longest that fits is {fitting} (--n-ctx {fitting})"
        )
    return wanted
