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


def memory_estimate(
    info: GGUFInfo, n_ctx: int, type_k: str = "f16", type_v: str = "f16", n_batch: int = 512, *, flash_attn: bool = True
) -> int:
    """Weights + KV cache + compute buffer.

    The compute buffer holds a batch's logits, or without flash attention its attention scores where those are larger.
    It came within 2 % of what llama.cpp reports for two models at windows of 2,048 and 8,192.
    """
    batch = min(n_batch, _UBATCH, n_ctx)
    compute = 4 * batch * (info.n_vocab + 2 * info.n_embd)
    if not flash_attn:
        compute = max(compute, 4 * batch * (info.n_head * n_ctx + 8 * info.n_embd))
    return info.file_size + n_ctx * kv_bytes_per_token(info, type_k, type_v) + compute + _OVERHEAD


def fitting_context(info: GGUFInfo, model: ModelConfig, available_ram: int) -> int:
    """The longest window, a multiple of 256 up to the model's own, that fits; 0 if none does."""
    usable = int(available_ram * (1 - _SPARE))
    low, high = 0, max(info.context_length // STEP, 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _estimate(info, model, middle * STEP) <= usable else (low, middle - 1)
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
        needed = _estimate(info, model, STEP)
        raise ModelError(
            f"{model.name} needs {human(needed)} of memory and {human(ram)} are free: choose a smaller model, or close "
            "other programs"
        )
    wanted = min(wanted or fitting, info.context_length)
    if wanted > fitting and _estimate(info, model, wanted) > int(ram * (1 - _SPARE)):
        raise ModelError(
            f"{model.name} with a window of {wanted} tokens needs {human(_estimate(info, model, wanted))} of memory "
            f"and {human(ram)} are free: the longest that fits is {fitting} (--n-ctx {fitting})"
        )
    return wanted


def _estimate(info: GGUFInfo, model: ModelConfig, n_ctx: int) -> int:
    flash = model.flash_attn != "off"
    return memory_estimate(info, n_ctx, model.type_k, model.type_v, model.n_batch, flash_attn=flash)
