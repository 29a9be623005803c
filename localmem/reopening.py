"""What an agent leaves of the KV cache when it is closed, and takes up again when it is opened.

A snapshot of the conversation comes with its layout: which tokens are which message, as they were generated, and the
prefix that was in force. Without it the messages would be rendered and tokenized anew, and what the model wrote itself
would not always come to the same tokens. The static prefix has a snapshot of its own, for all agents with the same
preset, functions and model; that of a new agent with a shipped persona and human includes its core memory, which holds
nothing of anybody. Whatever does not fit what is there now is not used: then the model reads it again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from localmem.context import MainContext, Prefix
from localmem.engine.snapshot_file import SnapshotError, read_head
from localmem.engine.snapshots import Snapshots
from localmem.memory.core import Core
from localmem.memory.store import Store
from localmem.prefix import is_shipped, prompt_text
from localmem.protocols import Engine, Role

_log = logging.getLogger(__name__)


class Reopening:
    """The snapshots of one agent on one engine."""

    def __init__(self, agent: str, store: Store, core: Core, engine: Engine, snapshots: Snapshots) -> None:
        self._agent, self._store, self._core, self._engine = agent, store, core, engine
        self._snapshots = snapshots if snapshots.enabled and engine.fingerprint else None
        #: Tokens that a snapshot spared at the last opening.
        self.restored = 0
        #: Tokens of the conversation that are on disk.
        self._on_disk: list[int] = []

    # -- opening

    def remembered(self, system: Sequence[int], n_ctx: int) -> tuple[Prefix, dict[tuple[int, ...], tuple[int, ...]]]:
        """The prefix that was in force, and the tokens of messages by their events; empty if none fit what is now."""
        nothing: tuple[Prefix, dict[tuple[int, ...], tuple[int, ...]]] = (Prefix(), {})
        if self._snapshots is None:
            return nothing
        try:
            header, tokens = read_head(self._snapshots.conversation(self._agent, self._engine.fingerprint))
            prefix, messages = _read_layout(header.layout, tokens)
        except (SnapshotError, KeyError, TypeError, ValueError) as reason:
            _log.debug("no conversation taken up: %s", reason)
            return nothing
        if prefix.system != tuple(system) or header.layout.get("n_ctx") != n_ctx:
            return nothing
        if header.layout.get("manner") != self._manner():
            return nothing
        if header.layout.get("head_time") != self._time_of(prefix.head):
            return nothing  # ids are given out anew where the agent's file was put back from a copy
        digests = self._digests([events for events, _, _ in messages])
        kept = {
            events: own
            for (events, own, digest), found in zip(messages, digests, strict=True)
            if digest and digest == found
        }
        return prefix, kept

    def restore(self, context: MainContext) -> None:
        """Put back into the KV cache what a snapshot holds of `context`; see that the static prefix gets one."""
        if self._snapshots is None:
            return
        prompt, prefix, fingerprint = context.written, context.in_force, self._engine.fingerprint
        static = prefix.tokens if self._is_as_shipped() else list(prefix.system)
        conversation = self._snapshots.conversation(self._agent, fingerprint)
        file_of_static = self._snapshots.static(fingerprint, static)
        files = (conversation, file_of_static, self._snapshots.static(fingerprint, prefix.system))
        for file in dict.fromkeys(files):
            if restored := self._engine.restore(file, prompt):
                self.restored = restored
                self._snapshots.touch(file)
                self._on_disk = prompt[:restored] if file == conversation else []
        with suppress(OSError):  # a folder that is not ours
            if self.restored < len(static) and not file_of_static.exists():
                self._engine.keep(static, file_of_static, most=self._snapshots.budget)

    def _is_as_shipped(self) -> bool:
        """Whether nothing has happened yet, and core memory holds what comes with localmem and nothing else."""
        return self._store.head is None and all(is_shipped(block.value) for block in self._core)

    # -- closing

    def save(self, context: MainContext) -> None:
        """Stop reading ahead, and save the conversation as it stands, unless nothing was read since it was restored.

        Only the first call saves.
        """
        written = context.written
        held = len(written) - self._engine.missing(written)
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is None:
            return
        if context.messages and held > context.prefix and written[:held] != self._on_disk:
            file = snapshots.conversation(self._agent, self._engine.fingerprint)
            layout = self._layout(context, held)
            self._engine.save(file, written, agent=self._agent, layout=layout, most=snapshots.budget)
        snapshots.prune()

    def _layout(self, context: MainContext, held: int) -> dict[str, Any]:
        prefix, messages = context.in_force, context.messages
        digests = self._digests([message.events for message in messages])
        return {
            "n_ctx": context.window.n_ctx,
            "manner": self._manner(),
            "prefix": [len(prefix.system), len(prefix.core_memory), len(prefix.summaries)],
            "parts": [list(part) for part in prefix.parts],
            "head": prefix.head,
            "head_time": self._time_of(prefix.head),
            "messages": [[list(m.events), len(m.tokens), d] for m, d in zip(messages, digests, strict=True)],
            "tail": context.written[held:],
        }

    def _manner(self) -> str:
        """How messages are written, as a hash: the chat template's roles, and the headings of the prefix."""
        chat = self._engine.chat_format
        roles: tuple[Role, ...] = ("system", "user", "assistant", "tool")
        headings = [prompt_text(name) for name in ("core.txt", "core_after_examples.txt", "summaries.txt")]
        said = [chat.message(role, "?") for role in roles], chat.opening, chat.ending, headings
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def _time_of(self, event: int) -> str | None:
        found = self._store.path(after=event - 1)[:1] if event else []
        return found[0].time.isoformat() if found and found[0].id == event else None

    def _digests(self, messages: Sequence[Sequence[int]]) -> list[str]:
        """What the events of each message say, as a hash; empty for events that are not on the path to the head."""
        first = min((id for events in messages for id in events), default=1)
        known = {event.id: event for event in self._store.path(after=first - 1)}
        digests = []
        for events in messages:
            said = [(str(e.kind), e.text, str(e.call), e.time.isoformat()) for e in map(known.get, events) if e]
            whole = len(said) == len(events)
            digests.append(hashlib.sha256(repr(said).encode()).hexdigest()[:16] if whole else "")
        return digests


def _read_layout(
    layout: Any, tokens: Sequence[int]
) -> tuple[Prefix, list[tuple[tuple[int, ...], tuple[int, ...], str]]]:
    """The layout's prefix and messages, cut out of the tokens. Raises KeyError, TypeError or ValueError."""
    sizes = [*layout["prefix"], *(size for _, size, _ in layout["messages"])]
    if min(sizes, default=0) < 0:
        raise ValueError("a size is negative")
    # The last tokens of a conversation (the end of a message, say) may not have been read when it was saved.
    rest = iter([*tokens[: sum(sizes) - len(layout["tail"])], *layout["tail"]])
    cut = [tuple(islice(rest, size)) for size in sizes]
    if sum(map(len, cut)) != sum(sizes):
        raise ValueError("the layout and the tokens differ")
    parts = tuple((str(label), int(start)) for label, start in layout["parts"])
    prefix = Prefix(cut[0], cut[1], cut[2], parts, int(layout["head"]))
    messages = [
        (tuple(map(int, events)), own, str(digest))
        for (events, _, digest), own in zip(layout["messages"], cut[3:], strict=True)
    ]
    return prefix, messages
