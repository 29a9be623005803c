"""localmem agents: list, show and remove agents. Needs no model; reads the agents' files.

Knows no engine and no chat.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localmem.cli import console
from localmem.cli.session import agent_names, existing_agent
from localmem.config import Paths
from localmem.errors import StoreError

if TYPE_CHECKING:
    from localmem.events import Event
    from localmem.memory.archival import Archival
    from localmem.memory.core import Core
    from localmem.memory.recall import Recall
    from localmem.memory.store import Store


@dataclass(frozen=True, slots=True)
class Opened:
    """An agent's file and what stands in it, without its model."""

    store: Store
    core: Core
    recall: Recall
    archival: Archival


@contextmanager
def opened(name: str, paths: Paths) -> Iterator[Opened]:
    """An agent, open for reading. StoreError if it is in use."""
    from localmem.memory.archival import Archival
    from localmem.memory.core import Core
    from localmem.memory.recall import Recall
    from localmem.opening import Setting, open_indexer, open_store

    existing_agent(name, paths)
    setting = Setting(console.configuration(), paths, use_embedder=False)
    store = open_store(name, setting)
    try:
        indexer = open_indexer(store, setting)
        try:
            yield Opened(store, Core(store), Recall(store, indexer), Archival(store, indexer))
        finally:
            indexer.close()
    finally:
        store.close()


@click.group()
def agents() -> None:
    """List, show and remove agents."""


@agents.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ls(as_json: bool) -> None:
    """List the agents: messages, documents, when something was last said, and the size on disk."""
    paths = Paths.default()
    listed = [_listed(name, paths) for name in agent_names(paths)]
    if as_json:
        return console.print_json(listed)
    if not listed:
        click.echo("No agents yet; make one with: localmem chat -a NAME", err=True)
        return None
    from localmem.models import human

    rows = [("NAME", "MESSAGES", "DOCUMENTS", "LAST", "SIZE")]
    for one in listed:
        if "error" in one:
            rows.append((one["name"], "-", "-", one["error"], human(one["size"])))
        else:
            last = _local(one["last"]) if one["last"] else "-"
            rows.append((one["name"], str(one["messages"]), str(one["documents"]), last, human(one["size"])))
    return console.print_table(rows)


def _listed(name: str, paths: Paths) -> dict[str, Any]:
    folder = paths.agent_folder(name)
    about: dict[str, Any] = {"name": name, "path": str(folder), "size": _size(folder)}
    try:
        with opened(name, paths) as agent:
            last = agent.store.last()
            documents = len(agent.archival.documents())
            about |= {"messages": len(agent.recall), "documents": documents, "last": last and last.time.isoformat()}
    except StoreError as error:
        about["error"] = _short(error)
    return about


def _short(error: StoreError) -> str:
    """Why an agent cannot be read, without its path, which the list has."""
    text = str(error)
    return f"in use{text.partition('in use')[2].partition(';')[0]}" if "in use" in text else text


def _size(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # gone meanwhile: somebody is at work there
            size += file.stat().st_size if file.is_file() else 0
    return size


@agents.command()
@click.argument("name", default="default")
@click.option("--json", "as_json", is_flag=True, help="As JSON: with every message.")
def show(name: str, as_json: bool) -> None:
    """Show what is in agent NAME: its blocks, messages, documents and counts."""
    with opened(name, Paths.default()) as agent:
        shown = _shown(name, agent)
    if as_json:
        console.print_json(shown)
    else:
        _print_shown(shown)


def _shown(name: str, agent: Opened) -> dict[str, Any]:
    from localmem.memory.recall import MESSAGES

    messages = [_message(event) for event in agent.store.path(kinds=MESSAGES)]
    documents = agent.archival.documents()
    return {
        "name": name,
        "path": str(agent.store.path_on_disk),
        "created": agent.store.created.isoformat(),
        "head": agent.store.head,
        "blocks": [
            {"label": block.label, "value": block.value, "limit": block.limit, "description": block.description}
            for block in agent.core.blocks()
        ],
        "messages": messages,
        "documents": [
            {"name": one.name, "path": one.path, "passages": one.passages, "time": one.time.isoformat()}
            for one in documents
        ],
        "saved": agent.store.bookmarks(),
        "counts": {
            "events": len(agent.store.path()),
            "messages": len(messages),
            "passages": len(agent.archival),
            "documents": len(documents),
        },
    }


def _message(event: Event) -> dict[str, Any]:
    from localmem.events import Kind

    role = "user" if event.kind is Kind.USER else "assistant"
    return {"role": role, **event.as_dict()}


_SHOWN_MESSAGES = 10


def _print_shown(shown: dict[str, Any]) -> None:
    counts = shown["counts"]
    click.echo(f"{shown['name']}, made {_local(shown['created'])}: {shown['path']}")
    click.echo(", ".join(f"{count} {what}" for what, count in counts.items()))
    for block in shown["blocks"]:
        click.echo(f"\n{block['label']} ({len(block['value'])} of {block['limit']} characters)")
        click.echo(_indented(block["value"] or "(empty)"))
    if shown["documents"]:
        click.echo("\ndocuments")
        for one in shown["documents"]:
            click.echo(_indented(f"{one['name']} ({one['passages']} passages) {one['path']}"))
    if shown["saved"]:
        click.echo("\nsaved: " + console.strip_control(", ".join(shown["saved"])))
    if shown["messages"]:
        last = shown["messages"][-_SHOWN_MESSAGES:]
        click.echo(f"\nthe last {len(last)} of {counts['messages']} messages (all of them: --json)")
        for one in last:
            click.echo(_indented(f"#{one['id']} {_local(one['time'])} {one['role']}: {' '.join(one['text'].split())}"))


def _local(time: str) -> str:
    from datetime import datetime

    return f"{datetime.fromisoformat(time).astimezone():%Y-%m-%d %H:%M}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in console.strip_control(text).splitlines())


@agents.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], yes: bool) -> None:
    """Remove agents, with everything they remember. This cannot be undone."""
    paths = Paths.default()
    folders = {name: existing_agent(name, paths) for name in names}
    for name, folder in folders.items():
        if not yes and not asks():
            raise click.UsageError(f"{name} would be gone for good: add --yes.")
        size = f"{_size(folder) / 1e6:.1f} MB"
        if not yes and not click.confirm(f"Remove {name} and all that it remembers ({size})?", err=True):
            raise click.Abort
        _remove(name, folder, paths)
        click.echo(f"removed {name}")


def asks() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def _remove(name: str, folder: Path, paths: Paths) -> None:
    """Take it away, unless a process has it open. A file that cannot be read for another reason may go."""
    try:
        with opened(name, paths):
            pass
    except StoreError as error:
        if "in use" in str(error):
            raise
    gone = folder.with_name(f".{name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise StoreError(f"{folder} cannot be removed ({error.strerror}); check its permissions") from error
