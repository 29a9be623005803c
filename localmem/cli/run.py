"""localmem run: one turn without a terminal, or one text of a wanted form. The result on stdout, all else on stderr.

Knows what a script needs: plain text or one JSON document out, and an exit code.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from localmem.cli import console
from localmem.cli.chat_screen import Screen
from localmem.cli.session import Flags, agent_options, note, open_session, tolerate_any_text
from localmem.cli.structured import Wish, run_structured, structured_options
from localmem.cli.turns import run_turn
from localmem.events import Event, Kind

if TYPE_CHECKING:
    from localmem.agent import Agent


@click.command()
@agent_options
@structured_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document: the reply, every event, and the stats.")
@click.option("--quiet", "-q", is_flag=True, help="No thoughts and calls on stderr.")
@click.option("--debug", is_flag=True, help="What each generation took, on stderr.")
@click.argument("text", nargs=-1, metavar="TEXT|-")
@click.pass_context
def run(ctx: click.Context, /, as_json: bool, quiet: bool, debug: bool, text: tuple[str, ...], **options: Any) -> None:
    """Say TEXT to an agent and print its reply.

    What is piped in is put behind TEXT; with - it is all there is. Exits with 130 if Ctrl-C stopped the reply.

    With --schema, --grammar, --regex or --choice no agent takes part: the model alone answers TEXT, in that form and at
    temperature 0, and nothing is stored. Exits with 1 if the result is unfinished.
    """
    tolerate_any_text()
    wish = Wish.take(ctx, options)
    flags = Flags.take(options)
    message = _message(" ".join(text))
    if wish is not None:
        ctx.exit(run_structured(flags, wish, message, as_json=as_json))
    agent = open_session(flags)
    try:
        left = agent.unanswered
        if left is not None:
            note(f"left unanswered before: {console.strip_control(left.text[:200])}")
        screen = Screen(quiet=quiet or as_json, debug=debug, replies=not as_json)
        events: list[Event] = []

        def commit(event: Event) -> None:
            events.append(event)
            screen.event(event)

        screen.begin()
        try:
            stopped = run_turn(agent, agent.send(message, on_text=screen.piece), commit)
        finally:
            screen.end()
        if as_json:
            click.echo(json.dumps(_document(agent, events, stopped), indent=2, ensure_ascii=False))
    finally:
        agent.close()
    if stopped:
        ctx.exit(130)


def _message(text: str) -> str:
    """TEXT and what is piped in. Usage error if both are empty."""
    only_piped = text == "-"
    piped = ""
    if only_piped or not sys.stdin.isatty():
        piped = sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n")
    parts = [part for part in ("" if only_piped else text, piped) if part.strip()]
    if not parts:
        raise click.UsageError("There is nothing to say: give TEXT, or pipe it in.")
    return "\n\n".join(parts)


def _document(agent: Agent, events: list[Event], stopped: bool) -> dict[str, Any]:
    replies = [event.text for event in events if event.kind is Kind.ASSISTANT]
    return {
        "agent": agent.name,
        "model": agent.engine.name,
        "reply": replies[-1] if replies else None,
        "interrupted": stopped,
        "events": [event.as_dict() for event in events],
        "stats": agent.stats(),
    }
