"""As much of a text as fits: into a block, a message, a result or a summary. Pure; what fits is the caller's to say."""

from __future__ import annotations

from collections.abc import Callable


def longest(value: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of `value` that fits."""
    if fits(value):
        return value
    low, high = 0, len(value)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(value[:middle]) else (low, middle - 1)
    return value[:low]
