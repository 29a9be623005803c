"""localmem bench: how fast the model writes on this machine, and whether every call it writes is valid.

Shows what `localmem.bench` measures: a bar on stderr (on a terminal), a table on stdout, or one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from localmem.cli import console
from localmem.cli.bench_kv import kv
from localmem.cli.session import Flags, busy, chosen_model, note
from localmem.cli.turns import stoppable
from localmem.config import Paths
from localmem.grammar.compile import BACKENDS

if TYPE_CHECKING:
    from localmem.config import ModelConfig
    from localmem.engine.llama import LlamaEngine

Command = TypeVar("Command", bound=Callable[..., Any])

_LONGEST_CALL = 160


@click.group()
def bench() -> None:
    """Measure your model on this machine: how fast it writes, whether all is valid, and what is never read twice."""


bench.add_command(kv)


def _model_options(command: Command) -> Command:
    options = [
        click.option("-m", "--model", metavar="MODEL", help="A name of `localmem models ls`, or a .gguf file."),
        click.option("--n-ctx", type=click.IntRange(min=0), metavar="N", help="Tokens of main context; 0: what fits."),
        click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads; else as models.yaml says."),
        click.option("--json", "as_json", is_flag=True, help="One line of JSON and nothing else."),
        click.option(
            "--functions",
            type=click.Path(path_type=Path),
            metavar="FILE.py",
            help="Offer the functions that it decorates with @localmem.function, too.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@contextmanager
def _loaded(
    model: str | None, n_ctx: int | None, threads: int | None
) -> Iterator[tuple[LlamaEngine, ModelConfig, Callable[[], None]]]:
    """The model, and what raises KeyboardInterrupt once Ctrl-C was pressed."""
    chosen = chosen_model(Flags(model=model), console.configuration())
    chosen = replace(chosen, threads=threads or chosen.threads)
    console.ask_to_pull(chosen, Paths.default())
    with busy(f"loading {chosen.name}"):
        from localmem.engine.load import load_engine

        engine = load_engine(chosen, n_ctx=n_ctx)
    try:
        with stoppable(engine.interrupt) as check:
            yield engine, chosen, check
    finally:
        engine.close()


def _functions(file: Path | None) -> list[Callable[..., Any]]:
    from localmem.bench.user_functions import functions_of

    return [] if file is None else functions_of(file)


@contextmanager
def progress(what: str, check: Callable[[], None]) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, on a terminal only; it is gone afterwards. Each step checks for Ctrl-C."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: check()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.stderr(), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            check()
            bar.update(task, completed=done, total=total)

        yield show


# -- throughput


@bench.command()
@_model_options
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Interleaved rounds.")
@click.option(
    "--tokens", type=click.IntRange(min=4), default=64, show_default=True, help="Tokens of each contender a round."
)
@click.option("--backend", type=click.Choice(BACKENDS), multiple=True, help="Only this backend; may be repeated.")
@click.option("--prompt", type=click.Choice(["compact", "fewshot"]), help="The prompt preset.")
def throughput(
    model: str | None, n_ctx: int | None, threads: int | None, as_json: bool, functions: Path | None, **options: Any
) -> None:
    """How fast the model writes: freely, and under the grammar of a function call, by each backend.

    All write behind the prompt of an agent's first call, in turn, so that a busy machine slows down all of them alike.
    Figures are medians over the rounds.
    """
    own = _functions(functions)
    with _loaded(model, n_ctx, threads) as (engine, chosen, check):
        from localmem.bench.first_call import first_request
        from localmem.bench.throughput import Throughput

        with busy("reading the prompt"):
            request = first_request(engine, options["prompt"] or chosen.prompt, longest=_LONGEST_CALL, functions=own)
            measured = Throughput(engine, request, options["backend"] or BACKENDS)
            prefill = measured.prefill_rate(2)
        check()
        with progress("writing", check) as show:
            result = measured.measure(options["rounds"], options["tokens"], show)
        figures = {
            "benchmark": "throughput",
            "rounds": options["rounds"],
            "tokens": options["tokens"],
            **measured.figures(result, measured.pairs()),
            "prefill": {"engine": round(prefill, 1)},
        }
    if as_json:
        click.echo(json.dumps(figures, ensure_ascii=False))
    else:
        _print_throughput(figures)


_PARTS = ("sampler", "validate", "mask", "forced", "closing")


def _print_throughput(figures: Mapping[str, Any]) -> None:
    click.echo(
        f"{figures['model']}, n_ctx {figures['n_ctx']}, {figures['threads']} thread(s), a prompt of "
        f"{figures['prompt_tokens']} tokens, {figures['rounds']} rounds of {figures['tokens']} tokens\n"
    )
    head = ("WRITING", "TOKENS/S", "FROM-TO", "TO FREE", "MS/SAMPLED TOKEN", "MS/ONE-TOKEN STEP", "FORCED", "BIND MS")
    console.print_table([head, *(_throughput_row(name, figures) for name in figures["decode"])])
    click.echo("\ninside the loop, microseconds: a call (median / 99th percentile), and the mean a sampled token")
    console.print_table([("WRITING", *(part.upper() for part in _PARTS)), *_inside_rows(figures["inside_us"])])
    click.echo(f"\nreading: {figures['prefill']['engine']:.0f} tokens/s")
    for name, longest in figures["shorter_strings"].items():
        click.echo(f"{name} ran a smaller grammar: strings of at most {longest} characters")
    for name, why in figures["left_out"].items():
        click.echo(console.strip_control(f"{name} was left out: {why}"))


def _throughput_row(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    slowest, fastest = figures["decode_from_to"][name]
    step = figures["one_token_step_ms"][name]
    row = (name, f"{figures['decode'][name]:.1f}", f"{slowest:.1f}-{fastest:.1f}")
    times = (f"{figures['sampled_token_ms'][name]:.2f}", "-" if step is None else f"{step:.2f}")
    if name not in figures["bind_ms"]:
        return (*row, "", *times, "", "")
    ratio, forced, bind = figures["ratios"][f"{name}/free"], figures["forced_share"][name], figures["bind_ms"][name]
    return (*row, f"{ratio:.2f}", *times, f"{forced:.0%}", f"{bind:.1f}")


def _inside_rows(inside: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, parts in inside.items():
        yield name, *(_spent(parts.get(part)) for part in _PARTS)


def _spent(part: Mapping[str, float] | None) -> str:
    return "-" if part is None else f"{part['p50_us']:.1f} / {part['p99_us']:.1f}  {part['us_a_token']:.0f}"


# -- validity


@bench.command()
@_model_options
@click.option("--calls", type=click.IntRange(min=1), default=200, show_default=True, help="How many calls.")
@click.option("--temp", "--temperature", "temp", type=click.FloatRange(0, 10), default=2.0, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Another run of chance.")
@click.option("--backend", type=click.Choice(BACKENDS), default="llguidance", show_default=True)
@click.option("--execute", is_flag=True, help="Really run them; else their arguments are only bound.")
@click.pass_context
def validity(ctx: click.Context, /, as_json: bool, functions: Path | None, **options: Any) -> None:
    """Whether every call that the model writes is valid, however hot it is and however few tokens it gets.

    Agents live at random in a temporary folder. Each call they ask for is written with a budget of its own, from the
    shortest legal document to 512 tokens, then parsed, held against its schema, and executed. Exits with 1 if any call
    is not valid.
    """
    if options["execute"] and functions is None:
        raise click.UsageError("--execute goes with --functions.")
    own = _functions(functions)
    with _loaded(options.pop("model"), options.pop("n_ctx"), options.pop("threads")) as (engine, _, check):
        from localmem.bench.validity import Plan, run_validity
        from localmem.bench.verdicts import verdict

        temperature = options.pop("temp")
        with progress("calls", check) as show:
            calls = run_validity(engine, Plan(temperature=temperature, functions=own, **options), show)
        settings = {"temperature": temperature, "seed": options["seed"], "backend": options["backend"]}
        figures = {"benchmark": "validity", "model": engine.name, "n_ctx": engine.n_ctx, **settings, **verdict(calls)}
    if as_json:
        click.echo(json.dumps(figures, ensure_ascii=False))
    else:
        _print_validity(figures, executed=options["execute"] or not own)
    ctx.exit(0 if figures["valid"] == figures["calls"] else 1)


_COUNTS = ("calls", "parsed", "fits", "complete", "executed", "handed_back", "raised", "failed")


def _print_validity(figures: Mapping[str, Any], *, executed: bool) -> None:
    click.echo(
        f"{figures['model']}, {figures['backend']}, temperature {figures['temperature']:g}, seed {figures['seed']}: "
        f"{figures['valid']} of {figures['calls']} calls are valid\n"
    )
    _print_counts("FUNCTION", [(name, counts) for name, counts in figures["by_function"].items()])
    click.echo()
    _print_counts("BUDGET", [(row["budget"], row) for row in figures["by_budget"]])
    click.echo("\nclosed: the budget or a loop ended it; handed back: cut, so the agent did not act on it")
    if not executed:
        note("your functions were not run, only their arguments bound; --execute runs them")
    for wrong in figures["wrong"]:
        line = f"{wrong['function']} in {wrong['budget']} tokens: {wrong['wrong']}: {wrong['text']}"
        click.echo(console.strip_control(" ".join(line.split())))


def _print_counts(title: str, groups: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    names = [name for name in _COUNTS if name not in ("raised", "failed") or any(group[name] for _, group in groups)]
    head = (title, *(name.replace("_", " ").upper() for name in names), "CLOSED")
    rows = [
        (name, *(str(group[count]) for count in names), str(group["closed_by_budget"] + group["closed_by_loop"]))
        for name, group in groups
    ]
    console.print_table([head, *rows])
