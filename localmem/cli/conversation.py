"""Conversation: an open agent, the screen that shows its turns, and the timers that begin some of them.

What the slash commands work on. Knows neither where lines come from nor what a command is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from localmem.cli.chat_screen import Screen
from localmem.cli.session import Flags, check_model, complain, note, open_session
from localmem.cli.timers import Timers
from localmem.cli.turns import run_turn
from localmem.errors import LocalmemError
from localmem.events import Kind

if TYPE_CHECKING:
    from localmem.agent import Agent
    from localmem.events import Event
    from localmem.generating import OnText

Begin = Callable[["OnText"], Iterable["Event"]]


class Conversation:
    """A chat with one agent, whose model can be exchanged while it goes on."""

    def __init__(self, flags: Flags, screen: Screen) -> None:
        self.flags, self.screen = flags, screen
        self.timers = Timers()
        self.agent: Agent = open_session(flags)

    def close(self) -> None:
        self.agent.close()

    # -- turns

    def turn(self, begin: Begin) -> bool:
        """Run the turn that `begin` begins, and show it; whether Ctrl-C was pressed."""
        self.screen.begin()
        try:
            stopped = run_turn(self.agent, begin(self.screen.piece), self.screen.event)
        finally:
            self.screen.end()
        left = self.agent.unanswered if stopped else None
        if left is not None and left.kind is Kind.USER:
            note("stopped before an answer; /retry asks again")
        return stopped

    def say(self, text: str) -> bool:
        """A message of the user's; whether Ctrl-C was pressed."""
        return self.turn(lambda on_text: self.agent.send(text, on_text=on_text))

    def run_due(self) -> None:
        """The turns of timers and heartbeats that are due."""
        for timer in self.timers.take_due():
            try:
                if timer.every is None:
                    text = timer.text
                    self.turn(lambda on_text, text=text: self.agent.timer(text, on_text=on_text))  # type: ignore[misc]
                else:
                    self.turn(lambda on_text: self.agent.heartbeat(on_text=on_text))
            except LocalmemError as error:
                complain(error)
            finally:
                self.timers.again(timer)

    # -- the model

    def swap_model(self, name: str) -> None:
        """Go on with another model. If it cannot be had, the one before is loaded again, and the error is raised."""
        wanted = replace(self.flags, model=name, persona=None, human=None)
        check_model(wanted)
        self.agent.close()
        try:
            self.agent = open_session(wanted)
        except BaseException:
            self.agent = open_session(replace(self.flags, persona=None, human=None))
            raise
        self.flags = wanted
