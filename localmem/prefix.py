"""The static prefix: system text, function list and few-shot examples, as tokens; and the texts of prompts/.

The same for every turn, and for every agent with the same preset, functions and model. Knows no agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from localmem.context import Prefix
from localmem.errors import ConfigError
from localmem.functions import Function
from localmem.grammar.call_text import JSON
from localmem.grammar.schema import Schema
from localmem.limits import Limits
from localmem.memory.core import Block
from localmem.memory_functions import DESCRIPTIONS
from localmem.protocols import CallFormat, ChatFormat, Content, Engine, Role
from localmem.rendering import call_content, core_text

PRESETS = ("compact", "fewshot")
#: The size of a block that is given no other, in characters; and of the user's where sentences are quoted into it.
BLOCK_LIMIT, QUOTED_LIMIT = 600, 1200


@cache
def prompt_text(name: str) -> str:
    """A file of prompts/, without the line end at its end."""
    return resources.files("localmem").joinpath("prompts", name).read_text(encoding="utf-8").rstrip("\n")


def core_heading(preset: str) -> str:
    """What stands above core memory."""
    return prompt_text("core.txt" if preset == "compact" else "core_after_examples.txt")


def persona_names(folder: str) -> list[str]:
    """The names shipped in prompts/personas or prompts/humans."""
    files = resources.files("localmem").joinpath("prompts", folder).iterdir()
    return sorted(Path(file.name).stem for file in files)


def is_shipped(text: str) -> bool:
    """Whether a block's text is one of those that come with localmem."""
    folders = ("personas", "humans")
    return any(text == prompt_text(f"{folder}/{name}.txt") for folder in folders for name in persona_names(folder))


def block_text(given: str, folder: str) -> str:
    """The text of a shipped persona or human, by name, or of a file. ConfigError if it is neither."""
    if given in persona_names(folder):
        return prompt_text(f"{folder}/{given}.txt")
    try:
        return Path(given).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~somebody who has no home folder
        names = ", ".join(persona_names(folder))
        raise ConfigError(f"{given} is no text file and none of: {names} ({error.__class__.__name__}).") from error


def static_prefix(
    chat_format: ChatFormat, functions: Sequence[Function], preset: str, form: CallFormat = JSON
) -> list[int]:
    """The tokens of the segment `system`."""
    if preset not in PRESETS:
        raise ConfigError(f"There is no prompt preset {preset!r}; use one of: {', '.join(PRESETS)}.")
    tokens = _beginning(chat_format, functions, form)
    for role, content in _examples(preset, form):
        tokens += chat_format.message(role, content)
    return tokens


def _beginning(chat_format: ChatFormat, functions: Sequence[Function], form: CallFormat) -> list[int]:
    """System text and functions: in a native format, as the template presents them if it has a place for them."""
    lines = [f"- {signature}: {description}" for signature, description in DESCRIPTIONS.items()]
    lines += [f"- {function.signature}: {function.description}" for function in functions]
    listed = "\n".join(lines)
    if form.thought == "inside":
        return chat_format.message("system", prompt_text("system.txt").replace("{functions}", listed), first=True)
    system = prompt_text("system_native.txt")
    presented = chat_format.introduction(system, [*_built_in(), *map(_tool, functions)])
    if presented is not None:
        return presented
    return chat_format.message("system", f"{system}\n\nFunctions:\n{listed}", first=True)


def _built_in() -> list[dict[str, Any]]:
    """The built-in functions as chat templates want them: what each takes now, the grammar knows."""
    tools = []
    for signature, description in DESCRIPTIONS.items():
        name, _, names = signature.removesuffix(")").partition("(")
        numbers = {"page", "through"}
        parameters = {key: {"type": "integer" if key in numbers else "string"} for key in names.split(", ")}
        tools.append(_described(name, description, parameters, list(parameters)))
    return tools


def _tool(function: Function) -> dict[str, Any]:
    parameters = {name: _plain(schema) for name, schema in function.parameters.items()}
    required = [name for name in parameters if name not in function.optional]
    return _described(function.name, function.description, parameters, required)


def _described(name: str, description: str, parameters: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _plain(schema: Schema) -> Schema:
    """A parameter's schema without the bounds, which the grammar keeps and no model needs to read."""
    kept: Schema = {key: value for key, value in schema.items() if key in ("type", "enum", "const")}
    if "anyOf" in schema:
        kept["anyOf"] = [_plain(branch) for branch in schema["anyOf"]]
    if "items" in schema:
        kept["items"] = _plain(schema["items"])
    return kept


def prefix_at_limits(engine: Engine, blocks: Iterable[Block], system: Sequence[int], preset: str) -> int:
    """Tokens of the prefix with every block as full as it may get, summaries left out."""
    blocks, count = list(blocks), engine.vocabulary.tokenize
    now = len(engine.chat_format.message("system", core_text(blocks, core_heading(preset))))
    growth = sum(max(0, Limits.tokens_of(block) - len(count(block.value))) for block in blocks)
    return len(system) + now + growth


def live_prefix(engine: Engine, system: Sequence[int], blocks: Sequence[Block], heading: str, summaries: str) -> Prefix:
    """The prefix: the static one, core memory under its heading, and the summaries where there are any."""
    message, count = engine.chat_format.message, engine.vocabulary.tokenize
    core, empty = message("system", core_text(blocks, heading)), message("system", "")
    before = next((i for i, (a, b) in enumerate(zip(core, empty, strict=False)) if a != b), len(empty))
    starts = [before + len(count(core_text(blocks[:i], heading))) for i in range(len(blocks))]
    return Prefix(
        system=tuple(system),
        core_memory=tuple(core),
        summaries=tuple(message("system", summaries)) if summaries else (),
        parts=tuple(zip((block.label for block in blocks), starts, strict=True)),
    )


def _examples(preset: str, form: CallFormat) -> list[tuple[Role, Content]]:
    if preset == "compact":
        return []
    import yaml  # only here: a preset without examples needs none of it

    messages: list[tuple[Role, Content]] = []
    entries: list[dict[str, Any]] = yaml.safe_load(prompt_text(f"{preset}.yaml"))
    for number, entry in enumerate(entries, 1):
        head = f"[#{number} 20:10]"
        for role in ("user", "system"):
            if role in entry:
                messages.append((role, f"{head} {entry[role]}"))
        if "call" in entry:
            call = call_content(entry["thought"], entry["call"], entry["arguments"], form)
            messages.append(("assistant", call))
        if "result" in entry:
            messages.append(("tool", f"ok: {entry['result']}"))
    return messages
