"""extract: a text and a type -> a value of that type, written by a model under the type's grammar.

The prompt is its own: nothing of an agent is read, and nothing is stored. Knows an engine and grammars; no agent.

A result that the budget cut is a valid value of the type, though not what the model would have written: strings end
early, lists are shorter. `Extraction.cut` names the JSON paths, and `Extraction.whole` refuses such a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localmem.errors import ContextError, GrammarError
from localmem.grammar.compile import Backend, compile_grammar
from localmem.grammar.sources import Source
from localmem.grammar.types import reader_of, source_of
from localmem.prefix import prompt_text
from localmem.protocols import Engine, Generation, TextCallback
from localmem.wanted import in_words

_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Asking:
    """How a result is asked for. `backend` None is the one that suits what is wanted; temperature 0 is greedy."""

    max_tokens: int = 512
    temperature: float = 0.0
    seed: int | None = None
    backend: Backend | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """A value, and the generation that wrote it."""

    value: Any
    generation: Generation

    @property
    def cut(self) -> tuple[str, ...]:
        """The JSON paths of the values that were ended or filled in the model's place; empty if none was."""
        return self.generation.closed_paths

    def whole(self) -> Any:
        """The value. GrammarError, naming the paths, if it was cut."""
        if self.generation.finish == "closed":
            why = "it began to repeat itself" if self.generation.closed_by == "loop" else "max_tokens was not enough"
            raise GrammarError(
                f"The result was cut at {', '.join(self.cut) or '$'}, because {why}: "
                "raise max_tokens, or take it as it is with allow_cut=True.",
                *self.cut[:1],
            )
        return self.value


def extract(engine: Engine, text: str, wanted: Any, asking: Asking | None = None) -> Extraction:
    """What `wanted` asks for, out of `text`.

    `wanted` is a Pydantic model, a dataclass, a typing type, a type of outlines, a JSON Schema (gives plain data), or
    one of `localmem.grammar.sources`. Raises GrammarError if it cannot be enforced, if the result of a grammar that
    cannot be closed is unfinished, or if the type itself refuses the value; ContextError if the text is too long for
    the window; KeyboardInterrupt if the generation was interrupted.
    """
    asking = asking or Asking()
    generation = write(engine, text, wanted, asking, prompt="extract.txt")
    if generation.finish == "interrupted":
        raise KeyboardInterrupt
    if generation.finish == "length":
        raise GrammarError(
            f"The result is unfinished after {asking.max_tokens} tokens, and its grammar cannot be closed: "
            f"raise max_tokens. It begins with: {_short(generation.text)}"
        )
    try:
        value = reader_of(wanted)(generation.text)
    except (ValueError, TypeError) as error:  # a validator of the type's own, which no schema expresses
        raise GrammarError(
            f"The type refuses what its own schema allows ({' '.join(str(error).split())}): "
            f"put that into the schema. The result: {_short(generation.text)}"
        ) from error
    return Extraction(value, generation)


def write(
    engine: Engine,
    text: str,
    wanted: Any,
    asking: Asking,
    *,
    prompt: str = "structured.txt",
    on_text: TextCallback | None = None,
) -> Generation:
    """One generation under the grammar of `wanted`, whatever it came to; `prompt` is a file of prompts/.

    Raises GrammarError and ContextError as `extract` does.
    """
    grammar = compile_grammar(wanted, backend=asking.backend)
    tokens = _prompt(engine, text, source_of(wanted), prompt)
    over = len(tokens) + asking.max_tokens - engine.n_ctx
    if over > 0:
        raise ContextError(
            f"The text is {over} tokens too long: with what is asked for it takes {len(tokens)}, max_tokens is "
            f"{asking.max_tokens}, and n_ctx is {engine.n_ctx}. Shorten it, or use a larger n_ctx."
        )
    return engine.generate(
        tokens,
        constraint=grammar,
        max_tokens=asking.max_tokens,
        temperature=asking.temperature,
        seed=asking.seed,
        on_text=on_text,
    )


def _prompt(engine: Engine, text: str, source: Source, prompt: str) -> list[int]:
    """What is wanted stands behind the text: the last thing that a small model reads is what it heeds."""
    chat = engine.chat_format
    system = chat.message("system", prompt_text(prompt), first=True)
    return [*system, *chat.message("user", f"{text}\n\n{in_words(source)}"), *chat.opening]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}..."
