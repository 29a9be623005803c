"""Where a JSON Pointer leads."""

from __future__ import annotations

from typing import Any

import pytest

from localmem.grammar.pointers import pointed

ROOT: Any = {"a": {"b/c": [1, {"~": 2}], "": 3}}


@pytest.mark.parametrize(
    ("pointer", "found", "path"),
    [
        ("", ROOT, "$"),
        ("/a/b~1c/0", 1, "$.a.b/c[0]"),
        ("/a/b~1c/1/~0", 2, "$.a.b/c[1].~"),
        ("/a/", 3, "$.a."),
    ],
)
def test_found(pointer: str, found: Any, path: str) -> None:
    assert pointed(ROOT, pointer) == (found, path)


@pytest.mark.parametrize("pointer", ["/b", "/a/b", "/a/b~1c/2", "/a/b~1c/-1", "/a/b~1c/x", "/a/b~1c/0/0"])
def test_nothing_there(pointer: str) -> None:
    with pytest.raises(LookupError):
        pointed(ROOT, pointer)
