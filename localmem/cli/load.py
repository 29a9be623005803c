"""localmem load: documents for an agent to search. What `/attach` does in a chat, without a model.

Knows files, archival storage and a progress bar.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localmem.cli import console
from localmem.cli.session import agent_names, agent_option, note
from localmem.config import Paths

if TYPE_CHECKING:
    from localmem.memory.archival import Archival
    from localmem.memory.indexing import Indexer

_MOST_NAMES = 8
_HIDDEN = "hidden"


@dataclass(slots=True)
class Loaded:
    """What came of loading: names of documents, how many passages were new, and what was skipped."""

    names: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    passages: int = 0

    @property
    def alert(self) -> str:
        """What the agent is told: bounded, however many documents there are."""
        more = f" and {len(self.names) - _MOST_NAMES} more" if len(self.names) > _MOST_NAMES else ""
        names = ", ".join(name[:80] for name in self.names[:_MOST_NAMES])
        return f"The user gave you documents: {names}{more}. Read them with archival_memory_search."

    @property
    def summary(self) -> str:
        """What the user is told."""
        parts = []
        if self.names:
            what = self.names[0] if len(self.names) == 1 else f"{len(self.names)} documents"
            parts.append(f"{what}: {self.passages} new passages")
        if self.unchanged:
            what = self.unchanged[0] if len(self.unchanged) == 1 else f"{len(self.unchanged)} documents"
            parts.append(f"{what}: unchanged")
        return "; ".join(parts) or "nothing to read there"


def load_documents(archival: Archival, paths: Sequence[Path], tell: Callable[[str], object]) -> Loaded:
    """Read files and folders and store what is in them; `tell` gets the agent's alert, if anything is new.

    Each document is committed by itself: what was read before an interrupt stays. What is skipped is named on stderr.
    """
    from localmem.documents import Skipped, read_documents

    loaded, hidden = Loaded(), 0
    known = {document.path for document in archival.documents()}
    try:
        with _progress("reading") as show:
            for document in read_documents(paths):
                if isinstance(document, Skipped):
                    hidden += document.reason == _HIDDEN
                    if document.reason != _HIDDEN:
                        note(f"skipped {document.path}: {document.reason}")
                    continue
                new = archival.add_document(document)
                is_unchanged = not new and document.path in known
                (loaded.unchanged if is_unchanged else loaded.names).append(document.name)
                loaded.passages += new
                show(len(loaded.names) + len(loaded.unchanged), None)
    finally:
        if loaded.names:
            tell(loaded.alert)
    if hidden:
        note(f"skipped {hidden} hidden files or folders; name them to have them read")
    return loaded


def embed_pending(indexer: Indexer) -> None:
    """Embed what is not embedded yet, with a progress bar; says so if it cannot be."""
    if indexer.pending:
        with _progress("embedding") as show:
            indexer.flush(show)
    if indexer.failure:
        note(f"search is by keyword only: {indexer.failure}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, on a terminal only; it is gone afterwards."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.stderr(), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@click.command()
@agent_option
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
def load(agent: str, paths: tuple[Path, ...]) -> None:
    """Give an agent documents to search: text, Markdown, source code, and folders of them.

    A document that was loaded before is replaced by its new version. An agent that does not exist yet is made.
    """
    from localmem.config import check_agent_name
    from localmem.errors import ConfigError
    from localmem.events import Kind
    from localmem.memory.archival import Archival
    from localmem.opening import Setting, open_indexer, open_store

    check_agent_name(agent)
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no {path}; check its spelling")
    places = Paths.default()
    setting = Setting(console.configuration(), places)
    if agent not in (names := agent_names(places)):
        note(f"new agent {agent}" + (f" (there are: {', '.join(names)})" if names else ""))
    store = open_store(agent, setting)
    try:
        indexer = open_indexer(store, setting)
        try:
            loaded = load_documents(Archival(store, indexer), paths, lambda text: store.append(Kind.ALERT, text))
            embed_pending(indexer)
        finally:
            indexer.close()
    finally:
        store.close()
    click.echo(console.strip_control(loaded.summary))
