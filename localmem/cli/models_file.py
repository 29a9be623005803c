"""Adds an entry to the user's models.yaml by adding lines to its text, so that comments and layout stay as they are.

Whatever is written is read back and compared before it takes the place of the old file.
"""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import yaml

from localmem.config import load_config
from localmem.config.load import read_layer
from localmem.errors import ConfigError

_NEW = "# Your models, merged over those that come with localmem (see them with: localmem models ls).\nversion: 1\n"
_MODELS = re.compile(r"^(?:models|'models'|\"models\"):[ \t]*(?:#.*)?\n", re.MULTILINE)


def add_entry(file: Path, name: str, entry: dict[str, Any]) -> None:
    """Put `entry` under `models` of `file`, which need not exist. Raises ConfigError and leaves the file as it was."""
    file = file.resolve()  # a link into someone's dotfiles stays a link
    before = read_layer(file) if file.exists() else {"version": 1}
    text = file.read_text(encoding="utf-8") if file.exists() else _NEW
    text = text if text.endswith("\n") or not text else f"{text}\n"
    found = _MODELS.search(text)
    if found is None and "models" in before:
        raise _by_hand(file)
    lines = yaml.safe_dump({name: entry}, sort_keys=False, allow_unicode=True, width=1000)
    _replace(file, _inserted(text, found, lines), before, name)


def _by_hand(file: Path) -> ConfigError:
    return ConfigError(f"{file} is laid out in a way that cannot be added to: write the entry into it yourself")


def _inserted(text: str, found: re.Match[str] | None, lines: str) -> str:
    """`text` with `lines` as the first entry under the top-level `models:` that was `found`."""
    if found is None:
        return f"{text}\nmodels:\n{textwrap.indent(lines, '  ')}"
    child = re.match(r"(?:[ \t]*(?:#.*)?\n)*( +)\S", text[found.end() :])
    indent = child[1] if child else "  "
    return text[: found.end()] + textwrap.indent(lines, indent) + text[found.end() :]


def _replace(file: Path, text: str, before: dict[str, Any], name: str) -> None:
    """Write `text` beside `file`, see that it says what was there and one entry more, and move it into place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=file.parent, prefix=".models-", suffix=".yaml")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())
        try:
            after = read_layer(Path(scratch))
            load_config(Path(scratch))
        except ConfigError as error:
            raise ConfigError(str(error).replace(scratch, str(file))) from error
        added = after.get("models", {}).pop(name, None)
        if added is None or after != {"models": {}} | before:
            raise _by_hand(file)
        Path(scratch).replace(file)
    finally:
        Path(scratch).unlink(missing_ok=True)
