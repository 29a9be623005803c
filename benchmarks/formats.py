"""Call formats on BFCL: how often a call is right, constrained or free, thinking first or not, in JSON or natively.

    python -m benchmarks.formats [--model M] [--suite S] [--cases N] [--ways W,W] [--out FILE [--resume]] [--json]

Each case is asked in every way (see `asking`), greedily, and the call compared with BFCL's answer as BFCL does it (see
`bfcl`). A free text is searched for its first call, code fences and words around it tolerated, and is stopped there; of
a constrained one the text is the call. With --out each result is a line of JSON, and --resume goes on where one ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.asking import PAIRS, PROMPTS, WAYS, Way
from benchmarks.bfcl import SUITES, Case, data_folder, load_cases, mismatch
from benchmarks.intervals import paired, wilson
from benchmarks.table import table
from localmem.config import load_config
from localmem.engine.load import load_engine
from localmem.errors import GrammarError
from localmem.protocols import Engine

Row = dict[str, Any]


def ask(engine: Engine, case: Case, way: Way, max_tokens: int) -> Row:
    """One case in one way: what was written, what could be read, and BFCL's verdict."""
    started = time.perf_counter()
    chat, written = engine.chat_format, [""]

    def watch(piece: str) -> None:
        written[0] += piece
        if any(end in piece for end in "}])>") and way.read(written[0], chat).call is not None:
            engine.interrupt()

    row: Row = {"id": case.id, "suite": case.suite, "way": way.name}
    try:
        done = engine.generate(
            way.prompt(case, chat),
            constraint=way.grammar(case, chat),
            max_tokens=max_tokens,
            temperature=0.0,
            on_text=watch if way.free else None,
        )
    except GrammarError as refusal:
        return row | {"right": False, "error": "refused", "text": str(refusal), "form": "none"}
    answer = way.read(done.text, chat)
    error = "no call" if answer.call is None else mismatch(case, [answer.call])
    return row | {
        "right": error is None,
        "error": error,
        "form": answer.form,
        "renamed": answer.renamed,
        "text": done.text,
        "finish": done.finish,
        "closed_by": done.closed_by,
        "tokens": len(done.tokens),
        "prompt_tokens": done.prompt_tokens,
        "reused_tokens": done.reused_tokens,
        "seconds": round(time.perf_counter() - started, 3),
    }


def ask_all(
    engine: Engine, cases: Sequence[Case], ways: Sequence[Way], max_tokens: int, done: set[Any]
) -> Iterator[Row]:
    """Every case in every way, but for the (id, way) in `done`."""
    begun = time.monotonic()
    for number, case in enumerate(cases):
        for way in ways:
            if (case.id, way.name) not in done:
                yield ask(engine, case, way, max_tokens)
        print(f"{number + 1} of {len(cases)} cases, {time.monotonic() - begun:.0f} s", file=sys.stderr)


# -- the file of results


def head(model: str, max_tokens: int) -> Row:
    """The first line of a file of results: what a run that goes on with it must have in common."""
    return {
        "benchmark": "formats",
        "model": model,
        "max_tokens": max_tokens,
        "prompts": PROMPTS,
    }


def earlier(path: Path, first: Row) -> list[Row]:
    """The results in `path`, whose last line may be half; none if there is no such file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if not rows or rows[0] != first:
        raise SystemExit(f"{path} is of another model, other options or other prompts; give another --out.")
    path.write_text("".join(line for line in lines if line.endswith("\n")), encoding="utf-8")
    return rows[1:]


# -- figures


def summary(model: str, rows: Sequence[Row], ways: Sequence[str]) -> Row:
    """JSON-ready. Shares of all cases asked in a way; times are medians of seconds a call."""
    suites = [suite for suite in SUITES if any(row["suite"] == suite for row in rows)]
    parts = {"both": suites} if len(suites) > 1 else {}
    parts |= {suite: [suite] for suite in suites}
    return {
        "benchmark": "formats",
        "model": model,
        "accuracy": {part: {way: _accuracy(_of(rows, way, within)) for way in ways} for part, within in parts.items()},
        "pairs": {
            part: {
                f"{a} - {b}": _pair(_of(rows, a, within), _of(rows, b, within)) for a, b in PAIRS if {a, b} <= set(ways)
            }
            for part, within in parts.items()
        },
    }


def _of(rows: Sequence[Row], way: str, suites: Sequence[str]) -> list[Row]:
    return [row for row in rows if row["way"] == way and row["suite"] in suites]


def _accuracy(rows: Sequence[Row]) -> Row:
    right, count = sum(row["right"] for row in rows), len(rows)
    errors = [row["error"] or "" for row in rows]
    return {
        "cases": count,
        "right": right,
        "share": round(right / max(1, count), 4),
        "interval": [round(end, 4) for end in wilson(right, count)],
        "no_call": sum(error in ("no call", "refused") for error in errors),
        "wrong_function": sum(error.endswith("wrong_func_name") for error in errors),
        "wrong_arguments": sum(":" in error and not error.endswith("wrong_func_name") for error in errors),
        "not_whole": sum(row["form"] in ("fenced", "found") for row in rows),
        "renamed": sum(row.get("renamed", False) for row in rows),
        "cut": sum(row.get("finish") in ("length", "closed") for row in rows),
        "tokens": round(sum(row.get("tokens", 0) for row in rows) / max(1, count), 1),
        "seconds": round(sum(row.get("seconds", 0.0) for row in rows) / max(1, count), 2),
    }


def _pair(first: Sequence[Row], second: Sequence[Row]) -> Row:
    others = {row["id"]: row["right"] for row in second}
    both = [(row["right"], others[row["id"]]) for row in first if row["id"] in others]
    found = paired([a for a, _ in both], [b for _, b in both])
    return {
        "cases": found.count,
        "difference": round(found.difference, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
        "gained": found.gained,
        "lost": found.lost,
        "mcnemar_p": round(found.p, 4),
    }


def report(figures: Mapping[str, Any]) -> str:
    """Two tables for each suite, and for both together."""
    lines = []
    for part, ways in figures["accuracy"].items():
        rows = [
            [
                way,
                f"{one['right']}/{one['cases']}",
                f"{one['share']:.1%}",
                "{:.1%} to {:.1%}".format(*one["interval"]),
                *(str(one[name]) for name in ("no_call", "wrong_function", "wrong_arguments", "not_whole", "cut")),
                f"{one['tokens']:.0f}",
                f"{one['seconds']:.1f}",
            ]
            for way, one in ways.items()
        ]
        columns = ["right", "share", "95 %", "no call", "function", "arguments", "not whole", "cut", "tokens", "s"]
        lines += [table([f"{figures['model']}, {part}", *columns], rows), ""]
        differences = [
            [
                pair,
                f"{one['difference']:+.1%}",
                "{:+.1%} to {:+.1%}".format(*one["interval"]),
                f"{one['gained']}/{one['lost']}",
                f"{one['mcnemar_p']:.3f}",
            ]
            for pair, one in figures["pairs"][part].items()
        ]
        if differences:
            lines += [table(["the same cases", "difference", "95 %", "gained/lost", "McNemar p"], differences), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    folder = data_folder("bfcl", options.data)
    if not folder.is_dir():
        print(f"skipped: there is no {folder} (--data names another folder)")
        return
    suites = SUITES if options.suite == "both" else [options.suite]
    listed = [load_cases(folder, suite, options.cases) for suite in suites]
    cases = [case for case in chain(*zip_longest(*listed)) if case is not None]
    chosen = load_config().model(options.model)
    engine = load_engine(replace(chosen, threads=options.threads or chosen.threads), n_ctx=options.n_ctx)
    try:
        figures = run(engine, cases, options)
    finally:
        engine.close()
    if not options.json:
        print(report(figures))
    print(json.dumps(figures))


def run(engine: Engine, cases: Sequence[Case], options: argparse.Namespace) -> Row:
    """Ask what has not been asked yet, writing each result down at once; then the figures of all."""
    ways = [way for way in options.ways if WAYS[way].offered(engine.chat_format)]
    for way in set(options.ways) - set(ways):
        print(f"left out: {way}; the model's chat template presents no functions", file=sys.stderr)
    first = head(engine.name, options.max_tokens)
    if options.out is not None and options.out.exists() and not options.resume:
        raise SystemExit(f"{options.out} exists; give --resume to go on with it, or another --out.")
    rows = earlier(options.out, first) if options.out is not None else []
    wanted = {(case.id, way) for case in cases for way in ways}
    rows = [row for row in rows if (row["id"], row["way"]) in wanted]
    done = {(row["id"], row["way"]) for row in rows}
    if options.out is not None and not options.out.exists():
        options.out.write_text(json.dumps(first) + "\n", encoding="utf-8")
    for row in ask_all(engine, cases, [WAYS[way] for way in ways], options.max_tokens, done):
        rows.append(row)
        if options.out is not None:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    return summary(engine.name, rows, ways)


def _ways(given: str) -> list[str]:
    ways = given.split(",")
    if not set(ways) <= set(WAYS):
        raise argparse.ArgumentTypeError(f"ways are: {', '.join(WAYS)}")
    return [way for way in WAYS if way in ways]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--suite", choices=[*SUITES, "both"], default="both")
    parser.add_argument("--cases", type=int, default=200, help="of each suite (default: 200)")
    parser.add_argument("--ways", type=_ways, default=list(WAYS), help=f"some of {','.join(WAYS)} (default: all)")
    parser.add_argument("--data", help="the folder of BFCL's files (default: ../shared/data/bfcl)")
    parser.add_argument("--max-tokens", type=int, default=160, help="of one answer (default: 160)")
    parser.add_argument("--n-ctx", type=int, default=4096, help="tokens of main context (default: 4096)")
    parser.add_argument("--threads", type=int, default=0, help="default: what models.yaml says")
    parser.add_argument("--out", type=Path, help="a file for each result, a line of JSON each")
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
