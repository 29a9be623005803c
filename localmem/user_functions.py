"""The user's own functions, as a step offers them.

To a model that quotes, the first call of a turn that a message began is offered those functions alone whose description
is nearest to the message in meaning, and texts out of the message for their arguments. What has been called may lead to
anything, so from then on all of them are offered, for any text.
"""

from __future__ import annotations

from collections.abc import Sequence

from localmem.functions import Function
from localmem.grammar.schema import Schema
from localmem.limits import Limits
from localmem.quoting import Likeness, nearest, phrases, unknown

#: By how much less than the most alike function another may be alike to the message. Of five functions, the one meant
#: is among these for 98 of 100 messages to learn from, and for all of the development set; 2.2 and 1.3 are left.
_WITHIN = 0.15


class UserFunctions:
    """What the user's functions take now. With `quoting`, `likeness` says what they have in common with a message."""

    def __init__(
        self, functions: Sequence[Function], limits: Limits, *, quoting: bool = False, likeness: Likeness = unknown
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._limits, self._quoting, self._likeness = limits, quoting, likeness
        self._message, self._quotable = "", dict[str, int]()

    def get(self, name: str) -> Function | None:
        return self._functions.get(name)

    def begin_turn(self, message: str = "") -> None:
        """`message` is what the user says, if that begins the turn."""
        self._message = message if self._quoting and self._functions else ""
        self._quotable = {each: self._limits.quoted(each) for each in phrases(self._message)}

    def called(self) -> None:
        """A call has been made in this turn: what follows is as free as in one that no message began."""
        self.begin_turn()

    def variants(self) -> dict[str, list[Schema]]:
        """The argument objects that each function takes now."""
        return {name: self._variants(self._functions[name]) for name in self._offered()}

    def _variants(self, function: Function) -> list[Schema]:
        """With what a call may quote if each of its parameters is a text."""
        room = self._limits.quoted_tokens // max(1, len(function.parameters))
        return function.variants([each for each, size in self._quotable.items() if size <= room])

    def _offered(self) -> Sequence[str]:
        names = list(self._functions)
        if not self._message or len(names) < 2:
            return names
        alike = self._likeness(self._message, [function.subject for function in self._functions.values()])
        return names if alike is None else nearest(names, alike, _WITHIN)
