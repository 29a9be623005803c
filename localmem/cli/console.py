"""What the commands share: the consoles, tables, JSON, asking before a download, and text that is safe to print.

Knows nothing of agents. rich is imported only where something is drawn.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localmem.errors import ModelError

if TYPE_CHECKING:
    from rich.console import Console

    from localmem.config import Config, EmbedderConfig, ModelConfig, Paths

# Control sequences as ECMA-48 defines them, with their 7-bit (ESC x) and 8-bit (C1) introducers. A string sequence that
# never ends loses its introducer only.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]"  # the rest: character sets, reset
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def strip_control(text: str) -> str:
    """`text` without escape sequences and control characters, newline and tab excepted.

    For all text of a model, a document or a file's metadata before it reaches a terminal, which would obey it.
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


@cache
def stdout() -> Console:
    """rich's console for results. Without markup and highlighting: text is printed as it is."""
    from rich.console import Console

    return Console(markup=False, highlight=False, soft_wrap=True)


@cache
def stderr() -> Console:
    """rich's console for all that is no result: progress, questions, notices."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """`data` as JSON on stdout; paths and times as text."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows in columns, the first row being the heading; nothing is cut or wrapped, so that it can be piped."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(strip_control(line.rstrip()))


def configuration() -> Config:
    """models.yaml, with the file that `localmem --models` names."""
    from localmem.config import load_config

    context = click.get_current_context(silent=True)
    extra = context.find_root().obj if context else None
    return load_config(extra if isinstance(extra, Path) else None)


def ask_to_pull(entry: ModelConfig | EmbedderConfig, paths: Paths | None = None) -> Path:
    """The model's file or embedder's folder, fetched first if it is not here and the person at the terminal agrees.

    Without a terminal, or after a no, raises the ModelError that names the command.
    """
    from localmem.config import ModelConfig, Paths, PathSource
    from localmem.models import locate, locate_embedder, place, waits_for_merging

    paths = paths or Paths.default()
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    if asks and isinstance(entry, ModelConfig) and waits_for_merging(entry, paths):
        return pull(entry, paths)  # which takes seconds and no network
    if isinstance(entry.source, PathSource) or place(entry.source, paths).exists():
        return locate(entry, paths) if isinstance(entry, ModelConfig) else locate_embedder(entry, paths)
    if asks:
        about = f" Licence: {entry.licence}." if entry.licence else ""
        question = f"{entry.name} is not on this machine.{about} Fetch it from {entry.source}?"
        if click.confirm(question, default=True, err=True):
            return pull(entry, paths)
    raise ModelError(f"{entry.name} is not on this machine: run: localmem models pull {entry.name}")


def pull(entry: ModelConfig | EmbedderConfig, paths: Paths) -> Path:
    """Fetch `entry` and merge its adapter, with a progress bar on stderr, or lines if that is no terminal."""
    from localmem import models

    about = f"{entry.name} ({entry.licence})" if entry.licence else entry.name
    begins = {
        "fetching": f"fetching {about} from {entry.source}",
        "merging": f"merging the adapter of {entry.name} ...",
    }
    if not sys.stderr.isatty():
        return models.pull(entry, paths, step=lambda what: click.echo(begins[what], err=True))

    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}", markup=False)
    with Progress(text, *columns, console=stderr(), transient=True) as bar:
        task = bar.add_task(about, total=None)
        return models.pull(
            entry,
            paths,
            lambda done, total: bar.update(task, completed=done, total=total),
            lambda what: bar.update(task, description=about if what == "fetching" else begins[what]),
        )
