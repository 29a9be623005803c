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

import json
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localmem.errors import ModelError
from localmem.protocols import Role, Vocabulary

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


#: What a template raises that does not take a conversation, or was never meant to.
_REFUSALS = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError,
    MemoryError,
)  # fmt: skip


class _Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's sandbox, in which no text is multiplied and no power taken either: they could fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not all(isinstance(value, int | float) for value in (left, right)):
            raise jinja2.exceptions.SecurityError(f"{operator} of {type(left).__name__} and {type(right).__name__}")
        return super().call_binop(context, operator, left, right)


class Template:
    """A chat template, run in jinja2's sandbox. `render` returns None where the template refuses the conversation."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        # The settings that Hugging Face's apply_chat_template uses; the date is left to the template's own default,
        # for nothing that changes from day to day may stand before the newest message.
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = _to_json  # jinja2's own makes HTML of it
        self._tail = ""
        self._known = {"bos_token": bos, "eos_token": eos, "tools": None, "enable_thinking": False}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(
                f"The chat template cannot be read: {error}. Set chat_template: in models.yaml."
            ) from error
        alone, both = self.render(_U), self.render(_U, _X)
        if eos and alone is not None and alone.endswith(eos) and not (both or "").startswith(alone):
            self._tail = eos  # Phi ends every conversation with it, and no message

    def render(self, *messages: tuple[str, str]) -> str | None:
        conversation = [{"role": role, "content": content} for role, content in messages]
        try:
            text = self._template.render(messages=conversation, add_generation_prompt=False, **self._known)
        except _REFUSALS:
            return None
        return text.removesuffix(self._tail)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> Any:
    raise jinja2.TemplateError(message)


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
        template = Template(source, bos=bos_text, eos=eos_text)
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

    def message(self, role: Role, text: str, *, first: bool = False) -> list[int]:
        before, after = self._halves[self._first if first and role == "system" else self.turns[role]]
        content = self._vocabulary.tokenize(text)
        return [*(self._bos if first else []), *before, *content, *after]

    @property
    def opening(self) -> list[int]:
        return list(self._halves[self.turns["assistant"]][0])

    @property
    def ending(self) -> list[int]:
        return list(self._halves[self.turns["assistant"]][1])
