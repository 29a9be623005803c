"""localmem kv: list, check and remove the snapshots of the KV cache on disk. Needs no model, and no agent opened.

A snapshot may go at any time, also one of an agent in use: what it holds is read again. Knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localmem.cli import console
from localmem.cli.agents import asks
from localmem.cli.session import agent_names
from localmem.config import Paths
from localmem.config.checks import did_you_mean
from localmem.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from localmem.engine.snapshot_file import Header


@dataclass(frozen=True, slots=True)
class Listed:
    """One file: whose it is by its place (None: all agents'), its size, when it was last used, and what its head says.

    `error` is what is wrong with it; then there is no header.
    """

    path: Path
    agent: str | None
    size: int
    used: datetime
    header: Header | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """What it is called in lists and by the user."""
        return f"{self.agent}/{self.path.name}" if self.agent else self.path.name

    @property
    def kind(self) -> str:
        return "conversation" if self.agent else "static"

    def as_dict(self) -> dict[str, Any]:
        head = self.header
        about: dict[str, Any] = {"file": self.name, "path": str(self.path), "kind": self.kind, "agent": self.agent}
        about |= {"size": self.size, "used": self.used.isoformat()}
        if head is None:
            return about | {"error": self.error}
        return about | {
            "model": head.model,
            "tokens": head.n_tokens,
            "created": head.created,
            "fingerprint": head.fingerprint,
            "settings": dict(head.settings),
        }


def _listed(*, heads: bool = True) -> list[Listed]:
    """All there are, the last used first; their heads are read unless told not to."""
    from localmem.engine.snapshot_file import SnapshotError, read_head
    from localmem.engine.snapshots import Snapshots

    snapshots = Snapshots(Paths.default(), console.configuration().kv_disk_budget)
    found = []
    for path in snapshots.files():
        header, error = None, ""
        try:
            status = path.stat()
            header = read_head(path)[0] if heads else None
        except OSError:  # removed meanwhile, by who needed the room
            continue
        except SnapshotError as broken:
            error = str(broken)
        used = datetime.fromtimestamp(status.st_mtime, UTC)
        found.append(Listed(path, snapshots.owner(path), status.st_size, used, header, error))
    return sorted(found, key=lambda one: one.used, reverse=True)


@click.group()
def kv() -> None:
    """List, check and remove snapshots: what models have read already, saved so that nothing is read twice.

    They are safe to remove: what is gone is read again, and saved again. `kv_disk_budget` in models.yaml says how much
    disk they may take; the least recently used goes first.
    """


@kv.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ls(as_json: bool) -> None:
    """List the snapshots, the last used first: whose and of which model, tokens, and size on disk."""
    from localmem.models import human

    listed, budget = _listed(), console.configuration().kv_disk_budget
    total = sum(one.size for one in listed)
    if as_json:
        return console.print_json({"budget": budget, "total": total, "snapshots": [one.as_dict() for one in listed]})
    if listed:
        rows = [("KIND", "AGENT", "MODEL", "TOKENS", "SIZE", "USED", "FILE")]
        for one in listed:
            model = " ".join(one.header.model.split()) if one.header else "-"
            tokens = f"{one.header.n_tokens:,}" if one.header else "broken"
            used = f"{one.used.astimezone():%Y-%m-%d %H:%M}"
            rows.append((one.kind, one.agent or "-", model, tokens, human(one.size), used, one.name))
        console.print_table(rows)
    room = f"{human(total)} of {human(budget)} (kv_disk_budget)" if budget else "kv_disk_budget is 0, so none is saved"
    click.echo(f"{_counted(len(listed))}: {room}", err=True)
    if any(one.error for one in listed):
        click.echo("What is wrong with the broken: localmem kv verify", err=True)
    return None


def _counted(number: int) -> str:
    return f"{number} snapshot{'s' * (number != 1)}"


@kv.command()
@click.argument("names", nargs=-1, metavar="[AGENT|FILE]...")
@click.option("--static", is_flag=True, help="Those that all agents share.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], static: bool, everything: bool, yes: bool) -> None:
    """Remove the snapshots of agents, or single ones by the FILE of `localmem kv ls`."""
    from localmem.models import human

    if not (names or static or everything):
        raise click.UsageError("name agents or files, or give --static or --all.")
    listed = _listed(heads=False)
    chosen = {one.path for one in listed if everything or (static and one.agent is None)}
    for name in names:
        chosen |= _called(name, listed)
    going = [one for one in listed if one.path in chosen]
    if not going:
        click.echo("No snapshots to remove.", err=True)
        return
    about = f"{_counted(len(going))} ({human(sum(one.size for one in going))})"
    if not yes and not asks():
        raise click.UsageError(f"{about} would be removed: add --yes.")
    if not yes and not click.confirm(f"Remove {about}?", err=True):
        raise click.Abort
    for one in going:
        _remove(one)
        click.echo(console.strip_control(f"removed {one.name}"))


def _called(name: str, listed: list[Listed]) -> set[Path]:
    """The snapshots that a word means: a file as it is listed, its path, or all of an agent."""
    path = Path(name).expanduser().absolute()
    if found := {one.path for one in listed if name == one.name or path == one.path}:
        return found
    agents = agent_names(Paths.default())
    found = {one.path for one in listed if name == one.agent}
    if found or name in agents:
        return found
    hint = did_you_mean(name, [*agents, *(one.name for one in listed)]) or ";"
    raise ConfigError(f"there is no snapshot and no agent called {name!r}{hint} see: localmem kv ls")


def _remove(one: Listed) -> None:
    try:
        one.path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{one.path} cannot be removed ({error.strerror}); check its permissions") from error


@kv.command()
@click.option("--rm", "remove", is_flag=True, help="Remove the broken ones.")
@click.pass_context
def verify(ctx: click.Context, remove: bool) -> None:
    """Read every snapshot whole and check it. A broken one is harmless: it is not used, and replaced in time.

    Exits with 1 if one is broken.
    """
    from localmem.engine.snapshot_file import SnapshotError, read_head, read_state

    broken = False
    for one in _listed(heads=False):
        try:
            header, _ = read_head(one.path)
            read_state(one.path, header)
        except SnapshotError as error:
            if not one.path.exists():
                continue
            broken = True
            if remove:
                _remove(one)
            click.echo(console.strip_control(f"broken  {one.name}: {error}{', removed' * remove}"))
        else:
            click.echo(console.strip_control(f"ok      {one.name}"))
    ctx.exit(1 if broken else 0)
