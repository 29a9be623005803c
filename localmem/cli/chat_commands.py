"""The slash commands of a chat: a name, its usage, what it does. Each gets the conversation and the rest of its line.

Errors are raised; the chat prints them and goes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from localmem.cli import console
from localmem.cli.chat_reports import print_context, print_events, print_memory, print_stats, print_why, say
from localmem.cli.conversation import Conversation
from localmem.cli.load import embed_pending, load_documents
from localmem.cli.search import print_found
from localmem.cli.session import busy
from localmem.cli.timers import parse_span, span_text
from localmem.config.checks import did_you_mean
from localmem.errors import ConfigError
from localmem.events import Kind

_DUMPED = 20


class Leave(Exception):
    """The chat is over."""


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command: how it is written behind its name, what it does in a few words, and what does it."""

    usage: str
    about: str
    run: Callable[[Conversation, str], object]


def dispatch(conversation: Conversation, line: str) -> None:
    """Run the command on `line`. ConfigError, with the closest one, for a command that does not exist."""
    name, rest = [*line[1:].split(maxsplit=1), "", ""][:2]
    name = {"quit": "exit", "?": "help", "": "help"}.get(name, name)
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS).replace("'", "").replace("mean ", "mean /")
        raise ConfigError(f"there is no command /{name}{hint or '; /help lists them'} (to say it, begin with //)")
    COMMANDS[name].run(conversation, rest.strip())


def completions(conversation: Conversation, text: str) -> Iterable[tuple[str, str]]:
    """What could stand for the last word of a command that is being typed, each with what it is."""
    name, space, rest = text[1:].partition(" ")
    if not space:
        return [(f"/{known}", command.about) for known, command in COMMANDS.items() if known.startswith(name)]
    if " " in rest:
        return []
    words: Iterable[str] = ()
    if name == "load":
        words = conversation.agent.store.bookmarks()
    elif name in ("block", "undo"):
        words = conversation.agent.core.labels
    elif name == "model":
        words = console.configuration().models
    return [(word, "") for word in words if word.startswith(rest)]


# -- the commands


def _help(_: Conversation, __: str) -> None:
    width = max(len(f"/{name} {command.usage}") for name, command in COMMANDS.items())
    for name, command in COMMANDS.items():
        say(f"{f'/{name} {command.usage}'.ljust(width)}  {command.about}")
    say("Alt-Enter: a new line. Ctrl-C: stop the reply. Ctrl-D: leave. //text: say something that begins with a slash.")


def _exit(_: Conversation, __: str) -> None:
    raise Leave


def _save(conversation: Conversation, name: str) -> None:
    name = name or f"{datetime.now():%Y-%m-%d_%H:%M:%S}"
    conversation.agent.save(name)
    say(f"saved as {name}; /load {name} comes back here")


def _load(conversation: Conversation, name: str) -> None:
    if not name:
        say("saved: " + (", ".join(conversation.agent.store.bookmarks()) or "nothing yet; /save does it"))
        return
    conversation.agent.load(name)
    say(f"back at {name}: {len(conversation.agent.recall)} messages remembered")


def _dump(conversation: Conversation, count: str) -> None:
    events = conversation.agent.store.path()
    print_events(events[-_count(count, _DUMPED) :])


def _pop(conversation: Conversation, count: str) -> None:
    popped = conversation.agent.pop(_count(count, 1))
    if popped is None:
        say("There is no exchange to take back.")
    else:
        say(f"back before #{popped.id}: {' '.join(popped.text.split())[:100]}")


def _count(given: str, default: int) -> int:
    if not given:
        return default
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"{given!r} is no count; give a number from 1")
    return int(given)


def _retry(conversation: Conversation, _: str) -> None:
    conversation.turn(lambda on_text: conversation.agent.retry(on_text=on_text))


def _heartbeat(conversation: Conversation, _: str) -> None:
    conversation.turn(lambda on_text: conversation.agent.heartbeat(on_text=on_text))


def _memory_warning(conversation: Conversation, _: str) -> None:
    say(f"told: {conversation.agent.memory_warning().text}")


def _summarize(conversation: Conversation, _: str) -> None:
    agent = conversation.agent
    before = agent.context.tokens
    said = {event.id for event in agent.store.path(kinds=[Kind.USER])}
    if said.isdisjoint(agent.context.events):
        say("There is nothing to summarize yet.")
        return
    conversation.turn(lambda _: agent.summarize())
    if agent.context.pending is None:
        say(f"summarized: {before} tokens before, {agent.context.tokens} now")
    else:
        say(f"summarized: {before} tokens now, {len(agent.context.coming)} once what is kept has been read anew")


def _search(conversation: Conversation, text: str) -> None:
    if not text:
        raise ConfigError("there is nothing to search for; write /search TEXT")
    agent = conversation.agent
    with busy("searching"):
        found = {"recall": agent.recall.search(text, wait=True), "archival": agent.archival.search(text, wait=True)}
    print_found(found)


def _attach(conversation: Conversation, text: str) -> None:
    if not text:
        raise ConfigError("there is nothing to attach; write /attach FILE or FOLDER")
    agent = conversation.agent
    loaded = load_documents(agent.archival, _paths(text), agent.alert)
    try:
        embed_pending(agent.indexer)
    except KeyboardInterrupt:
        say("The rest is embedded in the background.")
    say(loaded.summary)


def _paths(text: str) -> list[Path]:
    """One path with blanks in it, or several, quoted as in a shell."""
    whole = Path(text).expanduser()
    if whole.exists():
        return [whole]
    try:
        return [Path(part).expanduser() for part in shlex.split(text)]
    except ValueError:
        return [whole]


def _model(conversation: Conversation, name: str) -> None:
    if not name:
        say(f"now {conversation.agent.engine.name}; there are: {', '.join(console.configuration().models)}")
        return
    conversation.swap_model(name)
    agent = conversation.agent
    say(f"now {agent.engine.name}, n_ctx {agent.engine.n_ctx}; {len(agent.recall)} messages remembered")


def _block(conversation: Conversation, text: str) -> None:
    agent = conversation.agent
    label, value = [*text.split(maxsplit=1), "", ""][:2]
    if not label:
        raise ConfigError(f"which block? write /block LABEL TEXT; there are: {', '.join(agent.core.labels)}")
    if label not in agent.core:
        agent.add_block(label, value)
        say(f"new block {label} ({len(value)} of {agent.core[label].limit} characters)")
    elif value:
        agent.set_block(label, value)
        say(f"{label} is set ({len(value)} of {agent.core[label].limit} characters); /undo {label} takes it back")
    else:
        block = agent.core[label]
        say(f"{label} ({len(block.value)} of {block.limit} characters)\n{block.value or '(empty)'}")


def _undo(conversation: Conversation, label: str) -> None:
    if not label:
        raise ConfigError(f"which block? there are: {', '.join(conversation.agent.core.labels)}")
    conversation.agent.undo_block(label)
    say(f"{label} is now:\n{conversation.agent.core[label].value or '(empty)'}")


def _timer(conversation: Conversation, text: str) -> None:
    timers = conversation.timers
    span, _, about = text.partition(" ")
    if not span:
        for left, what in timers.pending():
            say(f"in {span_text(left)}: {what}")
        if not timers.pending():
            say("no timer is set; write /timer 10m TEXT")
    elif span == "off":
        say(f"{timers.clear()} timers forgotten")
    elif not about.strip():
        raise ConfigError("what is the timer for? write /timer 10m TEXT")
    else:
        timers.set(parse_span(span), about.strip())
        say(f"in {span_text(parse_span(span))}: {about.strip()}")


COMMANDS = {
    "help": Command("", "this list", _help),
    "exit": Command("", "leave; everything is kept", _exit),
    "memory": Command("", "core memory, and what is stored beside it", lambda c, _: print_memory(c.agent)),
    "block": Command("LABEL [TEXT]", "add, set or show a block of core memory", _block),
    "undo": Command("LABEL", "take the last edit of a block back", _undo),
    "search": Command("TEXT", "search recall and archival storage", _search),
    "attach": Command("FILE|FOLDER", "give it documents to search", _attach),
    "why": Command("", "what the last reply was shown", lambda c, _: print_why(c.agent)),
    "retry": Command("", "have your last message answered anew", _retry),
    "pop": Command("[N]", "go back before the last N exchanges", _pop),
    "save": Command("[NAME]", "give this moment a name", _save),
    "load": Command("[NAME]", "go back to a saved moment, or list them", _load),
    "dump": Command("[N]", f"the last N events ({_DUMPED})", _dump),
    "context": Command("", "what main context is made of", lambda c, _: print_context(c.agent)),
    "stats": Command("", "counts, speed and cost", lambda c, _: print_stats(c.agent)),
    "summarize": Command("", "page out older messages now", _summarize),
    "memorywarning": Command("", "warn it of memory pressure now", _memory_warning),
    "heartbeat": Command("", "let it act without being spoken to", _heartbeat),
    "timer": Command("[10m TEXT|off]", "remind it later, list or forget timers", _timer),
    "model": Command("[NAME]", "go on with another model", _model),
}
