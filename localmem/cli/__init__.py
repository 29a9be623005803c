"""The command line: `main` is the group, and its commands are imported only when they are invoked.

So `localmem --help` answers at once. Here, too, every error that an operator can act on becomes one line and an exit
code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from localmem.errors import LocalmemError

#: Command -> the module that holds it (under its own name), and what it does.
_COMMANDS = {
    "chat": ("localmem.cli.chat", "Talk to an agent."),
    "run": ("localmem.cli.run", "Take one turn without a terminal, or write text of a wanted form."),
    "agents": ("localmem.cli.agents", "List, show and remove agents."),
    "load": ("localmem.cli.load", "Give an agent documents to search."),
    "search": ("localmem.cli.search", "Search an agent's memory."),
    "kv": ("localmem.cli.kv", "List, check and remove what models have read already, saved on disk."),
    "bench": ("localmem.cli.bench", "Measure how fast your model writes, and that all it writes is valid."),
    "models": ("localmem.cli.models", "List, inspect, fetch and add models."),
    "doctor": ("localmem.cli.doctor", "Check this installation and say what to do about each problem."),
}


class _Main(click.Group):
    """A group that knows its commands by name, and turns errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = _COMMANDS[cmd_name][0]
        try:
            command: click.Command = getattr(importlib.import_module(module), cmd_name)
        except ModuleNotFoundError as error:
            if error.name == module:
                raise click.ClickException(f"this build of localmem has no `{cmd_name}`: install it again") from error
            raise click.ClickException(
                f"{error.name} is not installed: install localmem again with all it needs"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except LocalmemError as error:
            raise click.ClickException(" ".join(str(error).split())) from error
        except (KeyboardInterrupt, click.Abort):
            if sys.stderr.isatty():
                click.echo(err=True)  # the shell's prompt goes below the ^C
            ctx.exit(130)
        except BrokenPipeError:
            # Whoever read our output has enough. Python would flush what is left at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        return result


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        try:
            version = metadata.version("localmem")
        except metadata.PackageNotFoundError:
            version = "(a source folder that is not installed)"
        click.echo(f"localmem {version}")
        ctx.exit()


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--models",
    "models_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="A models.yaml to merge over yours, for this run.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def main(ctx: click.Context, models_file: Path | None) -> None:
    """A fully offline agent with long-term memory.

    A small open model runs on this machine and keeps what matters in its own files. Start with: localmem chat
    """
    ctx.obj = models_file
