"""What slash commands print about an agent: memory, context, counts, events, sources. Changes nothing.

On stdout, for who pipes a chat.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from localmem.cli import console
from localmem.cli.chat_screen import call_text
from localmem.events import Event, Kind

if TYPE_CHECKING:
    from localmem.agent import Agent

_BAR = 30


def say(text: str = "") -> None:
    """Text of whatever origin, on stdout."""
    click.echo(console.strip_control(text))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def print_memory(agent: Agent) -> None:
    """The blocks, and what there is outside main context."""
    for block in agent.core:
        say(f"{block.label} ({len(block.value)} of {block.limit} characters)")
        say(_indented(block.value or "(empty)"))
    say(f"recall: {len(agent.recall)} messages")
    documents = agent.archival.documents()
    say(f"archival: {len(agent.archival)} passages, {len(documents)} documents")
    for document in documents:
        say(f"  {document.name} ({document.passages} passages)")


def print_context(agent: Agent) -> None:
    """The segments of main context and what they take."""
    report = agent.context.report()
    widest = max(len(name) for name in report["segments"])
    for name, tokens in report["segments"].items():
        bar = "█" * round(_BAR * tokens / report["usable"])
        say(f"{name.ljust(widest)}  {tokens:6} tokens  {bar}".rstrip())
    pressure = f"pressure {report['pressure']:.0%}"
    say(f"{'in use'.ljust(widest)}  {report['tokens']:6} of {report['usable']} usable: {pressure}")
    say(f"{'n_ctx'.ljust(widest)}  {report['n_ctx']:6}, of which {report['reserve']} are reserved for what comes next")
    rebases = ", ".join(f"{cause} {count}" for cause, count in report["rebases"].items())
    if report["pending"] is not None:
        say(f"paged out: {report['pending']} tokens are left once they have been read anew, in idle time")
    say(f"prefix rebuilt: {rebases or 'never'}; the cache was last left in: {report['diverged_in'] or 'nowhere'}")


def print_stats(agent: Agent) -> None:
    """Counts of what is stored, and what it cost since the chat began."""
    stats = agent.stats()
    shown = ("messages", "passages", "documents", "not_embedded", "generations", "prompt_tokens", "reused_tokens")
    for key in (*shown, "prefilled_tokens", "idle_tokens", "restored_tokens", "generated_tokens", "forced_tokens"):
        say(f"{key.replace('_', ' '):18} {stats[key]:,}")
    for cause, count in stats["divergences"].items():
        say(f"{'left the cache':18} {count:,}: {cause}")
    if stats["prefix_hit"] is not None:
        say(f"{'prefix hit':18} {stats['prefix_hit']:.1%}")
    if stats["tokens_a_second"] is not None:
        say(f"{'tokens a second':18} {stats['tokens_a_second']}")
    say(f"{'reading, writing':18} {stats['ttft_s']:.1f} s, {stats['decode_s']:.1f} s")
    say(f"{'model':18} {agent.engine.name}, n_ctx {agent.engine.n_ctx}")


def print_events(events: list[Event]) -> None:
    """Events as they are stored, one after another."""
    for event in events:
        body = call_text(event) if event.call is not None else event.text
        head = f"#{event.id} {event.time.astimezone():%Y-%m-%d %H:%M:%S} {event.kind}"
        mark = " (interrupted)" if event.details.get("interrupted") else ""
        say(f"{head}{mark}: {body}")


def print_why(agent: Agent) -> None:
    """What the last reply was shown beside main context: each source with its text."""
    why = agent.why()
    if why is None:
        say("There is no reply yet.")
        return
    reply: Event = why["reply"]
    say(f"#{reply.id}: {' '.join(reply.text.split())[:200]}")
    for event in why["calls"]:
        if event.call.function != "send_message":
            say(f"called {call_text(event)}")
    if not why["shown"]:
        say("It was shown no search results: only what is in main context (/context), with core memory (/memory).")
    for source in why["shown"]:
        head, text = _source(agent, source)
        say(f"shown {head}")
        say(_indented(text))


def _source(agent: Agent, source: int | str) -> tuple[str, str]:
    """Where a source is, and its text."""
    if isinstance(source, int):
        event = agent.store.event(source)
        who = {Kind.USER: "you said", Kind.ASSISTANT: "it said"}.get(event.kind, str(event.kind))
        text = str(event.call.arguments.get("content", call_text(event))) if event.call is not None else event.text
        return f"#{event.id} {event.time.astimezone():%Y-%m-%d %H:%M} {who}", text
    text = next((text for at, text in _passages(agent, source) if at == source), "(it is not stored any more)")
    return source, text


def _passages(agent: Agent, source: str) -> Iterator[tuple[int | str, str]]:
    """The passages of the document that `source` is about, each with its own source."""
    for document in agent.archival.documents():
        if source.startswith(document.path):
            page = agent.archival.search(document=document.name, page_size=max(1, document.passages))
            yield from ((hit.source, hit.text) for hit in page.hits)
