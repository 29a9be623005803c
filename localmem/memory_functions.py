"""The built-in functions: what the grammar lets the model write now, and what a call does.

What a function takes is worked out anew before every step from live state: the blocks and their lines, the room left in
them, the days that have messages, further pages only of searches that have them, and for a model that quotes the
sentences of the message that it answers. So none of them fails on a call which the grammar allows. What cannot help is
not offered either: a search where there is nothing to find (what is in main context is no hit), or in one turn the same
search function again and again, or an edit that changed nothing; small models get stuck in these. Only a message may be
answered with a search of the conversation whether or not there is more of it than main context holds: a model cannot
see that, and should rather be told than guess. `page_out` is the agent's own affair: only its description is here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from functools import partial
from itertools import chain
from typing import Any

from localmem.fitting import longest
from localmem.functions import Outcome
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.limits import Limits
from localmem.memory.archival import Archival
from localmem.memory.core import Block, Core
from localmem.memory.recall import Recall
from localmem.quoting import MOST_LINES, Likeness, akin, contents, nearest, passages, sentences, unknown, whole
from localmem.results import shown
from localmem.searches import Searches

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
_LONGEST_QUERY = 120
_PAGE_SIZE = 4
_SEARCHES_A_TURN = 2
_EVER = 2**62
_WITHIN = 0.1  # by how much less than the most alike line another may be alike to the message


class MemoryFunctions:
    """The built-in functions of one agent. `in_context` gives the ids of the events in main context.

    With `quoting`, what is stored and sought in a turn that a message began is quoted from it, and the lines that it
    may correct are those nearest to it in meaning, by `likeness`.
    """

    def __init__(
        self,
        core: Core,
        recall: Recall,
        archival: Archival,
        limits: Limits,
        in_context: Callable[[], Collection[int]],
        *,
        quoting: bool = False,
        likeness: Likeness = unknown,
    ) -> None:
        self._core, self._recall, self._archival = core, recall, archival
        self._limits = limits
        self._in_context, self._likeness = in_context, likeness
        self._searches = Searches()
        self._quoting, self._message, self._quotable = quoting, "", dict[str, int]()
        #: Whether a message began the turn, and what it asks may still be sought.
        self._answers = False
        self._idle: set[str] = set()

    def begin_turn(self, message: str = "") -> None:
        """In a new turn, everything may be tried again. `message` is what the user says, if that begins the turn."""
        self._answers = bool(message)
        self._message = whole(message) if self._quoting else ""
        cut = (longest(each, partial(self._limits.quotes, times=MOST_LINES)) for each in sentences(self._message))
        self._quotable = {each.strip(): self._limits.count(each) + 1 for each in cut if each.strip()}
        self._searches.begin_turn()
        self._idle.clear()

    # -- what the grammar allows now

    def variants(self) -> dict[str, list[Schema]]:
        """The argument objects that each function takes now; a function that cannot be called now is left out."""
        days = self._days_out_of_sight()
        offered = {
            "send_message": [self.send_message_arguments()],
            "core_memory_append": self._append_variants(),
            "core_memory_replace": self._replace_variants(),
            "conversation_search": self._query_variants("conversation_search", self._answers or bool(days)),
            "conversation_search_date": self._date_variants(days),
            "archival_memory_insert": self._insert_variants(),
            "archival_memory_search": self._query_variants("archival_memory_search", len(self._archival) > 0),
        }
        return {name: variants for name, variants in offered.items() if variants and name not in self._idle}

    def _days_out_of_sight(self) -> Sequence[date]:
        """The days of messages that main context does not hold."""
        return self._recall.days(before=min(self._in_context(), default=_EVER))

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

    def _query_variants(self, name: str, useful: bool) -> list[Schema]:
        """A search of anything, where it may be of use, and further pages of earlier searches."""
        further = self._searches.further_pages(name)
        left = [passage for passage in passages(list(self._quotable)) if not self._searches.sought(name, passage)]
        if not useful or self._searches.made[name] >= _SEARCHES_A_TURN or (self._message and not left):
            return further
        query = one_of(left) if left else text(_LONGEST_QUERY)
        return [arguments({"query": query, "page": {"const": 1}}), *further]

    def _insert_variants(self) -> list[Schema]:
        """A text to store; quoted, it is the whole message."""
        if not self._message:
            return [arguments({"content": text(self._limits.message_chars)})]
        fits = self._quotable and self._limits.quotes(self._message)
        return [arguments({"content": {"const": self._message}})] if fits else []

    def _date_variants(self, days: Sequence[date]) -> list[Schema]:
        name = "conversation_search_date"
        further = self._searches.further_pages(name)
        if not days or self._searches.made[name] >= _SEARCHES_A_TURN:
            return further
        listed = one_of([day.isoformat() for day in days])
        return [arguments({"start_date": listed, "end_date": listed, "page": {"const": 1}}), *further]

    # -- what a call does

    def call(self, name: str, given: Mapping[str, Any]) -> Outcome:
        """Run a call that the grammar allowed."""
        run: dict[str, Callable[..., Outcome]] = {
            "core_memory_append": self._append,
            "core_memory_replace": self._replace,
            "conversation_search": self._conversation_search,
            "conversation_search_date": self._conversation_search_date,
            "archival_memory_insert": self._archival_insert,
            "archival_memory_search": self._archival_search,
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

    def _conversation_search(self, query: str, page: int) -> Outcome:
        until = self._searches.until("conversation_search", (query,), page)
        if until is None and not self._days_out_of_sight():
            self._answers = False  # told once; after a page-out there is something to find
            return Outcome("All earlier messages are in main context.", search=True)
        found = self._recall.search(
            query, page=page, page_size=_PAGE_SIZE, until=until, exclude=self._in_context() if until is None else ()
        )
        self._searches.keep("conversation_search", {"query": query}, found)
        return shown(found, self._limits.result_tokens, self._limits.count, f"No earlier message matches {query!r}.")

    def _conversation_search_date(self, start_date: str, end_date: str, page: int) -> Outcome:
        until = self._searches.until("conversation_search_date", (start_date, end_date), page)
        start, end = sorted((date.fromisoformat(start_date), date.fromisoformat(end_date)))
        found = self._recall.search(
            start=start,
            end=end,
            page=page,
            page_size=_PAGE_SIZE,
            until=until,
            exclude=self._in_context() if until is None else (),
        )
        self._searches.keep("conversation_search_date", {"start_date": start_date, "end_date": end_date}, found)
        return shown(
            found, self._limits.result_tokens, self._limits.count, "All messages of these days are in main context."
        )

    def _archival_search(self, query: str, page: int) -> Outcome:
        until = self._searches.until("archival_memory_search", (query,), page)
        found = self._archival.search(query, page=page, page_size=_PAGE_SIZE, until=until)
        self._searches.keep("archival_memory_search", {"query": query}, found)
        return shown(found, self._limits.result_tokens, self._limits.count, f"Nothing stored matches {query!r}.")

    def forget_pages(self) -> None:
        """The head has moved: no search is in the conversation any more."""
        self._searches.forget_pages()


def _lines(block: Block, besides: Collection[str]) -> list[str]:
    """The lines of a block, each once, but for some."""
    return list(dict.fromkeys(line for line in block.value.split("\n") if line.strip() and line not in besides))
