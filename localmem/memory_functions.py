"""The built-in functions: what the grammar lets the model write now, and what a call does.

What a function takes is worked out anew before every step from live state: the blocks and their lines, the room left in
them, the days that have messages, and further pages only of searches that have them. So none of them fails on a call
which the grammar allows. What cannot help is not offered either: a search where there is nothing to find (what is in
main context is no hit), or in one turn the same search function again and again, or an edit that changed nothing; small
models get stuck in these. `page_out` is the agent's own affair: only its description is here.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from localmem.fitting import longest
from localmem.functions import Outcome
from localmem.grammar.schema import Schema, arguments, one_of, text
from localmem.memory.archival import Archival
from localmem.memory.core import Block, Core
from localmem.memory.recall import Recall
from localmem.memory.search import Hit, Page

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
_MOST_PAGES = 25
_SEARCHES_KEPT = 4
_SEARCHES_A_TURN = 2
_LEAST_HIT = 40
_CHARS_A_TOKEN = 3
_EVER = 2**62


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a call may write and a result may show. `count` gives the tokens of a text in the model's vocabulary."""

    message_chars: int
    result_tokens: int
    count: Callable[[str], int]

    @staticmethod
    def tokens_of(block: Block) -> int:
        """The most tokens that a block's value may take: its limit in characters, as ordinary text."""
        return -(-block.limit // _CHARS_A_TOKEN)


@dataclass(frozen=True, slots=True)
class _Search:
    """A search that has further pages."""

    arguments: Mapping[str, str]
    pages: int
    newest: int


class MemoryFunctions:
    """The built-in functions of one agent. `in_context` gives the ids of the events in main context."""

    def __init__(
        self, core: Core, recall: Recall, archival: Archival, limits: Limits, in_context: Callable[[], Collection[int]]
    ) -> None:
        self._core, self._recall, self._archival = core, recall, archival
        self._limits = limits
        self._in_context = in_context
        self._searches: dict[str, OrderedDict[tuple[str, ...], _Search]] = {}
        self._made: Counter[str] = Counter()
        self._idle: set[str] = set()

    def begin_turn(self) -> None:
        """In a new turn, everything may be tried again."""
        self._made.clear()
        self._idle.clear()

    # -- what the grammar allows now

    def variants(self) -> dict[str, list[Schema]]:
        """The argument objects that each function takes now; a function that cannot be called now is left out."""
        days = self._recall.days(before=min(self._in_context(), default=_EVER))
        offered = {
            "send_message": [self.send_message_arguments()],
            "core_memory_append": self._append_variants(),
            "core_memory_replace": self._replace_variants(),
            "conversation_search": self._query_variants("conversation_search", days),
            "conversation_search_date": self._date_variants(days),
            "archival_memory_insert": [arguments({"content": text(self._limits.message_chars)})],
            "archival_memory_search": self._query_variants("archival_memory_search", range(len(self._archival))),
        }
        return {name: variants for name, variants in offered.items() if variants and name not in self._idle}

    def send_message_arguments(self) -> Schema:
        return arguments({"message": text(self._limits.message_chars)})

    def _append_variants(self) -> list[Schema]:
        rooms = {block.label: self._room(block) for block in self._core.blocks()}
        return [
            arguments({"block": {"const": label}, "content": text(room)})
            for label, room in rooms.items()
            if room >= _LEAST_ROOM
        ]

    def _room(self, block: Block) -> int:
        if self._limits.count(block.value) >= Limits.tokens_of(block):
            return 0
        return block.limit - len(block.value) - 1

    def _replace_variants(self) -> list[Schema]:
        variants = []
        for block in self._core.blocks():
            lines = list(dict.fromkeys(line for line in block.value.split("\n") if line.strip()))
            if lines:
                room = max(0, block.limit - len(block.value)) + min(map(len, lines))
                properties = {
                    "block": {"const": block.label},
                    "old_content": one_of(lines),
                    "new_content": text(room, shortest=0),
                }
                variants.append(arguments(properties))
        return variants

    def _query_variants(self, name: str, searched: Sequence[object]) -> list[Schema]:
        """A search of anything, if there is something to find, and further pages of earlier searches."""
        first = arguments({"query": text(_LONGEST_QUERY), "page": {"const": 1}})
        return [*([first] if searched and self._made[name] < _SEARCHES_A_TURN else []), *self._further_pages(name)]

    def _date_variants(self, days: Sequence[date]) -> list[Schema]:
        name = "conversation_search_date"
        further = self._further_pages(name)
        if not days or self._made[name] >= _SEARCHES_A_TURN:
            return further
        listed = one_of([day.isoformat() for day in days])
        return [arguments({"start_date": listed, "end_date": listed, "page": {"const": 1}}), *further]

    def _further_pages(self, name: str) -> list[Schema]:
        return [
            arguments(
                {key: {"const": value} for key, value in search.arguments.items()}
                | {"page": one_of(range(2, min(search.pages, _MOST_PAGES) + 1))}
            )
            for search in self._searches.get(name, {}).values()
        ]

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
        return Outcome("Stored in archival memory.")

    def _conversation_search(self, query: str, page: int) -> Outcome:
        until = self._until("conversation_search", (query,), page)
        found = self._recall.search(
            query, page=page, page_size=_PAGE_SIZE, until=until, exclude=self._in_context() if until is None else ()
        )
        self._keep("conversation_search", {"query": query}, found)
        return self._show(found, f"No earlier message matches {query!r}.")

    def _conversation_search_date(self, start_date: str, end_date: str, page: int) -> Outcome:
        until = self._until("conversation_search_date", (start_date, end_date), page)
        start, end = sorted((date.fromisoformat(start_date), date.fromisoformat(end_date)))
        found = self._recall.search(
            start=start,
            end=end,
            page=page,
            page_size=_PAGE_SIZE,
            until=until,
            exclude=self._in_context() if until is None else (),
        )
        self._keep("conversation_search_date", {"start_date": start_date, "end_date": end_date}, found)
        return self._show(found, "All messages of these days are in main context.")

    def _archival_search(self, query: str, page: int) -> Outcome:
        until = self._until("archival_memory_search", (query,), page)
        found = self._archival.search(query, page=page, page_size=_PAGE_SIZE, until=until)
        self._keep("archival_memory_search", {"query": query}, found)
        return self._show(found, f"Nothing stored matches {query!r}.")

    # -- pages

    def _until(self, name: str, key: tuple[str, ...], page: int) -> int | None:
        """Where the first page was frozen; None for a first page, which is always searched anew."""
        searches = self._searches.get(name)
        search = searches.get(key) if searches is not None else None
        return search.newest if search is not None and page > 1 else None

    def _keep(self, name: str, given: Mapping[str, str], found: Page) -> None:
        self._made[name] += 1
        searches = self._searches.setdefault(name, OrderedDict())
        key = tuple(given.values())
        searches.pop(key, None)
        if found.pages > 1:
            searches[key] = _Search(given, found.pages, found.newest)
        while len(searches) > _SEARCHES_KEPT:
            searches.popitem(last=False)

    def forget_pages(self) -> None:
        """The head has moved: no search is in the conversation any more."""
        self._searches.clear()

    # -- results

    def _show(self, found: Page, nothing: str) -> Outcome:
        note = f" ({found.note})" if found.note else ""
        if not found.hits:
            return Outcome(f"{nothing}{note}", search=True)
        head = f"{found.total} found, page {found.page} of {found.pages}{note}:"
        room = self._limits.result_tokens
        chars = max(_LEAST_HIT, *(len(hit.text) for hit in found.hits))
        while True:  # every hit is shown, all cut to one length, until the result fits its share of the window
            body = "\n".join([head, *(_line(hit, chars) for hit in found.hits)])
            if chars <= _LEAST_HIT or self._limits.count(body) <= room:
                break
            chars = max(_LEAST_HIT, chars * 2 // 3)
        body = longest(body, lambda part: self._limits.count(part) <= room)
        return Outcome(body, shown=tuple(hit.source for hit in found.hits), search=True)


def _line(hit: Hit, chars: int) -> str:
    """A hit in one line: where it comes from, and its text, cut to `chars` characters and saying so."""
    who = {"user_message": "user", "assistant_message": "you"}.get(str(hit.kind), str(hit.kind or ""))
    where = f"#{hit.source}" if isinstance(hit.source, int) else hit.source
    body = " ".join(hit.text.split())
    if len(body) > chars:
        body = f"{body[:chars]}… ({len(body) - chars} more characters)"
    return f"- [{where} {stamp(hit.time)}{f' {who}' if who else ''}] {body}"


def stamp(time: datetime) -> str:
    """A time as the model sees it, local: `Sat 2026-11-21 08:15`."""
    return time.astimezone().strftime("%a %Y-%m-%d %H:%M")
