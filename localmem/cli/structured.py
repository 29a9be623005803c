"""localmem run --schema, --grammar, --regex, --choice: text in, text of the wanted form out, with no agent involved.

Only the model is loaded; nothing is opened and nothing stored. Knows forms and exit codes, not how they are enforced.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from localmem.cli import console
from localmem.cli.session import Flags, busy, chosen_model, complain, note
from localmem.config import Paths
from localmem.errors import ConfigError, GrammarError
from localmem.grammar.compile import BACKENDS, compile_grammar
from localmem.grammar.sources import Choice, Gbnf, Json, Regex, Source

if TYPE_CHECKING:
    from localmem.protocols import Generation

Command = TypeVar("Command", bound=Callable[..., Any])

_FORMS = ("schema", "grammar", "regex", "choice")
_MAX_TOKENS = 512
_ANY_CONTROL = re.compile(r"[\x7f-\x9f]")


def structured_options(command: Command) -> Command:
    """The options that `Wish.take` reads."""
    options = [
        click.option("--schema", metavar="FILE|JSON", help="Write JSON of this schema instead of a reply."),
        click.option("--grammar", metavar="FILE", help="Write what this GBNF grammar allows."),
        click.option("--regex", metavar="REGEX", help="Write a text that this regular expression matches."),
        click.option("--choice", metavar="A,B,...", help="Write one of these."),
        click.option(
            "--max-tokens", type=click.IntRange(min=1), metavar="N", help=f"Tokens of these four ({_MAX_TOKENS})."
        ),
        click.option("--backend", type=click.Choice(BACKENDS), help="What enforces these four."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Wish:
    """What form the output is to have, and what enforces it."""

    form: str
    given: str
    max_tokens: int
    backend: Any

    @classmethod
    def take(cls, ctx: click.Context, options: dict[str, Any]) -> Wish | None:
        """The wish in a command's options, which lose it; None if there is none. Usage error if they contradict."""
        given = {form: value for form in _FORMS if (value := options.pop(form)) is not None}
        max_tokens, backend = options.pop("max_tokens"), options.pop("backend")
        forms = ", ".join(f"--{form}" for form in _FORMS)
        if not given:
            if max_tokens is not None or backend is not None:
                raise click.UsageError(f"--max-tokens and --backend go with one of {forms}.")
            return None
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(f'--{form}' for form in given)} exclude each other: give one.")
        [(form, value)] = given.items()
        for name in ("agent", "persona", "human", "prompt", "quiet", "debug"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{form} asks the model alone, without an agent: leave --{name} out.")
        return cls(form, value, max_tokens or _MAX_TOKENS, backend)

    def source(self) -> Source:
        """What the grammar is compiled from. ConfigError or GrammarError if it cannot be read."""
        match self.form:
            case "schema":
                return Json(_schema(self.given))
            case "grammar":
                return Gbnf(_text_of(self.given, "grammar"))
            case "regex":
                return Regex(self.given)
            case _:
                return Choice(_choices(self.given))


def _schema(given: str) -> dict[str, Any]:
    inline = given.lstrip().startswith(("{", "["))
    text = given if inline else _text_of(given, "schema")
    where = "the schema" if inline else given
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"{where} is not JSON ({error}): correct it.") from error
    if not isinstance(schema, dict):
        raise GrammarError(f'{where} is no JSON Schema: that is an object, such as {{"type": "object"}}.')
    return schema


def _text_of(given: str, what: str) -> str:
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the {what} {given} cannot be read ({error.strerror}); check its path") from error
    except ValueError as error:
        raise ConfigError(f"the {what} {given} is not text in UTF-8") from error
    except RuntimeError as error:  # ~somebody who has no home folder
        raise ConfigError(f"the {what} {given} cannot be read ({error}); check its path") from error


def _choices(given: str) -> tuple[str, ...]:
    choices = tuple(dict.fromkeys(choice.strip() for choice in given.split(",")))
    if not all(choices):
        raise ConfigError(f"--choice {given!r} has an empty choice; write them as: --choice yes,no,maybe")
    return choices


def run_structured(flags: Flags, wish: Wish, message: str, *, as_json: bool) -> int:
    """Generate, print the result, and return the exit code: 0 whole, 1 unfinished, 130 interrupted."""
    source = wish.source()
    model = chosen_model(flags, console.configuration())
    from localmem.extracting import Asking, write

    try:
        compile_grammar(source, backend=wish.backend)  # what is wrong with it is said before a model is loaded
        console.ask_to_pull(model, Paths.default())
        with busy(f"loading {model.name}"):
            from localmem.engine.load import load_engine

            engine = load_engine(model, n_ctx=flags.n_ctx)
        try:
            asking = Asking(wish.max_tokens, flags.temp or 0.0, model.sampling.seed, wish.backend)
            with busy("writing"):
                done = write(engine, message, source, asking)
        finally:
            engine.close()
    except GrammarError as error:
        raise _located(error) from error
    if done.finish == "interrupted":
        return 130
    _print(done, source, engine.name, as_json=as_json)
    return _judge(done, wish)


def _located(error: GrammarError) -> GrammarError:
    """An error whose line names the JSON path of its cause."""
    text = str(error)
    named = error.path in ("", "$") or "$" in text
    return error if named else GrammarError(f"{error.path}: {text}", error.path)


def _print(done: Generation, source: Source, model: str, *, as_json: bool) -> None:
    is_document = isinstance(source, Json) and done.finish != "length"
    if as_json:
        result = json.loads(done.text, parse_float=_number) if is_document else done.text
        about = {"finish": done.finish, "closed_by": done.closed_by, "closed_paths": list(done.closed_paths)}
        console.print_json({"model": model, "result": result, **about, "stats": done.stats()})
    elif is_document:  # the same document, with what a terminal would obey written as escapes
        click.echo(_ANY_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", done.text))
    else:
        click.echo(console.strip_control(done.text))


def _number(literal: str) -> float | str:
    """A number, or its text if it is too large for one: JSON has no infinity."""
    value = float(literal)
    return value if math.isfinite(value) else literal


def _judge(done: Generation, wish: Wish) -> int:
    if done.finish == "length":
        complain(
            GrammarError(
                f"this is unfinished: {len(done.tokens)} tokens were not enough, and what is given with "
                f"--{wish.form} cannot be closed early; give it more with --max-tokens"
            )
        )
        return 1
    if done.finish == "closed":
        why = "it repeated itself" if done.closed_by == "loop" else f"--max-tokens {wish.max_tokens} was not enough"
        note(f"cut at {', '.join(done.closed_paths) or '$'}: {why}")
    return 0
