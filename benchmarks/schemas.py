"""MaskBench's schemas: how many compile, and whether a grammar's verdict on each instance is the right one.

    python -m benchmarks.schemas [--backend B] [--model M] [--limit N] [--data FOLDER] [--json]

A schema that is refused is counted with its cause. Of the others each instance is fed token by token, with the model's
own tokenizer, through the grammar (see `instances` for which of its texts). Wrong verdicts are an invalid instance that
is accepted, a valid one that is refused, and a mask or forced token that contradicts what the grammar then accepts.

The grammars run in a process of their own, which is ended if one schema takes longer than --seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.bfcl import data_folder
from benchmarks.instances import Reader
from benchmarks.table import table
from localmem.config import Paths, load_config
from localmem.engine.loading import LlamaOptions, load_model
from localmem.engine.vocabulary import LlamaVocabulary
from localmem.errors import GrammarError
from localmem.grammar.compile import BACKENDS, compile_grammar
from localmem.models import locate

Case = Mapping[str, Any]  # name, schema, tests: [{valid, data}]


@dataclass(slots=True)
class Figures:
    """What one backend did."""

    schemas: Counter[str] = field(default_factory=Counter)
    instances: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    compile_ms: list[float] = field(default_factory=list)
    mask_ms: list[float] = field(default_factory=list)


# -- in the process of its own


def serve(pipe: Connection, model: Path) -> None:
    """Answer (backend, masks, case) with a message for its compilation and one for each instance, then None."""
    vocabulary = LlamaVocabulary(load_model(model, LlamaOptions()))
    compile_grammar({"type": "null"}).bind(vocabulary)  # what is built once a vocabulary is in no schema's time
    pipe.send(None)
    while True:
        backend, masks, case = pipe.recv()
        for message in _judge(backend, masks, case, vocabulary):
            pipe.send(message)
        pipe.send(None)


def _judge(backend: Any, masks: int, case: Case, vocabulary: LlamaVocabulary) -> Iterator[dict[str, Any]]:
    started = time.perf_counter()
    try:
        grammar = compile_grammar(case["schema"], backend=backend)
        grammar.bind(vocabulary).mask()
    except GrammarError as error:
        yield {"refused": str(error)}
        return
    yield {"compile_ms": 1000 * (time.perf_counter() - started)}
    reader = Reader(grammar, vocabulary, case["schema"], masks=masks)
    for number, test in enumerate(case["tests"]):
        reading = reader.read(test["data"])
        yield {
            "instance": number,
            "valid": test["valid"],
            "accepted": reading.accepted,
            "reordered": reading.reordered,
            "undecided": reading.undecided,
            "text": reading.text,
            "mask_ms": reading.mask_ms,
            "complaints": reading.complaints,
        }


# -- here


class Judge:
    """The other process, started anew whenever a schema has hung it."""

    def __init__(self, model: Path, seconds: float) -> None:
        self._model, self._seconds = model, seconds
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(theirs, self._model), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(300):
            raise TimeoutError("The model could not be loaded within 300 s.")
        self._pipe.recv()

    def messages(self, backend: str, masks: int, case: Case) -> Iterator[dict[str, Any]]:
        """What `serve` says about one case; the last one is {"ended": why} if that did not come to its end."""
        deadline = time.monotonic() + self._seconds
        self._pipe.send((backend, masks, case))
        # A pipe that is asked for no time at all may still have an answer: that would be a race at the limit.
        while (left := deadline - time.monotonic()) > 0 and self._pipe.poll(left):
            try:
                message = self._pipe.recv()
            except EOFError:
                self.close()
                self._start()
                yield {"ended": "the process died"}
                return
            if message is None:
                return
            yield message
        self.close()
        self._start()
        yield {"ended": f"more than {self._seconds:g} s"}

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def measure(judge: Judge, backend: str, cases: Sequence[Case], masks: int) -> Figures:
    """All cases under one backend."""
    figures = Figures()
    for number, case in enumerate(cases):
        kind = "handwritten" if case["name"].startswith("Handwritten") else "other"
        figures.schemas[kind] += 1
        compiled = False
        for message in judge.messages(backend, masks, case):
            if "compile_ms" in message:
                compiled = True
                figures.schemas[f"{kind} compiled"] += 1
                figures.compile_ms.append(message["compile_ms"])
            elif "refused" in message:
                figures.causes[cause(message["refused"])] += 1
            elif "instance" in message:
                _count(figures, case["name"], message)
            elif compiled:
                figures.unread.append(f"{case['name']}: {message['ended']}")
            else:
                figures.causes[message["ended"]] += 1
        if number % 50 == 49:
            print(f"{backend}: {number + 1} of {len(cases)} schemas", file=sys.stderr)
    return figures


def _count(figures: Figures, name: str, message: Mapping[str, Any]) -> None:
    label = "valid" if message["valid"] else "invalid"
    verdict = "accepted" if message["accepted"] else "refused"
    figures.instances[f"{label} {verdict}"] += 1
    figures.instances["in another order or spelling"] += message["reordered"]
    figures.instances["not all texts tried"] += message["undecided"]
    figures.mask_ms += message["mask_ms"]
    what = list(message["complaints"])
    if message["valid"] != message["accepted"]:
        tried = ", not all texts tried" if message["undecided"] else ""
        what.insert(0, f"{label}, {verdict}{tried}: {message['text']}")
    figures.wrong += [{"case": name, "instance": message["instance"], "what": each[:300]} for each in what]


_KEYWORD = re.compile(r"^The keyword '([^']+)'|^(\S+) at \$.* cannot be enforced")
_OF_ALL = re.compile(r"^This schema cannot be enforced(?: at \$.*?)?: ")
_SPECIAL = re.compile(r"[:.]?\s*(?:/.*/|\(.*|\{.*|\[.*|\d+|; |\. ).*$")


def cause(message: str) -> str:
    """What kind of refusal it is: the keyword that is named, else the message without what is special in it."""
    keyword = _KEYWORD.search(message)
    if keyword:
        return keyword[1] or keyword[2]
    rest = _OF_ALL.sub("", message)
    if "nimplemented keys" in rest:
        return ", ".join(re.findall(r'"([^"]+)"', rest))
    return _SPECIAL.sub("", rest).rstrip(".")[:70]


def summary(backend: str, model: str, figures: Figures) -> dict[str, Any]:
    """JSON-ready; times in milliseconds."""
    schemas, others = figures.schemas, figures.schemas["other"]
    total = others + schemas["handwritten"]
    compiled = schemas["other compiled"] + schemas["handwritten compiled"]
    return {
        "benchmark": "schemas",
        "backend": backend,
        "model": model,
        "schemas": total,
        "compiled": compiled,
        "compiled_share": round(compiled / max(1, total), 4),
        "without_handwritten": others,
        "without_handwritten_compiled": schemas["other compiled"],
        "without_handwritten_share": round(schemas["other compiled"] / max(1, others), 4),
        "instances": dict(sorted(figures.instances.items())),
        "wrongly_accepted": figures.instances["invalid accepted"],
        "wrongly_refused": figures.instances["valid refused"],
        "wrong": figures.wrong,
        "unread": figures.unread,
        "causes": dict(figures.causes.most_common()),
        "compile_ms": _quantiles(figures.compile_ms),
        "mask_ms": _quantiles(figures.mask_ms),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {name: round(value, 3) for name, value in zip(("p50", "p99", "max"), list(values) * 3, strict=False)}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3), "max": round(max(values), 3)}


def report(figures: Mapping[str, Any]) -> str:
    """Tables for a reader."""
    rows = [
        ["all schemas", str(figures["schemas"]), str(figures["compiled"]), f"{figures['compiled_share']:.1%}"],
        [
            "without the Handwritten ones",
            str(figures["without_handwritten"]),
            str(figures["without_handwritten_compiled"]),
            f"{figures['without_handwritten_share']:.1%}",
        ],
    ]
    verdicts = [[name, str(count)] for name, count in figures["instances"].items()]
    times = [[name, *(f"{ms:.2f}" for ms in figures[name].values())] for name in ("compile_ms", "mask_ms")]
    wrong = [f"  {one['case']} {one.get('instance', '')}: {one['what']}" for one in figures["wrong"]]
    return "\n".join(
        [
            table([f"{figures['backend']}, {figures['model']}", "schemas", "compiled", "share"], rows),
            "",
            table(["instances of those compiled", "count"], verdicts),
            "",
            table(["time", "p50", "p99", "max"], [row for row in times if len(row) == 4]),
            "",
            table(["refused for", "schemas"], [[name, str(count)] for name, count in figures["causes"].items()]),
            "",
            f"wrong verdicts: {len(wrong)}",
            *wrong,
            *(f"not read to the end: {one}" for one in figures["unread"]),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schemas", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backend", choices=[*BACKENDS, "all"], default=BACKENDS[0])
    parser.add_argument("--model", help="whose tokenizer: a name of models.yaml or a GGUF file")
    parser.add_argument("--data", help="the folder of cases.jsonl (default: ../shared/data/jsonschema)")
    parser.add_argument("--limit", type=int, help="only so many schemas, spread over all")
    parser.add_argument(
        "--masks", type=int, default=4, help="positions of a text where the mask is checked (default: 4)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for one schema (default: 60)")
    parser.add_argument("--json", action="store_true", help="print the lines of JSON alone")
    options = parser.parse_args(arguments)
    path = data_folder("jsonschema", options.data) / "cases.jsonl"
    if not path.is_file():
        print(f"skipped: there is no {path} (--data names another folder)")
        return
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cases = cases[:: max(1, len(cases) // options.limit)][: options.limit] if options.limit else cases
    chosen = load_config().model(options.model)
    judge = Judge(locate(chosen, Paths.default()), options.seconds)
    try:
        for backend in BACKENDS if options.backend == "all" else [options.backend]:
            figures = summary(backend, chosen.name, measure(judge, backend, cases, options.masks))
            if not options.json:
                print(report(figures), end="\n\n")
            print(json.dumps(figures))
    finally:
        judge.close()


if __name__ == "__main__":
    main()
