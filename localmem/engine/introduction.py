"""The beginning of a conversation with functions in it, as a model's chat template presents them.

What is not the template's own, the system text and what functions say of themselves, is marked before the template is
run, so that afterwards it is known where a control token may stand. Knows no function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from localmem.engine.template import Template
from localmem.protocols import Content, Marks, Tag, Vocabulary

Turn = tuple[str, str]  # what stands around a message's content

_SYSTEM = "PROBE-SYSTEM"
_USER = {"role": "user", "content": "PROBE-USER"}
_START, _STOP = "\ue000", "\ue001"  # around what is not the template's own
_PLAIN_KEYS = frozenset({"type", "required", "name"})  # words of a schema, which templates compare and count


def presented(template: Template, tools: Sequence[Mapping[str, Any]]) -> str | None:
    """A conversation of a system and a user message with `tools`; None if the template has no place for them."""
    system = {"role": "system", "content": _SYSTEM}
    names = [str(tool["function"]["name"]) for tool in tools]
    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (system, {"tools": tools, "tools_in_user_message": False}),
        # Where a template insists on today's date: it would change the prefix from day to day.
        (system, {"tools": tools, "strftime_now": lambda _: "unknown"}),
        ({**system, "tools": json.dumps(tools, ensure_ascii=False)}, {}),
    ]
    for first, others in ways:
        whole = template.render_messages([first, _USER], **others)
        if whole is not None and whole.count(_SYSTEM) == 1 and all(name in whole for name in names):
            return whole
    return None


def introduction(
    template: Template, vocabulary: Vocabulary, user: Turn, said: tuple[str, Sequence[Mapping[str, Any]]]
) -> Content | None:
    """The beginning of a conversation: a system text and functions, as the template presents them; without its BOS.

    None if it has no place for them. Only what is the template's own can be a control token.
    """
    text, tools = said
    whole = presented(template, [_marked(tool) for tool in tools])
    if whole is None:
        return None
    at = whole.find(user[0] + str(_USER["content"]))
    if at >= 0 and _SYSTEM in whole[:at]:
        head = whole[:at]
    else:  # the template puts the system text into the user's turn, and the functions before it
        start = whole.rfind(user[0], 0, whole.index(_SYSTEM))
        head = whole[: max(0, start)]
        if not all(str(tool["function"]["name"]) in head for tool in tools):
            return None
        head += f"{user[0]}{_SYSTEM}{user[1]}"
    own = head.replace(_SYSTEM, f"{_START}{text.replace(_START, '').replace(_STOP, '')}{_STOP}")
    return _tokenizable(own, vocabulary)


def _marked(value: Any, key: str = "") -> Any:
    """`value` with every text that is not a schema's own word between marks."""
    if isinstance(value, Mapping):
        return {name: _marked(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item, key) for item in value]
    if isinstance(value, str) and key not in _PLAIN_KEYS:
        return f"{_START}{value.replace(_START, '').replace(_STOP, '')}{_STOP}"
    return value


def _tokenizable(head: str, vocabulary: Vocabulary) -> list[str | int]:
    """`head` as texts and ids: outside of the marks, names of control tokens are the tokens."""
    content: list[str | int] = []
    for number, piece in enumerate(re.split(f"{_START}(.*?){_STOP}", head, flags=re.DOTALL)):
        marks = (piece,) if number % 2 else split_marks(piece, vocabulary)
        for mark in marks:
            last = content[-1] if content else 0
            if isinstance(mark, str) and isinstance(last, str):
                content[-1] = last + mark
            elif mark:
                content.append(mark if isinstance(mark, str) else mark.id)
    return content


def split_marks(text: str, vocabulary: Vocabulary) -> Marks:
    """A template's text: ordinary texts, and the control tokens whose names stand in it."""
    names = {vocabulary.token_bytes(t).decode("utf-8", "replace"): t for t in vocabulary.control_tokens}
    ordered = sorted((name for name in names if name), key=len, reverse=True)
    if not ordered:
        return (text,) if text else ()
    pieces = re.split(f"({'|'.join(map(re.escape, ordered))})", text)
    return tuple(Tag(names[piece], piece) if piece in names else piece for piece in pieces if piece)
