"""What a value in models.yaml may be, and how a wrong one is refused: by file, key path and reason.

Knows no key: `load` says which check belongs to which.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from localmem.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(B|[kKMGT](?:i?B)?)")
_POWERS = "kmgt"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file, for messages and for paths that are relative to it."""

    file: Path
    keys: tuple[str, ...] = ()

    def at(self, key: object) -> Where:
        return Where(self.file, (*self.keys, str(key)))

    def error(self, problem: str) -> ConfigError:
        place = f"{'.'.join(self.keys)}: " if self.keys else ""
        return ConfigError(f"{self.file}: {place}{problem}")


Check = Callable[[Any, Where], Any]


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean X?` for the closest of `words`, or nothing."""
    folded = {known.casefold(): known for known in words}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def mapping(value: Any, where: Where) -> Mapping[Any, Any]:
    """A YAML mapping; one left empty counts as empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise where.error(f"must be a mapping (key: value), not {_shown(value)}")
    return value


def fields(checks: Mapping[str, Check]) -> Check:
    """A mapping with these keys and no others, each optional."""

    def check(value: Any, where: Where) -> dict[str, Any]:
        for key in mapping(value, where):
            if key not in checks:
                hint = did_you_mean(str(key), checks) or f"; known are {', '.join(checks)}"
                raise where.at(key).error(f"unknown key{hint}")
        return {key: checks[key](item, where.at(key)) for key, item in mapping(value, where).items()}

    return check


def named(entry: Check) -> Check:
    """A mapping from names to entries."""

    def check(value: Any, where: Where) -> dict[str, Any]:
        return {name(key, where.at(key)): entry(item, where.at(key)) for key, item in mapping(value, where).items()}

    return check


def name(value: Any, where: Where) -> str:
    if not isinstance(value, str):
        raise where.error(f"a name must be text, not {_shown(value)}: put it in quotes")
    if not _NAME.fullmatch(value):
        raise where.error("a name is 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")
    return value


def names(value: Any, where: Where) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise where.error(f"must be a list of names, not {_shown(value)}")
    return tuple(name(item, where.at(index)) for index, item in enumerate(value))


def text(value: Any, where: Where) -> str:
    if not isinstance(value, str) or not value.strip():
        raise where.error(f"must be text, not {_shown(value)}")
    return value.strip()


def one_of(*choices: str) -> Check:
    def check(value: Any, where: Where) -> str:
        if not isinstance(value, str) or value not in choices:
            hint = did_you_mean(str(value), choices)
            raise where.error(f"must be one of {', '.join(choices)}, not {_shown(value)}{hint}")
        return value

    return check


def whole(minimum: int) -> Check:
    def check(value: Any, where: Where) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise where.error(f"must be a whole number of at least {minimum}, not {_shown(value)}")
        return value

    return check


def number(least: float, most: float) -> Check:
    def check(value: Any, where: Where) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            limits = f"of at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
            raise where.error(f"must be a number {limits}, not {_shown(value)}")
        return float(value)

    return check


def size(value: Any, where: Where) -> int:
    """A number of bytes: whole, or text with a unit, in powers of 1000 ("500 MB") or of 1024 ("2 GiB")."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    given = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if given is None:
        raise where.error(f'must be a number of bytes, or a size like "500 MB" or "2 GB", not {_shown(value)}')
    count, unit = float(given[1]), given[2]
    step = 1024 if "i" in unit else 1000
    return round(count * float(step ** (_POWERS.find(unit[0].lower()) + 1)))


def optional(check: Check) -> Check:
    """What `check` takes, or null for "unset"."""
    return lambda value, where: None if value is None else check(value, where)


def sha256(value: Any, where: Where) -> str:
    digest = value.lower() if isinstance(value, str) else ""
    if not _SHA256.fullmatch(digest):
        raise where.error(f"must be the 64 hexadecimal digits that sha256sum prints, not {_shown(value)}")
    return digest


def file_path(value: Any, where: Where) -> Path:
    """A path; `~` is the home folder, and a relative path starts at the folder of the file that names it."""
    return (where.file.parent / Path(text(value, where)).expanduser()).absolute()


def member(value: Any, where: Where) -> str:
    """A path inside an archive or repository, which must not lead out of it."""
    path = PurePosixPath(text(value, where))
    if path.is_absolute() or ".." in path.parts or "\\" in str(path) or not path.parts:
        raise where.error(f"must be a relative path with forward slashes and without '..', not {_shown(value)}")
    return str(path)


def matching(pattern: str, meaning: str) -> Check:
    """Text of which all matches `pattern`."""
    compiled = re.compile(pattern)

    def check(value: Any, where: Where) -> str:
        if not compiled.fullmatch(text(value, where)):
            raise where.error(f"must be {meaning}, not {_shown(value)}")
        return str(value).strip()

    return check


def _shown(value: Any) -> str:
    """`value` as a person wrote it, on one line."""
    if value is None:
        return "nothing"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
