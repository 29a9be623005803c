"""localmem chat: the line, the turn, and the line again.

At a terminal with history, a status line and timers; from a pipe one message a line. Knows what a chat is, and leaves
what a command does to chat_commands and what a turn looks like to chat_screen.
"""

from __future__ import annotations

import logging
from typing import Any

import click

from localmem.cli import console
from localmem.cli.chat_commands import Leave, completions, dispatch
from localmem.cli.chat_line import PipeLine, TerminalLine
from localmem.cli.chat_screen import Screen, status_line
from localmem.cli.conversation import Conversation
from localmem.cli.session import (
    Flags,
    agent_options,
    complain,
    embedder_is_missing,
    is_terminal,
    note,
    tolerate_any_text,
)
from localmem.cli.timers import parse_span, span_text
from localmem.config import Paths
from localmem.errors import ConfigError, FunctionError, LocalmemError
from localmem.events import Kind

_OPENER_HOURS = 4.0


def _span(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_span(value)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@agent_options
@click.option("--quiet", "-q", is_flag=True, help="Replies only: no thoughts, calls and results.")
@click.option("--debug", is_flag=True, help="Thoughts, calls and results in full, and what each generation took.")
@click.option("--heartbeat-every", callback=_span, metavar="TIME", help="Let it act by itself so often: 10m, 1h30m.")
@click.option(
    "--opener",
    is_flag=False,
    flag_value=str(_OPENER_HOURS),
    type=click.FloatRange(0),
    metavar="[HOURS]",
    help="It speaks first if you were away for so long (4 hours).",
)
@click.pass_context
def chat(
    ctx: click.Context,
    /,
    quiet: bool,
    debug: bool,
    heartbeat_every: float | None,
    opener: float | None,
    **options: Any,
) -> None:
    """Talk to an agent. It remembers: leave with Ctrl-D and come back any time. In the chat, /help lists the commands.

    Without a terminal, each line of stdin is a message or a command; exits with 1 if one of them failed.
    """
    tolerate_any_text()
    if debug:
        logging.basicConfig(format="%(name)s: %(message)s")
        logging.getLogger("localmem").setLevel(logging.DEBUG)
    conversation = Conversation(Flags.take(options), Screen(quiet=quiet, debug=debug))
    try:
        if heartbeat_every is not None:
            conversation.timers.heartbeat(heartbeat_every)
        line = _line(conversation) if is_terminal() else PipeLine()
        _greet(conversation)
        failed = _arrive(conversation, opener, ask=line.interactive)
        failed = _talk(conversation, line) or failed
    finally:
        conversation.close()
    ctx.exit(1 if failed and not line.interactive else 0)


def _line(conversation: Conversation) -> TerminalLine:
    def toolbar() -> str:
        return status_line(conversation.agent.context.report(), console.stdout().width - 1)

    return TerminalLine(
        Paths.default().state / "chat_history",
        toolbar,
        lambda text: completions(conversation, text),
        conversation.timers.wait,
    )


# -- arriving


def _greet(conversation: Conversation) -> None:
    agent = conversation.agent
    count = len(agent.recall)
    known = f"{count} message{'s' if count != 1 else ''} remembered" if count else "nothing remembered yet"
    agent.idle()
    note(f"{agent.name} · {agent.engine.name} · window {agent.engine.n_ctx} tokens · {known} · offline")
    if missing := embedder_is_missing():
        note(f"search is by keyword only: {missing} is not on this machine; run: localmem models pull {missing}")
    if is_terminal():
        note("Say something. /help lists the commands, Ctrl-D leaves.")


def _arrive(conversation: Conversation, opener: float | None, *, ask: bool) -> bool:
    """What was left unanswered, the login, and perhaps the agent's first word; whether something failed."""
    agent = conversation.agent
    try:
        _resume(conversation, ask=ask)
        last = agent.store.last()
        away_s = None if last is None else (agent.store.clock() - last.time).total_seconds()
        if opener is not None and (away_s is None or away_s >= opener * 3600):
            conversation.turn(lambda on_text: agent.login(opener=True, on_text=on_text))
        else:
            conversation.turn(lambda _: agent.login())
    except (LocalmemError, FunctionError) as error:
        complain(error)
        return True
    return False


def _resume(conversation: Conversation, *, ask: bool) -> None:
    left = conversation.agent.unanswered
    if left is None:
        return
    shown = console.strip_control(" ".join(left.text.split()))[:300]
    note(f"left unanswered: {shown}")
    if not ask:
        if left.kind is Kind.USER:
            note("/retry answers it")
    elif click.confirm("Answer it now?", default=True, err=True):
        conversation.turn(lambda on_text: conversation.agent.resume(on_text=on_text))


# -- talking


def _talk(conversation: Conversation, line: TerminalLine | PipeLine) -> bool:
    """Until the user leaves; whether a line failed."""
    failed = False
    while True:
        try:
            conversation.run_due()
            text = line.read()
            if text is not None and text.strip():
                _take(conversation, text, line)
        except (EOFError, Leave):
            break
        except KeyboardInterrupt:
            if not line.interactive:
                raise
            note("Ctrl-D leaves")
        except (LocalmemError, FunctionError) as error:
            complain(error)
            failed = True
    if not line.interactive:
        conversation.run_due()
    for left, text in conversation.timers.pending():
        note(f"forgotten: the timer that was due in {span_text(left)}: {text}")
    return failed


def _take(conversation: Conversation, text: str, line: TerminalLine | PipeLine) -> None:
    """One line: a command, or a message. From a pipe, Ctrl-C ends the chat and not only the turn."""
    if text.startswith("/") and not text.startswith("//"):
        dispatch(conversation, text.strip())
        return
    stopped = conversation.say(text[1:] if text.startswith("//") else text)
    if stopped and not line.interactive:
        raise KeyboardInterrupt
