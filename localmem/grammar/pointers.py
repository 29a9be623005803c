"""JSON Pointers (RFC 6901): where one leads inside a schema. Knows nothing of what a schema means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def pointed(root: Any, pointer: str) -> tuple[Any, str]:
    """What `pointer` finds in `root`, and its JSON path. Raises LookupError if that is nothing."""
    found, path = root, "$"
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found, path = found[name], f"{path}.{name}"
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found, path = found[int(name)], f"{path}[{name}]"
        else:
            raise LookupError(pointer)
    return found, path
