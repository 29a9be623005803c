"""A model's own way to write a function call, recognised from what its chat template makes of one.

The template renders a probe: an assistant message that calls a function, once with a text beside it and once without.
What stands around the probe's name and arguments is the format, whatever the model is called. Where a template renders
no call at all, the control tokens that the vocabulary has for calls tell, if they are a pair that is known.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from localmem.engine.introduction import Turn, presented, split_marks
from localmem.engine.template import Template
from localmem.protocols import CallFormat, Tag, Vocabulary

_NAME, _TEXT, _KEY, _OTHER, _NUMBER = "probe_function", "PROBE-TEXT", "probe_text", "probe_number", 7351
_ARGUMENTS = {_KEY: _TEXT, _OTHER: _NUMBER}
_SAID, _THOUGHT = "PROBE-SAID", "PROBE-THOUGHT"
_USER = {"role": "user", "content": "PROBE-USER"}
_ID = "000000000"
_PYTHON = re.compile(rf"{_NAME}\({_KEY}=(['\"]){_TEXT}\1, {_OTHER}={_NUMBER}\)")
_GEMMA = re.compile(
    rf"{_NAME}\{{(?:{_OTHER}:{_NUMBER},)?{_KEY}:(?P<quote>\S+?){_TEXT}(?P=quote)(?:,{_OTHER}:{_NUMBER})?\}}"
)
_LIST_KEYS = ("name", "arguments")

#: Formats that no template renders: the pair of control tokens around a call, and what stands between them.
_UNRENDERED: dict[tuple[str, str], CallFormat] = {
    ("<|tool_call_start|>", "<|tool_call_end|>"): CallFormat(
        "lfm2", shape="python", head=("[",), middle=("(",), tail=(")]",)
    ),
    ("<|tool_call|>", "<|/tool_call|>"): CallFormat("phi4", head=("[",), tail=("]",), keys=_LIST_KEYS),
}
_NAMES = {
    "<tool_call>": "hermes",
    "<|tool_call_start|>": "lfm2",
    "<|tool_call|>": "phi4",
    "[TOOL_CALLS]": "mistral",
    "<｜tool▁calls▁begin｜>": "deepseek",
}


def recognise(template: Template, vocabulary: Vocabulary, assistant: Turn) -> CallFormat | None:
    """The format of `template`, or None if it has none that is known. `assistant` is the turn around its messages."""
    probe = _Probe(template, assistant)
    lists = presented(template, [_described(_NAME)]) is not None
    found = _from_call(probe, vocabulary)
    if found is None:
        found = _from_tags(vocabulary) if lists else None
    if found is None:
        return None
    return replace(_with_thinking(found, probe, vocabulary), lists_functions=lists)


def _described(name: str) -> dict[str, Any]:
    properties = {"probe": {"type": "string", "description": "A probe."}}
    parameters = {"type": "object", "properties": properties, "required": ["probe"]}
    return {"type": "function", "function": {"name": name, "description": "A probe.", "parameters": parameters}}


class _Probe:
    """Renders an assistant message that calls the probe function."""

    def __init__(self, template: Template, assistant: Turn) -> None:
        self._template = template
        self._before, self._after = assistant

    def message(self, content: str | None, **others: Any) -> str | None:
        """The whole message as rendered, but for what begins and ends every message."""
        start = self._template.render_messages([_USER])
        for arguments in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
            function = {"name": _NAME, "arguments": arguments}
            call = {"id": _ID, "type": "function", "function": function}
            message = {"role": "assistant", "content": content, "tool_calls": [call], **others}
            whole = self._template.render_messages([_USER, message])
            if whole is not None and start is not None and whole.startswith(start) and _NAME in whole:
                return self._inner(whole[len(start) :])
        return None

    def _inner(self, turn: str) -> str:
        for before in (self._before, self._before.strip()):
            if before and turn.startswith(before):
                turn = turn[len(before) :]
                break
        return turn[: -len(self._after)] if self._after and turn.endswith(self._after) else turn

    def alone(self) -> str | None:
        """The message that says nothing beside its call."""
        silent = self.message(None)
        return self.message("") if silent is None or "None" in silent else silent

    @property
    def prompt(self) -> str:
        """What a generation is begun with, after what begins every message."""
        start = self._template.render_messages([_USER]) or ""
        whole = self._template.render_messages([_USER], add_generation_prompt=True, enable_thinking=True) or ""
        return whole.removeprefix(start).removeprefix(self._before)


def _from_call(probe: _Probe, vocabulary: Vocabulary) -> CallFormat | None:
    """The format of a call that the template renders."""
    turn = probe.alone()
    form = None if turn is None else _shape(turn)
    if turn is None or form is None:
        return None
    head, between = str(form.head[0]), ""
    said = probe.message(_SAID)
    if said is not None and _SAID in said and said.index(_SAID) < said.index(_NAME):
        beside = _shape(said)
        after = "" if beside is None else str(beside.head[0]).partition(_SAID)[2]
        if after:
            head = after.lstrip()
            between = after[: len(after) - len(head)]
    head = head.lstrip("\n")
    if not head and form.shape != "object":
        return None  # nothing would tell where a thought ends and the call begins
    form = replace(
        form,
        head=split_marks(head, vocabulary),
        middle=split_marks(str(form.middle[0]), vocabulary) if form.middle else (),
        tail=split_marks(str(form.tail[0]), vocabulary),
        quote=split_marks(str(form.quote[0]), vocabulary) if form.quote else (),
        between="\n" if between.startswith("\n") else "",
    )
    return replace(form, name=_name(form))


def _shape(turn: str) -> CallFormat | None:
    """What stands around the probe in `turn`: the texts before, between and after, not yet split into tokens."""
    at = turn.index(_NAME)
    python, gemma = _PYTHON.search(turn), _GEMMA.search(turn)
    if python is not None:
        return CallFormat("", "python", (turn[:at],), ("(",), (")" + turn[python.end() :],))
    if gemma is not None:
        quote = (gemma["quote"],)
        return CallFormat("", "gemma", (turn[:at],), ("{",), ("}" + turn[gemma.end() :],), quote=quote)
    return _object(turn, at) or _named(turn, at)


def _object(turn: str, at: int) -> CallFormat | None:
    """A JSON object with the name and then the arguments, in the layout in which documents are written."""
    start = turn.rfind("{", 0, at)
    try:
        found, end = json.JSONDecoder().raw_decode(turn, max(0, start))
    except ValueError:
        return None
    values = list(found.items())
    laid_out = json.dumps(found, ensure_ascii=False) == turn[start:end]
    if start < 0 or not laid_out or [value for _, value in values[:2]] != [_NAME, _ARGUMENTS]:
        return None
    if not all(isinstance(value, str) for _, value in values[2:]):
        return None
    keys = (values[0][0], values[1][0])
    return CallFormat("", "object", (turn[:start],), (), (turn[end:],), keys, tuple(values[2:]))


def _named(turn: str, at: int) -> CallFormat | None:
    """The name, something, and the arguments as JSON."""
    written = json.dumps(_ARGUMENTS)
    start = turn.find(written, at)
    if start < 0:
        return None
    return CallFormat("", "named", (turn[:at],), (turn[at + len(_NAME) : start],), (turn[start + len(written) :],))


def _name(form: CallFormat) -> str:
    if form.shape == "gemma":
        return "gemma"
    if form.shape == "object" and form.keys[1] == "parameters":
        return "llama3"
    first = form.head[0] if form.head else ""
    name = _NAMES.get((first if isinstance(first, str) else first.name).strip(), form.shape)
    return f"{name}-args" if name == "mistral" and form.shape == "named" else name


def _from_tags(vocabulary: Vocabulary) -> CallFormat | None:
    names = {vocabulary.token_bytes(t).decode("utf-8", "replace"): t for t in vocabulary.control_tokens}
    for (opening, closing), form in _UNRENDERED.items():
        if opening in names and closing in names:
            start, end = Tag(names[opening], opening), Tag(names[closing], closing)
            return replace(form, head=(start, *form.head), tail=(*form.tail, end))
    return None


def _with_thinking(form: CallFormat, probe: _Probe, vocabulary: Vocabulary) -> CallFormat:
    """The format of a model that thinks before it calls: what the template puts around reasoning, or begins it with."""
    turn = probe.message("", reasoning_content=_THOUGHT, thinking=_THOUGHT)
    opening = closing = ""
    if turn is not None and _THOUGHT in turn and turn.index(_THOUGHT) < turn.index(_NAME):
        opening, _, rest = turn.partition(_THOUGHT)
        closing = rest[: rest.index(_NAME)].lstrip()
        shown = _shape(rest)
        closing = closing if shown is None else str(shown.head[0]).lstrip()
        head = "".join(mark if isinstance(mark, str) else mark.name for mark in form.head)
        closing = closing.removesuffix(head)
    elif probe.prompt.strip() == "<think>":
        opening, closing = probe.prompt, "</think>\n\n"
    if not opening.strip() or not closing.strip():
        return form
    think_open, think_close = split_marks(opening, vocabulary), split_marks(closing, vocabulary)
    return replace(form, thought="thinking", think_open=think_open, think_close=think_close)
