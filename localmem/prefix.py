"""The static prefix: system text, function list and few-shot examples, as tokens; and the texts of prompts/.

The same for every turn, and for every agent with the same preset, functions and model. Knows no agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from localmem.errors import ConfigError
from localmem.events import write_call
from localmem.functions import Function
from localmem.memory.core import Block
from localmem.memory_functions import DESCRIPTIONS, Limits
from localmem.protocols import ChatFormat, Engine, Role
from localmem.rendering import core_text

PRESETS = ("compact", "fewshot")
#: The size of a block that is given no other, in characters.
BLOCK_LIMIT = 600


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


def block_text(given: str, folder: str) -> str:
    """The text of a shipped persona or human, by name, or of a file. ConfigError if it is neither."""
    if given in persona_names(folder):
        return prompt_text(f"{folder}/{given}.txt")
    path = Path(given).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        names = ", ".join(persona_names(folder))
        raise ConfigError(f"{given} is no text file and none of: {names} ({error.__class__.__name__}).") from error


def static_prefix(chat_format: ChatFormat, functions: Sequence[Function], preset: str) -> list[int]:
    """The tokens of the segment `system`."""
    if preset not in PRESETS:
        raise ConfigError(f"There is no prompt preset {preset!r}; use one of: {', '.join(PRESETS)}.")
    lines = [f"- {signature}: {description}" for signature, description in DESCRIPTIONS.items()]
    lines += [f"- {function.signature}: {function.description}" for function in functions]
    system = prompt_text("system.txt").replace("{functions}", "\n".join(lines))
    tokens = chat_format.message("system", system, first=True)
    for role, text in _examples(preset):
        tokens += chat_format.message(role, text)
    return tokens


def prefix_at_limits(engine: Engine, blocks: Iterable[Block], system: Sequence[int], preset: str) -> int:
    """Tokens of the prefix with every block as full as it may get, summaries left out."""
    blocks, count = list(blocks), engine.vocabulary.tokenize
    now = len(engine.chat_format.message("system", core_text(blocks, core_heading(preset))))
    growth = sum(max(0, Limits.tokens_of(block) - len(count(block.value))) for block in blocks)
    return len(system) + now + growth


def _examples(preset: str) -> list[tuple[Role, str]]:
    if preset == "compact":
        return []
    import yaml  # only here: a preset without examples needs none of it

    messages: list[tuple[Role, str]] = []
    entries: list[dict[str, Any]] = yaml.safe_load(prompt_text(f"{preset}.yaml"))
    for number, entry in enumerate(entries, 1):
        head = f"[#{number} 20:10]"
        for role in ("user", "system"):
            if role in entry:
                messages.append((role, f"{head} {entry[role]}"))
        if "call" in entry:
            messages.append(("assistant", write_call(entry["thought"], entry["call"], entry["arguments"])))
        if "result" in entry:
            messages.append(("tool", f"ok: {entry['result']}"))
    return messages
