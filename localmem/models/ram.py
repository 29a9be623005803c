"""How much memory a model takes, how much this machine has to give, and so how long a window fits.

Knows what llama.cpp allocates, not how to call it. All sizes are bytes.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from localmem.errors import ModelError

if TYPE_CHECKING:
    from localmem.config import ModelConfig
    from localmem.models.gguf import GGUFInfo

#: Bytes of one element in the KV cache (block bytes / block elements, ggml.h).
_KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
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


def available_ram() -> int:
    """Memory that a new process can take without swapping, a container's limit included."""
    if sys.platform == "linux":
        return min(_linux_available(), _cgroup_available())
    if sys.platform == "darwin":
        return _macos_available()
    if sys.platform == "win32":
        return _windows_available()
    return _physical() // 2


def _physical() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _linux_available() -> int:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else _physical() // 2


def _cgroup_available() -> int:
    """What the tightest control group above this process has left; a huge number where there is no limit."""
    left = 1 << 62
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return left
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                left = min(left, _group_left(folder, limit, usage))
    return left


def _group_left(folder: Path, limit: str, usage: str) -> int:
    """One group's limit less what it uses, where files that it merely caches count as free."""
    try:
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        cached = re.search(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return 1 << 62
    return max(most - used + (int(cached[1]) if cached else 0), 0)


def _macos_available() -> int:
    """Pages that are free or given up without writing (vm_stat's free, inactive, speculative and purgeable)."""
    try:
        told = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return _physical() // 2
    page = re.search(r"page size of (\d+) bytes", told)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", told, re.MULTILINE)
    return sum(map(int, pages)) * (int(page[1]) if page else 16384) or _physical() // 2


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *[(name, ctypes.c_ulonglong) for name in ("total", "available", "total_page", "page", "total_virtual")],
        *[(name, ctypes.c_ulonglong) for name in ("virtual", "extended")],
    ]


def _windows_available() -> int:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009  # exists on Windows only
    kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.available)
