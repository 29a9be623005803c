"""What the KV cache spares: a scripted conversation of 50 turns under localmem's context and under two yardsticks.

    python -m benchmarks.kv [-m M] [--turns N] [--policies ours,memgpt,clock] [--samples S] [--out FILE] [--json]
    python -m benchmarks.kv --answers [-m M] [--sets N] [--out FILE]

What `localmem bench kv` measures: MemGPT 0.2.11's system message (`memgpt`: rebuilt at each edit of core memory and
each page-out, functions after core memory) and one with a clock and counters (`clock`: rebuilt every turn), with
longest-prefix reuse in all. Each turn is taken under every policy in turn; ratios are of medians and of 95th
percentiles. Every prompt token that was decoded counts as read, those read in idle time too. Then an agent with 2,000
tokens of context and a new one are opened, cold and from snapshots.

With --answers, 25 facts are saved and 25 questions asked under ours and memgpt, the model answering by itself.

With --out, each turn (or answer) is a line of JSON as soon as it is done, so that a run that is broken off counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.intervals import paired, wilson
from benchmarks.table import table
from localmem.bench.kv import N_CTX, Contest, Taken
from localmem.bench.kv_answers import COUNT, SETS, Answered, run_answers, scores
from localmem.bench.kv_figures import TIMES, figures
from localmem.bench.kv_policies import OURS, POLICIES
from localmem.bench.kv_reopen import KINDS, Openings, measure
from localmem.bench.kv_script import TURNS
from localmem.config import ModelConfig, load_config

Note = Callable[[Mapping[str, Any]], None]


def conversation(model: ModelConfig, options: argparse.Namespace, note: Note) -> dict[str, Any]:
    """The figures of the script under each policy; so far, if Ctrl-C breaks it off."""
    taken: list[Taken] = []

    def on_taken(one: Taken) -> None:
        taken.append(one)
        note(one.as_dict())

    with Contest(model, options.policies, n_ctx=options.n_ctx) as contest:
        settings = dict(contest.settings())
        try:
            contest.measure(options.turns, on_taken)
        except KeyboardInterrupt:
            settings["broken_off"] = True
    return {"benchmark": "kv", **settings, **figures(taken)}


def openings(model: ModelConfig, options: argparse.Namespace) -> dict[str, Any]:
    """What it costs to open an agent, cold and from snapshots; and a new one with the model's own preset and window."""
    with Openings(model, n_ctx=options.n_ctx) as prepared:
        found = {**prepared.prepare(options.context), **measure(prepared, options.samples)}
    with Openings(model, n_ctx=None, preset=options.preset or model.prompt) as prepared:
        shipped = prepared.prepare(1)
        return {**found, "as_shipped": {**shipped, **measure(prepared, options.samples, ("new",))}}


def answers(model: ModelConfig, options: argparse.Namespace, note: Note) -> dict[str, Any]:
    """How many questions each policy had right, over all sets of facts, and how sure their difference is."""
    found: list[Answered] = []
    settings: dict[str, Any] = {}

    def on_answer(one: Answered) -> None:
        found.append(one)
        note(one.as_dict())

    for which in range(options.sets):
        with Contest(model, options.policies, n_ctx=options.n_ctx) as contest:  # fresh agents
            settings = dict(contest.settings())
            run_answers(contest, which, options.facts, on_answer)
    return {"benchmark": "kv_answers", **settings, **scores(found), **_difference(found, options.policies)}


def _difference(found: Sequence[Answered], policies: Sequence[str]) -> dict[str, Any]:
    """Ours minus the other policy, over the same questions."""
    others = [policy for policy in policies if policy != OURS]
    if OURS not in policies or len(others) != 1:
        return {}
    ours, other = ([one.right for one in found if one.policy == policy] for policy in (OURS, others[0]))
    result = paired(ours, other)
    return {
        "ours_minus": others[0],
        "difference": round(result.difference, 4),
        "interval": [round(result.low, 4), round(result.high, 4)],
        "p": round(result.p, 4),
    }


# -- reports


def report(found: Mapping[str, Any]) -> str:
    """The tables of the conversation and the openings."""
    texts = "the same texts" if found["same_texts"] else "TEXTS THAT DIFFER"
    lines = [
        f"{found['model']}, n_ctx {found['n_ctx']}: {found['turns']} turns, {found['edits']} edits, "
        f"{found['page_outs']} page-outs, {texts} under each policy",
        "",
        table(["tokens", "prompt", "read", "of that idle", "prefix hit", "idle counted"], _token_rows(found)),
        "",
        table(["seconds to first token", *_TIME_HEAD], _time_rows(found)),
        "",
        table(["page-outs and edits", "page-out turn", "after page-out", "s", "after edit", "s"], _event_rows(found)),
    ]
    if found["ratios"]:
        lines += ["", table(["times ours", "read", *_TIME_HEAD], _ratio_rows(found))]
    if "opening" in found:
        lines += ["", _opening_report(found["opening"])]
    return "\n".join(lines)


_TIME_HEAD = tuple(f"{name} {key}" for name in TIMES for key in ("median", "p95"))


def _token_rows(found: Mapping[str, Any]) -> list[list[str]]:
    keys = ("prompt_tokens", "prefilled", "prefilled_idle", "prefix_hit", "prefix_hit_idle_counted")
    return [[name, *(str(own[key]) for key in keys)] for name, own in found["policies"].items()]


def _time_rows(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [name, *(f"{own['ttft'][time][key]:.3f}" for time in TIMES for key in ("median", "p95"))]
        for name, own in found["policies"].items()
    ]


def _event_rows(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [name, str(own["page_out_turn_prefilled"]), *_span(own["after_page_out"]), *_span(own["after_edit"])]
        for name, own in found["policies"].items()
    ]


def _span(cost: Mapping[str, Any]) -> list[str]:
    if not cost:
        return ["-", "-"]
    return ["{}-{}".format(*cost["tokens"]), "{:.2f}-{:.2f}".format(*cost["seconds"])]


def _ratio_rows(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            str(ratios["prefilled"]),
            *(str(ratios["ttft"][time][key]) for time in TIMES for key in ("median", "p95")),
        ]
        for name, ratios in found["ratios"].items()
    ]


def _opening_report(opening: Mapping[str, Any]) -> str:
    shipped = opening["as_shipped"]
    kinds = {kind: opening[kind] for kind in KINDS} | {f"new, {shipped['preset']}": shipped["new"]}
    keys = ("cache_s", "ready_s", "first_token_s")
    rows = []
    for kind, found in kinds.items():
        for how in ("cold", "ours"):
            own = found[how]
            rows.append([f"{kind}, {how}", str(own["prompt"]), *(f"{1000 * own[key]:.1f}" for key in keys)])
        rows.append([f"{kind}, cold / ours", "", *(str(found["ratios"][key]) for key in keys)])
    lines = [table(["opening, ms", "tokens", "cache", "cache ready", "first token"], rows), ""]
    lines.append(
        f"snapshots: {opening['context']} tokens {opening['conversation_bytes'] / 1e6:.1f} MB, static "
        f"{shipped['static_bytes'] / 1e6:.1f} MB; saved in {opening['save_ms']} ms"
    )
    return "\n".join(lines)


def answers_report(found: Mapping[str, Any]) -> str:
    """The scores, and the questions on which the policies differ."""
    rows = []
    for policy, right in found["right"].items():
        low, high = wilson(right, found["questions"])
        rows.append([policy, f"{right} of {found['questions']}", f"{100 * low:.0f}-{100 * high:.0f} %"])
    lines = [f"{found['model']}, n_ctx {found['n_ctx']}", "", table(["answers", "right", "95 %"], rows), ""]
    if "p" in found:
        low, high = found["interval"]
        lines.append(
            f"ours - {found['ours_minus']}: {found['difference']:+.3f} [{low:+.3f}, {high:+.3f}], p {found['p']}"
        )
    lines += [f"differ: set {one['set']}, {one['question']} {_sides(one)}" for one in found["differ"]]
    return "\n".join(lines)


def _sides(one: Mapping[str, Any]) -> str:
    return ", ".join(f"{policy} {'right' if one[policy] else 'wrong'}" for policy in POLICIES if policy in one)


# -- the command


def _policies(text: str) -> list[str]:
    given = text.split(",")
    if not set(given) <= set(POLICIES):
        raise argparse.ArgumentTypeError(f"the policies are {', '.join(POLICIES)}")
    return [policy for policy in POLICIES if policy in given]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-m", "--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--n-ctx", type=int, default=N_CTX, help=f"tokens of main context (default: {N_CTX})")
    parser.add_argument("--threads", type=int, default=0, help="default: what models.yaml says")
    parser.add_argument("--policies", type=_policies, help="some of ours,memgpt,clock (default: all; --answers: two)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"0 to {TURNS}; 0: only openings (default: {TURNS})")
    parser.add_argument("--samples", type=int, default=3, help="openings of each kind; 0: none (default: 3)")
    parser.add_argument("--context", type=int, default=2000, help="tokens of what is reopened (default: 2000)")
    parser.add_argument("--preset", help="of the new agent that is opened as shipped (default: what models.yaml says)")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each turn, or answer, to this file")
    parser.add_argument("--answers", action="store_true", help="score answers instead")
    parser.add_argument("--sets", type=int, default=1, choices=range(1, SETS + 1), help="sets of facts (default: 1)")
    parser.add_argument("--facts", type=int, default=COUNT, help=f"facts of a set (default: {COUNT})")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    options.policies = options.policies or list(POLICIES[:2] if options.answers else POLICIES)
    model = load_config().model(options.model)
    model = replace(model, threads=options.threads or model.threads)
    with ExitStack() as closing:
        file = closing.enter_context(options.out.open("a", encoding="utf-8")) if options.out else None

        def note(row: Mapping[str, Any]) -> None:
            if file is not None:
                print(json.dumps({"model": model.name, **row}, ensure_ascii=False), file=file, flush=True)

        if options.answers:
            found, shown = answers(model, options, note), answers_report
        else:
            found, shown = conversation(model, options, note) if options.turns else {"benchmark": "kv"}, report
            if options.samples and not found.get("broken_off"):
                found["opening"] = openings(model, options)
        note(found)
    if not options.json:
        print(shown(found) if options.answers or options.turns else _opening_report(found["opening"]), end="\n\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
