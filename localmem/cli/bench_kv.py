"""localmem bench kv: what is read of each prompt, and what a restart costs, beside two other ways to lay out a context.

Shows what `localmem.bench.kv` measures: a bar on stderr (on a terminal), tables on stdout, or one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from localmem.cli import console
from localmem.cli.session import Flags, busy, chosen_model
from localmem.cli.turns import stoppable
from localmem.config import Paths

if TYPE_CHECKING:
    from localmem.bench.kv import Contest
    from localmem.bench.kv_reopen import Openings
    from localmem.config import ModelConfig

_POLICIES = ("ours", "memgpt", "clock")


@click.command()
@click.option("-m", "--model", metavar="MODEL", help="A name of `localmem models ls`, or a .gguf file.")
@click.option("--n-ctx", type=click.IntRange(min=4096), default=4096, show_default=True, help="Tokens of main context.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads; else as models.yaml says.")
@click.option("--turns", type=click.IntRange(1, 50), default=50, show_default=True, help="Turns of the conversation.")
@click.option("--policy", type=click.Choice(_POLICIES), multiple=True, help="Only this one; may be repeated.")
@click.option(
    "--samples", type=click.IntRange(min=0), default=3, show_default=True, help="Openings of each kind; 0: none."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON and nothing else.")
def kv(model: str | None, threads: int | None, as_json: bool, **options: Any) -> None:
    """What is read of each prompt, and how long you wait for it, turn by turn and after a restart.

    One scripted conversation, with edits of core memory and page-outs, is held under localmem's own context and under
    two others: memgpt rebuilds its system message at each edit and page-out, clock rebuilds one with the time in it at
    every turn. The model's answers are dictated, but really written. It takes minutes: clock reads some 80,000 tokens.
    """
    chosen = chosen_model(Flags(model=model), console.configuration())
    chosen = replace(chosen, threads=threads or chosen.threads)
    console.ask_to_pull(chosen, Paths.default())
    figures = {"benchmark": "kv", **_conversation(chosen, options)}
    if options["samples"]:
        figures["opening"] = _openings(chosen, options["n_ctx"], options["samples"])
    if as_json:
        click.echo(json.dumps(figures, ensure_ascii=False))
    else:
        _print(figures)


def _conversation(chosen: ModelConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    from localmem.cli.bench import progress

    policies = [policy for policy in _POLICIES if policy in (options["policy"] or _POLICIES)]
    with _contest(chosen, policies, options["n_ctx"]) as contest, stoppable(contest.interrupt) as check:
        from localmem.bench.kv_figures import figures

        done, total = 0, options["turns"] * len(policies)
        with progress("turns", check) as show:

            def on_taken(_: object) -> None:
                nonlocal done
                done += 1
                show(done, total)

            taken = contest.measure(options["turns"], on_taken)
        return {**contest.settings(), **figures(taken)}


@contextmanager
def _contest(chosen: ModelConfig, policies: Sequence[str], n_ctx: int) -> Iterator[Contest]:
    with busy(f"loading {chosen.name}"):
        from localmem.bench.kv import Contest

        contest = Contest(chosen, policies, n_ctx=n_ctx)
    with contest:
        yield contest


def _openings(chosen: ModelConfig, n_ctx: int, samples: int) -> dict[str, Any]:
    from localmem.cli.bench import progress

    with _reopening(chosen, n_ctx) as openings, stoppable(openings.interrupt) as check:
        from localmem.bench.kv_reopen import measure

        with busy("talking to an agent that is to be reopened"):
            prepared = openings.prepare()
        check()
        done, total = 0, 4 * samples
        with progress("openings", check) as show:

            def on_sample() -> None:
                nonlocal done
                done += 1
                show(done, total)

            return {**prepared, **measure(openings, samples, on_sample=on_sample)}


@contextmanager
def _reopening(chosen: ModelConfig, n_ctx: int) -> Iterator[Openings]:
    with busy(f"loading {chosen.name}"):
        from localmem.bench.kv_reopen import Openings

        openings = Openings(chosen, n_ctx=n_ctx)
    with openings:
        yield openings


# -- tables


def _print(figures: Mapping[str, Any]) -> None:
    click.echo(
        f"{figures['model']}, n_ctx {figures['n_ctx']}, {figures['turns']} turns, {figures['edits']} edits of core "
        f"memory, {figures['page_outs']} page-outs\n"
    )
    head = ("POLICY", "PREFIX HIT", "READ", "OF THAT IDLE", "FIRST TOKEN S", "P95", "READ BY A PAGE-OUT TURN")
    console.print_table([head, *(_policy_row(name, own) for name, own in figures["policies"].items())])
    if figures["ratios"]:
        click.echo("\ntimes ours")
        rows = [_ratio_row(name, ratios) for name, ratios in figures["ratios"].items()]
        console.print_table([("POLICY", "READ", "FIRST TOKEN", "P95"), *rows])
    if "opening" in figures:
        _print_openings(figures["opening"])


def _policy_row(name: str, own: Mapping[str, Any]) -> tuple[str, ...]:
    first = own["ttft"]["first"]
    times = (f"{first['median']:.3f}", f"{first['p95']:.3f}")
    paged_out = own["page_out_turn_prefilled"]
    read = (f"{own['prefix_hit']:.1%}", str(own["prefilled"]), str(own["prefilled_idle"]))
    return (name, *read, *times, "-" if paged_out is None else str(paged_out))


def _ratio_row(name: str, ratios: Mapping[str, Any]) -> tuple[str, ...]:
    first = ratios["ttft"]["first"]
    return (name, *(_times(value) for value in (ratios["prefilled"], first["median"], first["p95"])))


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _print_openings(opening: Mapping[str, Any]) -> None:
    size = f"a snapshot of {opening['conversation_bytes'] / 1e6:.0f} MB"
    click.echo(f"\nopening an agent with {opening['context']} tokens of context ({size}), and a new one")
    keys = ("cache_s", "ready_s", "first_token_s")
    rows = [
        (f"{kind}, {how}", *(f"{1000 * opening[kind][how][key]:.0f}" for key in keys))
        for kind in ("reopened", "new")
        for how in ("cold", "ours")
    ]
    console.print_table([("MILLISECONDS", "CACHE", "READY", "FIRST TOKEN"), *rows])
