"""Opening an agent from the flags of the command line: what `chat` and `run` share, and which agents there are.

Knows flags and folders; nothing of what is said.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localmem.cli import console
from localmem.config import Config, ModelConfig, Paths, check_agent_name
from localmem.config.checks import did_you_mean
from localmem.errors import ConfigError

if TYPE_CHECKING:
    from localmem.agent import Agent

Command = TypeVar("Command", bound=Callable[..., Any])

AGENT_FILE = "agent.duckdb"


@dataclass(frozen=True, slots=True)
class Flags:
    """Which agent, on which model, and how. None is what models.yaml says."""

    agent: str = "default"
    model: str | None = None
    persona: str | None = None
    human: str | None = None
    n_ctx: int | None = None
    seed: int | None = None
    temp: float | None = None
    prompt: str | None = None

    @classmethod
    def take(cls, options: dict[str, Any]) -> Flags:
        """The flags out of a command's options, which lose them."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})


def agent_option(command: Command) -> Command:
    """The option -a of every command that is about one agent."""
    option = click.option("-a", "--agent", default="default", show_default=True, metavar="AGENT", help="The agent.")
    return option(command)


def agent_options(command: Command) -> Command:
    """The options that `Flags` holds."""
    options = [
        click.option("-m", "--model", metavar="MODEL", help="A name of `localmem models ls`, or a .gguf file."),
        click.option("--persona", metavar="NAME|FILE", help="Who a new agent is."),
        click.option("--human", metavar="NAME|FILE", help="What a new agent knows of you."),
        click.option("--n-ctx", type=click.IntRange(min=0), metavar="N", help="Tokens of main context; 0: what fits."),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Makes the sampling repeatable."),
        click.option(
            "--temp",
            "--temperature",
            "temp",
            type=click.FloatRange(0, 10),
            metavar="T",
            help="The temperature; 0: the likeliest.",
        ),
        click.option("--prompt", type=click.Choice(["compact", "fewshot"]), help="The prompt preset."),
    ]
    for option in reversed(options):
        command = option(command)
    return agent_option(command)


def chosen_model(flags: Flags, config: Config) -> ModelConfig:
    """The model that the flags name, sampled as they say."""
    model = config.model(flags.model)
    own = model.sampling
    temperature = own.temperature if flags.temp is None else flags.temp
    seed = own.seed if flags.seed is None else flags.seed
    return replace(model, sampling=replace(own, temperature=temperature, seed=seed))


def check_model(flags: Flags) -> None:
    """Raise what can be known to be wrong with a model without loading it; offers to fetch it if it is not here."""
    from localmem.models import read_gguf

    read_gguf(console.ask_to_pull(chosen_model(flags, console.configuration())))


def open_session(flags: Flags) -> Agent:
    """The agent, open. Offers to fetch a model that is not here. An agent that cannot be opened is not made."""
    config, paths = console.configuration(), Paths.default()
    model = chosen_model(flags, config)
    console.ask_to_pull(model, paths)
    if paths.agent_folder(flags.agent).exists() and (flags.persona or flags.human):
        note(f"{flags.agent} has its blocks already, so --persona and --human change nothing; in a chat, /block does")
    with busy(f"loading {model.name}"):
        from localmem.opening import Setting, open_agent

        setting = Setting(replace(config, models={**config.models, model.name: model}), paths)
        return open_agent(
            flags.agent,
            model=model.name,
            persona=flags.persona,
            human=flags.human,
            n_ctx=flags.n_ctx,
            prompt=flags.prompt,
            setting=setting,
        )


def embedder_is_missing() -> str | None:
    """The name of the embedder if it is not on this machine: then search is by keyword only."""
    from localmem.models import place

    embedder = console.configuration().embedder()
    return None if place(embedder.source, Paths.default()).exists() else embedder.name


def agent_names(paths: Paths) -> list[str]:
    """The agents there are, sorted."""
    if not paths.agents.is_dir():
        return []
    return sorted(folder.name for folder in paths.agents.iterdir() if (folder / AGENT_FILE).is_file())


def existing_agent(name: str, paths: Paths) -> Path:
    """The folder of an agent. ConfigError, naming those there are, if there is none of that name."""
    folder = paths.agent_folder(check_agent_name(name))
    if (folder / AGENT_FILE).is_file():
        return folder
    names = agent_names(paths)
    if not names:
        raise ConfigError(f"there is no agent {name!r}, nor any other yet: run: localmem chat -a {name}")
    hint = did_you_mean(name, names) or "."
    raise ConfigError(f"there is no agent {name!r}{hint} There are: {', '.join(names)}")


# -- the terminal


def is_terminal() -> bool:
    """Whether a person can be asked and shown something."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def note(text: str) -> None:
    """One line on stderr that is no error."""
    click.echo(click.style(console.strip_control(text), dim=True), err=True)


def complain(error: Exception) -> None:
    """An error in one line on stderr, as the group prints it, where the program goes on."""
    click.echo(click.style(f"Error: {console.strip_control(' '.join(str(error).split()))}", fg="red"), err=True)


@contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes long, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    with console.stderr().status(Text(text, style="dim")):
        yield


def tolerate_any_text() -> None:
    """What the terminal's encoding lacks is shown as '?', and what is no text is read as U+FFFD: neither is fatal."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
