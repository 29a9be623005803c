"""What the context of ours is held against: two ways to keep what changes in the system message, as other agents do.

Both run on the same loop, store and engine, longest-prefix reuse included; only the tokens before the first message are
laid out otherwise, and rebuilt at other moments. A page-out evicts at once, and nothing is read ahead.

- `memgpt`: MemGPT 0.2.11. The system message is rebuilt at each edit of core memory and each page-out, and the list of
  functions comes after core memory.
- `clock`: the functions first, then the time and how much is stored, then core memory; rebuilt every turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localmem.agent import Agent
from localmem.context import Prefix
from localmem.events import TRIGGERS, Event, Kind
from localmem.memory_functions import DESCRIPTIONS
from localmem.prefix import core_heading, prompt_text
from localmem.rendering import core_text
from localmem.results import stamp

OURS = "ours"
_PRESET = "compact"
_EDITS = frozenset({"core_memory_append", "core_memory_replace"})


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Another context policy: the text of its system message, and the events after which that is rebuilt."""

    name: str
    text: Callable[[Agent], str]
    rebuilds: Callable[[Event], bool]


class SystemMessage:
    """Keeps an agent's prefix as a yardstick wants it: one system message, and the summaries after it."""

    def __init__(self, agent: Agent, yardstick: Yardstick) -> None:
        self._agent, self._yardstick = agent, yardstick
        agent._paging.deferred = False
        self.rebuild("open")

    def after(self, event: Event) -> None:
        """`event` was committed; the next generation is still to come."""
        if self._yardstick.rebuilds(event) or self._rebases != self._count:
            self.rebuild(str(event.kind))

    @property
    def _count(self) -> int:
        """How often anybody has rebuilt the prefix: the loop itself does so at page-outs, in its own layout."""
        return sum(self._agent.context.rebases.values())

    def rebuild(self, cause: str) -> None:
        """The system message as of now."""
        message = self._agent.engine.chat_format.message
        listed = self._agent._paging.summaries.listed()
        prefix = Prefix(
            system=tuple(message("system", self._yardstick.text(self._agent), first=True)),
            summaries=tuple(message("system", listed)) if listed else (),
            head=self._agent.store.head or 0,
        )
        self._agent.context.rebase(f"{self._yardstick.name}: {cause}", prefix)
        self._rebases = self._count


def _instructions() -> str:
    return prompt_text("system.txt").partition("\n\nFunctions:")[0]


def _functions() -> str:
    return "\n".join(["Functions:", *(f"- {signature}: {about}" for signature, about in DESCRIPTIONS.items())])


def _memgpt(agent: Agent) -> str:
    """After MemGPT 0.2.11's `construct_system_with_memory` and its prompt formatters for local models."""
    blocks = [
        f'<{block.label} characters="{len(block.value)}/{block.limit}">\n{block.value}\n</{block.label}>'
        for block in agent.core
    ]
    memory = [
        f"### Memory [last modified: {stamp(agent.store.clock())}]",
        f"{len(agent.recall)} previous messages between you and the user are stored in recall memory.",
        f"{len(agent.archival)} memories you created are stored in archival memory.",
        "",
        core_heading(_PRESET),
        *blocks,
    ]
    return "\n\n".join([_instructions(), "\n".join(memory), _functions()])


def _clock(agent: Agent) -> str:
    counters = f"Messages in recall: {len(agent.recall)}. Passages in archival: {len(agent.archival)}."
    now = f"It is {stamp(agent.store.clock())}. {counters}"
    return "\n\n".join([_instructions(), _functions(), now, core_text(agent.core.blocks(), core_heading(_PRESET))])


def _at_edits(event: Event) -> bool:
    return event.kind is Kind.RESULT and event.details.get("function") in _EDITS


def _every_turn(event: Event) -> bool:
    return event.kind in TRIGGERS


YARDSTICKS = {
    "memgpt": Yardstick("memgpt", _memgpt, _at_edits),
    "clock": Yardstick("clock", _clock, _every_turn),
}
POLICIES = (OURS, *YARDSTICKS)
