"""A model's chat template, run in jinja2's sandbox. Knows no tokens.

A template comes with a model's file and may be hostile: it reaches nothing of Python, and cannot fill the memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localmem.errors import ModelError

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


class _GenerationMarks(Extension):
    """`{% generation %}`, with which templates mark what is trained on: its content stands there as it is."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Template:
    """A chat template. `render` and `render_messages` return None where it refuses the conversation."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        # The settings that Hugging Face's apply_chat_template uses; the date is left to the template's own default,
        # for nothing that changes from day to day may stand before the newest message.
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationMarks]
        )
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
        user, assistant = ("user", "SENTINEL-USER"), ("assistant", "SENTINEL-ASSISTANT")
        alone, both = self.render(user), self.render(user, assistant)
        if eos and alone is not None and alone.endswith(eos) and not (both or "").startswith(alone):
            self._tail = eos  # Phi ends every conversation with it, and no message

    def render(self, *messages: tuple[str, str]) -> str | None:
        """The conversation of these roles and contents."""
        return self.render_messages([{"role": role, "content": content} for role, content in messages])

    def render_messages(self, messages: Sequence[Mapping[str, Any]], **others: Any) -> str | None:
        """The conversation of these messages; `others` are what else the template may ask for (`tools`)."""
        known = {"add_generation_prompt": False, **self._known, **others}
        try:
            text = self._template.render(messages=list(messages), **known)
        except _REFUSALS:
            return None
        return text if known["add_generation_prompt"] else text.removesuffix(self._tail)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> Any:
    raise jinja2.TemplateError(message)
