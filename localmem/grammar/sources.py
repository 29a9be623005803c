"""What a grammar can be compiled from, besides a JSON Schema and the types that amount to one. Data only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localmem.errors import GrammarError


@dataclass(frozen=True, slots=True)
class Json:
    """A document of a JSON Schema, written in localmem's layout.

    `plain` is for functions' schemas, whose strings hold no control character but the newline: each character is then
    written in one way only, and none by its number.
    """

    schema: Mapping[str, Any]
    plain: bool = False

    def text(self) -> str:
        """The schema as JSON text. Raises GrammarError if it is none: one that contains itself, say."""
        try:
            return json.dumps(self.schema)
        except (TypeError, ValueError, RecursionError) as error:
            raise GrammarError(f"This is not a JSON Schema: {error}.") from error


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that the regular expression matches as a whole."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these texts, as plain text."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cfg:
    """A text of a context-free grammar in Lark's notation, beginning at its rule `start`."""

    lark: str


@dataclass(frozen=True, slots=True)
class Gbnf:
    """A text of a context-free grammar in llama.cpp's notation (GBNF), beginning at its rule `root`."""

    text: str


Source = Json | Regex | Choice | Cfg | Gbnf
