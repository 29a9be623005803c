"""A model's chat template -> the tokens of one message.

A template renders whole conversations, and many let neighbours change it: a default system turn is put before a lone
message, thinking is dropped from all turns but the last. An append-only context needs the tokens of one message alone.
So the text around a message is found once, at load, as the difference that it makes to a sentinel conversation (the
suffix-difference rule), and checked in a second conversation. Where a role does not exist or is refused (system, tool,
two user turns in a row), another role carries it. Content never passes through the template: it is tokenized with
special tokens off and put between the two halves, so no content can produce a control token.

Knows nothing of events or calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localmem.engine.call_format import recognise
from localmem.engine.introduction import introduction
from localmem.engine.template import Template
from localmem.errors import ModelError
from localmem.protocols import CallFormat, Content, Role, Vocabulary

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_A, _B, _C = "SENTINEL-ALPHA", "SENTINEL-BETA", "SENTINEL-GAMMA"
_MARK = "SENTINEL-MESSAGE"
_U, _V, _W = ("user", _A), ("user", _B), ("user", _C)
_X, _Y = ("assistant", _A), ("assistant", _B)


@dataclass(frozen=True, slots=True)
class Turn:
    """The text around a message's content."""

    before: str
    after: str


def _between(whole: str | None, before: str | None, around: str | None) -> Turn | None:
    """The turn that `whole` has more than `around`, after `before`; None unless it stands there only."""
    if whole is None or before is None or around is None:
        return None
    rest = around[len(before) :]
    if not around.startswith(before) or not whole.startswith(before) or not whole.endswith(rest):
        return None
    turn = whole[len(before) : len(whole) - len(rest)]
    if turn.count(_MARK) != 1:
        return None
    start, end = turn.split(_MARK)
    return Turn(start, end)


def _find_turn(template: Template, role: Role) -> Turn | None:
    """The turn of `role`, from the first two sentinel conversations that agree on it."""
    found: list[Turn] = []
    for before, after in _SURROUNDINGS[role]:
        turn = _between(
            template.render(*before, (role, _MARK), *after), template.render(*before), template.render(*before, *after)
        )
        if turn is not None:
            if turn in found:
                return turn
            found.append(turn)
    return found[0] if len(found) == 1 else None


_Conversation = tuple[tuple[str, str], ...]

# Conversations to put a message into. The strict ones, where user and assistant alternate, come after those in which
# neighbours are alike; a template that demands alternation refuses the former.
_SURROUNDINGS: dict[Role, list[tuple[_Conversation, _Conversation]]] = {
    "user": [((_U,), (_V,)), ((_U, _X), (_W,)), ((_U, _X), ()), ((_U, _X, _V, _Y), ())],
    "assistant": [((_U,), (_V,)), ((_U, _X, _V), (_W,)), ((_U,), ()), ((_U, _X, _V), ())],
    "system": [((_U,), (_V,)), ((_U, _X, _V), (_W,)), ((_U, _X), (_V,)), ((_U, _X, _V, _Y), (_W,))],
    "tool": [((_U,), (_V,)), ((_U, _X, _V), (_W,)), ((_U, _X), (_V,)), ((_U, _X, _V, _Y), (_W,))],
}


class TemplateFormat:
    """A `ChatFormat` worked out from a chat template. Raises ModelError where users or assistants cannot speak."""

    def __init__(self, vocabulary: Vocabulary, source: str, *, bos: int | None = None, eos: int | None = None) -> None:
        self._vocabulary = vocabulary
        self._bos = [] if bos is None else [bos]
        bos_text = "" if bos is None else vocabulary.token_bytes(bos).decode("utf-8", "replace")
        eos_text = "" if eos is None else vocabulary.token_bytes(eos).decode("utf-8", "replace")
        self._template = template = Template(source, bos=bos_text, eos=eos_text)
        user, assistant = _find_turn(template, "user"), _find_turn(template, "assistant")
        if user is None or assistant is None:
            raise ModelError(
                "The chat template changes earlier turns in a way that cannot be followed. "
                "Set chat_template: to a template file in models.yaml."
            )
        self.turns: dict[Role, Turn] = {
            "user": user,
            "assistant": assistant,
            "system": _find_turn(template, "system") or user,
            "tool": _find_turn(template, "tool") or user,
        }
        self._first = self._find_first(template, bos_text)
        self._halves = {turn: self._tokenize_halves(turn) for turn in {*self.turns.values(), self._first}}

    def _find_first(self, template: Template, bos_text: str) -> Turn:
        """The turn of the system message that begins a conversation, its BOS left out: that one is added as an id."""
        user = self.turns["user"]
        whole = template.render(("system", _MARK), _U)
        if whole is not None and whole.count(_MARK) == 1:
            head, found, _ = whole.partition(user.before + _A)
            if found and _MARK in head:
                start, end = head.removeprefix(bos_text).split(_MARK)
                return Turn(start, end)
        return self.turns["system"]

    def _tokenize_halves(self, turn: Turn) -> tuple[list[int], list[int]]:
        tokenize = self._vocabulary.tokenize
        return tokenize(turn.before, special=True), tokenize(turn.after, special=True)

    def message(self, role: Role, content: Content, *, first: bool = False) -> list[int]:
        before, after = self._halves[self._first if first and role == "system" else self.turns[role]]
        return [*(self._bos if first else []), *before, *self._tokenize(content), *after]

    def _tokenize(self, content: Content) -> list[int]:
        """The tokens of texts, in which no name of a control token becomes one, and of the ids among them."""
        if isinstance(content, str):
            return self._vocabulary.tokenize(content)
        return [
            token
            for piece in content
            for token in ([piece] if isinstance(piece, int) else self._vocabulary.tokenize(piece))
        ]

    def introduction(self, text: str, functions: Sequence[Mapping[str, Any]]) -> list[int] | None:
        user = self.turns["user"]
        content = introduction(self._template, self._vocabulary, (user.before, user.after), (text, functions))
        if content is None:
            return None
        tokens = self._tokenize(content)
        return tokens if not self._bos or tokens[:1] == self._bos else [*self._bos, *tokens]

    @cached_property
    def call_format(self) -> CallFormat | None:
        turn = self.turns["assistant"]
        return recognise(self._template, self._vocabulary, (turn.before, turn.after))

    @property
    def opening(self) -> list[int]:
        return list(self._halves[self.turns["assistant"]][0])

    @property
    def ending(self) -> list[int]:
        return list(self._halves[self.turns["assistant"]][1])
