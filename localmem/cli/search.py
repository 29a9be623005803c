"""localmem search: what an agent remembers and has read, by words and meaning. Needs no model.

Knows hits and where they come from.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from localmem.cli import console
from localmem.cli.load import embed_pending
from localmem.cli.session import agent_option, embedder_is_missing, existing_agent, note
from localmem.config import Paths
from localmem.errors import ConfigError

if TYPE_CHECKING:
    from localmem.memory.search import Hit, Page

_PAGE_SIZE = 10
_DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"])
_WHO = {"user_message": "user", "assistant_message": "agent", "system_alert": "alert"}


@click.command()
@agent_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Which page of hits.")
@click.option("--start", type=_DAY, metavar="DATE", help="Nothing older: 2026-01-31, or with a time.")
@click.option("--end", type=_DAY, metavar="DATE", help="Nothing newer; the whole day where no time is given.")
@click.option("--kind", type=click.Choice(["recall", "archival", "both"]), default="both", show_default=True)
@click.argument("text", nargs=-1)
def search(
    agent: str, as_json: bool, page: int, start: datetime | None, end: datetime | None, kind: str, text: tuple[str, ...]
) -> None:
    """Search what an agent was told (recall) and what it has read or noted down (archival).

    By words and meaning together. Dates are about recall only; with dates, TEXT may be left out.
    """
    query, since, until = " ".join(text), _day(start), _day(end)
    dated = since is not None or until is not None
    if not query.strip() and not dated:
        raise click.UsageError("There is nothing to search for: give TEXT, --start or --end.")
    if dated and kind == "archival":
        raise click.UsageError("--start and --end are about recall: archival passages are not searched by date.")
    found: dict[str, Page] = {}
    paths = Paths.default()
    existing_agent(agent, paths)
    if missing := embedder_is_missing():
        note(f"by keyword only: {missing} is not on this machine; run: localmem models pull {missing}")
    from localmem.memory.archival import Archival
    from localmem.memory.recall import Recall
    from localmem.opening import Setting, open_indexer, open_store

    setting = Setting(console.configuration(), paths)
    store = open_store(agent, setting)
    try:
        indexer = open_indexer(store, setting)
        try:
            if query.strip():
                embed_pending(indexer)
            if kind != "archival":
                recall = Recall(store, indexer)
                found["recall"] = recall.search(
                    query, start=since, end=until, page=page, page_size=_PAGE_SIZE, wait=True
                )
            if kind != "recall" and not dated:
                archival = Archival(store, indexer)
                found["archival"] = archival.search(query, page=page, page_size=_PAGE_SIZE, wait=True)
        finally:
            indexer.close()
    finally:
        store.close()
    most = max(one.pages for one in found.values())
    if page > max(1, most):
        raise ConfigError(f"there is no page {page}: the last one is {max(1, most)}")
    if as_json:
        return console.print_json({"query": query, **{name: page_dict(one) for name, one in found.items()}})
    return print_found(found)


def _day(given: datetime | None) -> date | None:
    """A day where no time was given: then all of it counts."""
    if given is None or (given.hour, given.minute, given.second) != (0, 0, 0):
        return given
    return given.date()


def page_dict(found: Page) -> dict[str, Any]:
    """A page of hits, JSON-ready."""
    return {
        "total": found.total,
        "page": found.page,
        "pages": found.pages,
        "note": found.note,
        "hits": [_hit_dict(hit) for hit in found.hits],
    }


def _hit_dict(hit: Hit) -> dict[str, Any]:
    data: dict[str, Any] = {"source": hit.source, "time": hit.time.isoformat(), "text": hit.text, "score": hit.score}
    if hit.kind is not None:
        data |= {"kind": str(hit.kind), "before": hit.before, "after": hit.after}
    return data


def print_found(found: dict[str, Page]) -> None:
    """Hits of both tiers, each with its source and time."""
    for tier, page in found.items():
        if page.note:
            note(f"{tier}: {page.note}")
        click.echo(f"{tier}: {page.total} found" + (f", page {page.page} of {page.pages}" if page.pages > 1 else ""))
        for hit in page.hits:
            click.echo(console.strip_control(f"  {hit_head(hit)}"))
            for line in hit.text.strip().splitlines():
                click.echo(console.strip_control(f"    {line}"))


def hit_head(hit: Hit) -> str:
    """Where a hit comes from, when it was written, and by whom."""
    where = f"#{hit.source}" if isinstance(hit.source, int) else hit.source
    who = _WHO.get(str(hit.kind), str(hit.kind or ""))
    return f"{where}  {hit.time.astimezone():%Y-%m-%d %H:%M}  {who}".rstrip()
