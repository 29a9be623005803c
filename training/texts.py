"""The texts of a split: templates with slots, and lists of values for the slots. Data only; see `texts/README.md`.

Splits share neither templates nor values: `overlaps` finds what two of them have in common.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SPLITS = ("train", "dev", "test")
KINDS = ("facts", "passing", "chat", "topics", "documents", "notes", "functions")

_FOLDER = Path(__file__).parent / "texts"

Item = Mapping[str, Any]
Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Texts:
    """One split: the items of each kind, and the value lists that they draw from."""

    split: str
    items: Mapping[str, Sequence[Item]]
    values: Mapping[str, Sequence[str]]
    phrases: Mapping[str, Any]

    def __getitem__(self, kind: str) -> Sequence[Item]:
        return self.items[kind]

    def draw(self, item: Item, rng: random.Random, given: Mapping[str, str] | None = None) -> Values:
        """A value for each slot of `item`; slots that draw from one list get different values. `given` ones stay."""
        drawn: Values = dict(given or {})
        for slot, name in (item.get("slots") or {}).items():
            if slot in drawn:
                continue
            choices = [value for value in self.values[name] if value not in drawn.values()]
            drawn[slot] = rng.choice(choices or list(self.values[name]))
        return drawn


def fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with its slots filled; what begins a sentence is a capital if the template's beginning is a slot."""
    filled = template.format_map(values)
    if template.startswith("{") and filled[:1].islower() and _is_sentence(template):
        filled = filled[0].upper() + filled[1:]
    return filled


def _is_sentence(template: str) -> bool:
    return template.rstrip().endswith((".", "!", "?"))


@cache
def load(split: str) -> Texts:
    """The texts of `split`, every slot checked: ValueError names the item at fault."""
    folder = _FOLDER / split
    values: dict[str, list[str]] = {}
    for file in sorted(folder.glob("values*.yaml")):
        for name, given in _read(file).items():
            values[name] = [str(value) for value in _listed(given)]
    items = {
        kind: [item for file in sorted(folder.glob(f"{kind}*.yaml")) for item in _read(file) or []] for kind in KINDS
    }
    phrases = _read(folder / "phrases.yaml") or {}
    items["compounds"] = phrases.get("compound", [])
    texts = Texts(split, items, values, phrases)
    for kind in items:
        for item in items[kind]:
            _check(item, texts, f"{split}/{kind}.yaml")
    return texts


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else []


def _listed(given: Any) -> Sequence[Any]:
    if isinstance(given, Mapping):
        first, last = given["range"]
        return range(first, last + 1)
    return list(given)


def _check(item: Item, texts: Texts, where: str) -> None:
    slots = item.get("slots") or {}
    for slot, name in slots.items():
        if name not in texts.values:
            raise ValueError(f"{where}: slot {slot} of {item} draws from {name}, which is no list")
    known = {*slots, "old", "text", "title"}
    for template in templates(item):
        used = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if not used <= known:
            raise ValueError(f"{where}: {template!r} has slots that are not declared: {', '.join(used - known)}")


def templates(item: Any) -> Iterator[str]:
    """Every text in an item that may have slots."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        for key, value in item.items():
            if key not in ("slots", "kind", "parameters", "name"):
                yield from templates(value)
    elif isinstance(item, Sequence):
        for value in item:
            yield from templates(value)


def overlaps(one: Texts, other: Texts) -> list[str]:
    """What two splits share: what users say, and values of more than one word or of letters that are no common word."""
    shared = _said(one) & _said(other)
    mine, others = (
        {v.casefold() for vs in texts.values.values() for v in vs if not v.isdigit()} for texts in (one, other)
    )
    return sorted(shared) + sorted(mine & others)


def _said(texts: Texts) -> set[str]:
    keys = ("tell", "change", "forget", "ask", "say", "said")
    found = {text for key in ("days", "about_me") for text in texts.phrases.get(key, [])}
    for kind in texts.items:
        for item in texts[kind]:
            for key in keys:
                for template in item.get(key) or []:
                    questions = template["q"] if isinstance(template, Mapping) else [template]
                    found |= set(questions)
    return {" ".join(re.findall(r"[\w{}']+", text.casefold())) for text in found}
