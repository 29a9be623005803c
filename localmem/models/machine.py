"""What this machine has: free memory, physical cores, a graphics card. Asks the system alone, and sets nothing.

All sizes are bytes.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path


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
    told = _told("/usr/bin/vm_stat")
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


def physical_cores() -> int:
    """Cores that this process may use, hyperthreads not counted: more threads than that slow decoding down."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if sys.platform == "linux":
        return max(min(_linux_cores() or usable, usable), 1)
    if sys.platform == "darwin":
        return int(_told("/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu") or usable)
    return max(usable // 2, 1)


def _linux_cores() -> int:
    """Different (package, core) pairs among the processors that this process may use."""
    cores = set()
    for processor in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            return 0
    return len(cores)


def graphics_card() -> tuple[str, str] | None:
    """The name of a card that llama.cpp could use, and the build that can: "cuda", "metal" or "vulkan"."""
    if sys.platform == "darwin":
        return (_told("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string") or "Apple GPU", "metal")
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        found = re.search(r"^Model:\s+(.+)$", information.read_text(), re.MULTILINE)
        return (found[1] if found else "an NVIDIA card", "cuda")
    if name := _told("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        return (name.splitlines()[0], "cuda")
    for vendor in sorted(Path("/sys/class/drm").glob("card*/device/vendor")):
        if vendor.read_text().strip() == "0x1002":
            return ("an AMD card", "vulkan")
    return None


def _told(*command: str) -> str:
    """What a program prints, or nothing if it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
