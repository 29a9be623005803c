"""The built-in functions: what the grammar lets the model write now, and what a call does.

What a function takes is worked out anew before every step from live state: the blocks and their lines, the room left in
them, what can be sought (see `lookups`), and for a model that quotes the sentences of the message that it answers. So
none of them fails on a call which the grammar allows. What cannot help is not offered either, such as an edit that
changed nothing; small models get stuck in these. `page_out` is the agent's own affair: only its description is here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from localmem.fitting import longest
from localmem.functions import Outcome
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.limits import Limits
from localmem.lookups import Lookups
from localmem.memory.archival import Archival
from localmem.memory.core import Block, Core
from localmem.quoting import MOST_LINES, Likeness, akin, contents, nearest, passages, sentences, unknown, whole

#: Signature and description of each, in the order in which the model is told of them.
DESCRIPTIONS: dict[str, str] = {
    "send_message(message)": "Answer the user. Ends your turn.",
    "core_memory_append(block, content)": "Save a new lasting fact in core memory.",
    "core_memory_replace(block, old_content, new_content)": "Correct a line of core memory; empty removes it.",
    "conversation_search(query, page)": "Search all earlier messages.",
    "conversation_search_date(start_date, end_date, page)": "Read the messages of some days.",
    "archival_memory_insert(content)": "Store a longer text for later.",
    "archival_memory_search(query, page)": "Search stored texts and documents.",
    "page_out(through, summary)": "Under memory pressure: move the oldest messages out, keeping a summary.",
}
NAMES = tuple(signature.partition("(")[0] for signature in DESCRIPTIONS)

_LEAST_ROOM = 12  # an append into less room than this is no fact
_WITHIN = 0.1  # by how much less than the most alike line another may be alike to the message


class MemoryFunctions:
    """The built-in functions of one agent, searches among them.

    With `quoting`, what is stored and sought in a turn that a message began is quoted from it, and the lines that it
    may correct are those nearest to it in meaning, by `likeness`.
    """

    def __init__(
        self,
        core: Core,
        archival: Archival,
        lookups: Lookups,
        limits: Limits,
        *,
        quoting: bool = False,
        likeness: Likeness = unknown,
    ) -> None:
        self._core, self._archival, self._lookups = core, archival, lookups
        self._limits, self._likeness = limits, likeness
        self._quoting, self._message, self._quotable = quoting, "", dict[str, int]()
        self._idle: set[str] = set()

    def begin_turn(self, message: str = "") -> None:
        """In a new turn, everything may be tried again. `message` is what the user says, if that begins the turn."""
        self._message = whole(message) if self._quoting else ""
        cut = (longest(each, partial(self._limits.quotes, times=MOST_LINES)) for each in sentences(self._message))
        self._quotable = {each.strip(): self._limits.count(each) + 1 for each in cut if each.strip()}
        self._lookups.begin_turn(bool(message))
        self._idle.clear()

    # -- what the grammar allows now

    def variants(self) -> dict[str, list[Schema]]:
        """The argument objects that each function takes now; a function that cannot be called now is left out."""
        offered = {
            "send_message": [self.send_message_arguments()],
            "core_memory_append": self._append_variants(),
            "core_memory_replace": self._replace_variants(),
            "archival_memory_insert": self._insert_variants(),
            **self._lookups.variants(passages(list(self._quotable)) if self._message else None),
        }
        return {name: offered[name] for name in NAMES if offered.get(name) and name not in self._idle}

    def send_message_arguments(self) -> Schema:
        return arguments({"message": text(self._limits.message_chars)})

    def _append_variants(self) -> list[Schema]:
        variants = []
        for block in self._core.blocks():
            left = self._tokens_left(block)
            room = block.limit - len(block.value) - 1 if left > 0 else 0
            quoted = self._contents(block, room, left)
            if quoted or (room >= _LEAST_ROOM and not self._message):
                new = one_of(quoted) if quoted else text(room)
                variants.append(arguments({"block": {"const": block.label}, "content": new}))
        return variants

    def _tokens_left(self, block: Block) -> int:
        return Limits.tokens_of(block) - self._limits.count(block.value)

    def _contents(self, block: Block, room: int, tokens: int) -> list[str]:
        """What may be quoted in so many characters and tokens, and is not in the block."""
        lines = block.value.split("\n")
        sizes = {sentence: size for sentence, size in self._quotable.items() if sentence not in lines}
        return contents(sizes, room, tokens)

    def _replace_variants(self) -> list[Schema]:
        """A line and what takes its place; quoted, lines near to the message but none that it says again."""
        variants = []
        among = self._core.blocks() if self._quotable or not self._message else []
        blocks = {block: _lines(block, self._quotable) for block in among}
        meant = self._meant(list(dict.fromkeys(chain.from_iterable(blocks.values()))))
        for block, held in blocks.items():
            lines = [line for line in held if line in meant]
            if lines:
                room = max(0, block.limit - len(block.value)) + min(map(len, lines))
                new = text(room, shortest=0)
                if self._quotable:
                    tokens = max(0, self._tokens_left(block)) + min(map(self._limits.count, lines))
                    new = one_of(["", *self._contents(block, room, tokens)])
                properties = {"block": {"const": block.label}, "old_content": one_of(lines), "new_content": new}
                variants.append(arguments(properties))
        return variants

    def _meant(self, lines: Sequence[str]) -> Sequence[str]:
        """The lines that the message may be about: by meaning, or by their words until there is an embedder."""
        if not self._message or len(lines) < 2:
            return lines
        alike = self._likeness(self._message, lines)
        return akin(lines, self._message) if alike is None else nearest(lines, alike, _WITHIN)

    def _insert_variants(self) -> list[Schema]:
        """A text to store; quoted, it is the whole message."""
        if not self._message:
            return [arguments({"content": text(self._limits.message_chars)})]
        fits = self._quotable and self._limits.quotes(self._message)
        return [arguments({"content": {"const": self._message}})] if fits else []

    # -- what a call does

    def call(self, name: str, given: Mapping[str, Any]) -> Outcome:
        """Run a call that the grammar allowed."""
        run: dict[str, Callable[..., Outcome]] = {
            "core_memory_append": self._append,
            "core_memory_replace": self._replace,
            "conversation_search": self._lookups.conversation_search,
            "conversation_search_date": self._lookups.conversation_search_date,
            "archival_memory_insert": self._archival_insert,
            "archival_memory_search": self._lookups.archival_memory_search,
        }
        return run[name](**given)

    def _append(self, block: str, content: str) -> Outcome:
        before, content = self._core[block].value, content.strip()
        if not content or content in before.split("\n"):
            return self._unchanged("core_memory_append", block)
        return self._write(block, content, lambda part: f"{before}\n{part}" if before else part)

    def _replace(self, block: str, old_content: str, new_content: str) -> Outcome:
        lines = self._core[block].value.split("\n")
        at = lines.index(old_content)
        if new_content == old_content:
            return self._unchanged("core_memory_replace", block)

        def put(part: str) -> str:
            return "\n".join([*lines[:at], *([part] if part.strip() else []), *lines[at + 1 :]])

        return self._write(block, new_content, put)

    def _unchanged(self, name: str, label: str) -> Outcome:
        self._idle.add(name)
        return Outcome(f"Nothing changed: {label} says so already.")

    def _write(self, label: str, content: str, put: Callable[[str], str]) -> Outcome:
        """Put `content` into a block, cut to what the block's share of the window holds; the model is told if it is."""
        block = self._core[label]
        # A block that was filled by hand may hold more already: then an edit may not make it larger still.
        most = max(Limits.tokens_of(block), self._limits.count(block.value))

        def fits(part: str) -> bool:
            return len(put(part)) <= block.limit and self._limits.count(put(part)) <= most

        kept = longest(content, fits)
        if content and not kept.strip():
            return Outcome(f"Nothing was saved: block {label} is full. Replace a line by a shorter one.")
        block = self._core.set(label, put(kept))
        note = "" if kept == content else f"Block {label} is full; this was not saved: {content[len(kept) :]!r}\n"
        return Outcome(f"{note}{label} is now:\n{block.value or '(empty)'}")

    def _archival_insert(self, content: str) -> Outcome:
        self._archival.insert(content)
        if self._message:
            self._idle.add("archival_memory_insert")  # there is nothing else to quote
        return Outcome("Stored in archival memory.")

    def forget_pages(self) -> None:
        """The head has moved: no search is in the conversation any more."""
        self._lookups.forget_pages()


def _lines(block: Block, besides: Collection[str]) -> list[str]:
    """The lines of a block, each once, but for some."""
    return list(dict.fromkeys(line for line in block.value.split("\n") if line.strip() and line not in besides))
