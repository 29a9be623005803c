"""Where a chat's lines come from: a person at a terminal (prompt_toolkit), or a pipe, one message a line.

Knows no agent. `read` returns None where something else than the user is due.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

#: Nothing interrupts who is typing: what is due waits until no key was pressed for so long.
_STILL_S = 3.0

Complete = Callable[[str], Iterable[tuple[str, str]]]


class PipeLine:
    """Lines of stdin. The ends are those of lines: a message of several lines cannot be piped."""

    interactive = False

    def read(self) -> str | None:
        """The next line. EOFError at the end."""
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")


class TerminalLine:
    """The line of a person: history, several lines (Alt-Enter), completion, a toolbar, and timers meanwhile.

    `complete` gets the text of a slash command so far and gives (replacement of its last word, what it is); `wait`, the
    seconds until something is due, or None.
    """

    interactive = True

    def __init__(
        self, history: Path, toolbar: Callable[[], str], complete: Complete, wait: Callable[[], float | None]
    ) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.styles import Style

        self._wait = wait
        self._typed_at = 0.0
        self._kept: Document | None = None
        self._session: PromptSession[Any] = PromptSession(
            history=_history(history),
            multiline=True,
            key_bindings=_keys(),
            completer=_completer(complete),
            complete_while_typing=True,
            bottom_toolbar=toolbar,
            prompt_continuation="· ",
            style=Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack", "prompt": "ansicyan bold"}),
            reserve_space_for_menu=6,
        )
        self._session.default_buffer.on_text_changed += lambda _: self._note_typing()

    def read(self) -> str | None:
        """What was typed; None if something is due, and what was typed so far comes back at the next call.

        EOFError for Ctrl-D at the empty prompt, KeyboardInterrupt for Ctrl-C there; elsewhere Ctrl-C clears the text.
        """
        while True:
            default, self._kept = self._kept, None
            handles: list[Any] = []
            try:
                text = self._session.prompt(
                    [("class:prompt", "> ")], default=default or "", pre_run=partial(self._watch, handles)
                )
            except KeyboardInterrupt:
                if self._session.default_buffer.text:
                    continue
                raise
            finally:
                for handle in handles:
                    handle.cancel()
                self._session.app.erase_when_done = False
            return None if text is None else str(text)

    def _note_typing(self) -> None:
        self._typed_at = time.monotonic()

    def _watch(self, handles: list[Any]) -> None:
        """Have the prompt end when something is due and nobody is typing."""
        wait, app = self._wait(), self._session.app
        if wait is None or app.loop is None:
            return
        self._typed_at = 0.0

        def check() -> None:
            still = time.monotonic() - self._typed_at
            if still < _STILL_S and self._session.default_buffer.text:
                handles.append(app.loop.call_later(_STILL_S - still, check))  # type: ignore[union-attr]
            elif not app.is_done:
                self._kept = self._session.default_buffer.document
                app.erase_when_done = True
                app.exit(result=None)

        handles.append(app.loop.call_later(wait, check))


def _history(path: Path) -> History:
    """What was typed before, private to the user; in memory only where that cannot be kept."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("ab"):
            return FileHistory(str(path))
    except OSError as error:
        click.echo(f"no history is kept: {path}: {error.strerror}", err=True)
        return InMemoryHistory()


def _keys() -> KeyBindings:
    """Enter sends, Alt-Enter (or Escape, Enter) begins a new line."""
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None
        elif buffer.text.strip():
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _completer(complete: Complete) -> Any:
    from prompt_toolkit.completion import Completer, Completion

    class SlashCompleter(Completer):
        """Slash commands and their arguments; nothing for what is said."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            text = document.text_before_cursor
            if text.startswith("/") and "\n" not in text and not text.startswith("//"):
                word = text.rsplit(" ", 1)[-1]
                for replacement, about in complete(text):
                    yield Completion(replacement, start_position=-len(word), display_meta=about)

    return SlashCompleter()
