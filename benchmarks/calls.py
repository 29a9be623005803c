"""Calls of memory: how often a model calls the right function, with the right arguments, and answers with the value.

    python -m benchmarks.calls [--model M] [--set S] [--prompt P] [--turns N] [--out FILE [--resume]] [--json]

Agents live through scenarios: of the test set, whose texts and values no training has seen, and of prompts written by
hand. (Those are for reporting; choices are guided by `--set dev` and `--set messages`.) At each turn the model answers
by itself, greedily, under the agent's real grammar; its answer is judged (see `judging`) and taken back, and the
scenario goes on behind the right answer, so that every turn has a right history. Searches are real. With --out each
turn is a line of JSON, and --resume goes on where one ended; Ctrl-C ends a run with the figures of what was asked so
far.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.formats import earlier
from benchmarks.judging import Made, Verdict, judge
from benchmarks.scores import report, summary
from localmem.agent import Agent
from localmem.config import Paths, load_config
from localmem.engine.load import load_engine
from localmem.errors import GrammarError, LocalmemError
from localmem.events import Event, Kind
from localmem.memory.embedder import SentenceEmbedder
from localmem.models import locate_embedder
from localmem.prefix import PRESETS
from training import compose as composing
from training import texts as texts_of
from training.compose import compose
from training.handwritten import handwritten, messages
from training.quoting import Unfit
from training.recorder import Recorder
from training.scenario import Scenario, Turn

Row = dict[str, Any]

SETS = ("test", "handwritten")
#: Those that were not composed: prompts to report on, and messages to choose by.
_BY_HAND = {"handwritten": handwritten, "messages": messages}
#: Turns whose answer is a matter of taste, or only leads to the judged one.
_NOT_JUDGED = ("episode", "known fact", "before")


def scenarios(name: str, seed: int) -> Iterator[Scenario]:
    """Those of a set; of the composed ones there is no end."""
    if name in _BY_HAND:
        return iter(_BY_HAND[name]())
    return (compose(texts_of.load(name), number) for number in count(seed))


def is_judged(turn: Turn) -> bool:
    return turn.begins == "user" and turn.expected.kind not in _NOT_JUDGED


def ask_all(recorder: Recorder, chosen: Iterator[Scenario], done: set[tuple[str, int]]) -> Iterator[Row]:
    """Each judged turn, but for the (scenario, turn) in `done`. A scenario that does not go as it says ends there, and
    where that is because the agent's grammar has no room for the right answer, the turn counts as wrong."""
    for scenario in chosen:
        judged = [number for number, turn in enumerate(scenario.turns) if is_judged(turn)]
        if all((scenario.id, number) in done for number in judged):
            continue
        with recorder.opened(scenario) as agent:
            for number, turn in enumerate(scenario.turns[: judged[-1] + 1]):
                try:
                    if number in judged and (scenario.id, number) not in done:
                        yield {"scenario": scenario.id, "turn": number} | ask(recorder, agent, turn)
                    elif turn.calls or turn.begins == "warning":
                        recorder.take(agent, turn)
                except (Unfit, LocalmemError) as reason:
                    print(f"{scenario.id} ends at turn {number}: {reason}", file=sys.stderr)
                    is_new = number in judged and (scenario.id, number) not in done
                    if isinstance(reason, GrammarError) and is_new:
                        yield {"scenario": scenario.id, "turn": number} | refused(recorder, turn)
                    break


def ask(recorder: Recorder, agent: Agent, turn: Turn) -> Row:
    """The model's answer to one turn, and the verdict on it. KeyboardInterrupt if Ctrl-C ended its writing."""
    known = agent.core["human"].value.splitlines()
    events, seconds = recorder.tried(agent, turn)
    if any(event.details.get("interrupted") for event in events):
        raise KeyboardInterrupt
    made, reply = _made(events)
    verdict = judge(recorder.expected(turn), turn.text, made, reply, known)
    tokens = sum((event.stats or {}).get("generated_tokens", 0) for event in events)
    return _row(turn, made, verdict, reply) | {"tokens": tokens, "seconds": round(seconds, 3)}


def _row(turn: Turn, made: Sequence[Made], verdict: Verdict, reply: str | None) -> Row:
    return {
        "kind": turn.expected.kind,
        "message": turn.text,
        "expected": list(turn.expected.functions),
        "calls": [asdict(call) for call in made],
        "reply": reply,
        **judged(verdict),
        "tokens": None,
        "seconds": None,
    }


def refused(recorder: Recorder, turn: Turn) -> Row:
    """The verdict on a turn whose right answer the agent could not give."""
    return _row(turn, [], judge(recorder.expected(turn), turn.text, [], None), None)


def judged(verdict: Verdict) -> Row:
    """The parts of a verdict that were asked for, and what they come to."""
    return asdict(verdict) | {"quality": verdict.quality, "chain": verdict.chain}


def _made(events: Sequence[Event]) -> tuple[list[Made], str | None]:
    """The calls of a turn, each with the result as the model saw it, and the reply."""
    made: list[Made] = []
    reply = None
    for event in events:
        match event.kind:
            case Kind.CALL if event.call is not None and event.call.function != "send_message":
                made.append(Made(event.call.function, event.call.arguments))
            case Kind.RESULT if made:
                made[-1] = replace(made[-1], result=str(event.details.get("shown_text", event.text)))
            case Kind.ASSISTANT:
                reply = event.text
    return made, reply


# -- a run


def run(recorder: Recorder, options: argparse.Namespace, first: Row) -> Row:
    """Ask what has not been asked yet, writing each verdict down at once; then the figures of all."""
    if options.out is not None and options.out.exists() and not options.resume:
        raise SystemExit(f"{options.out} exists; give --resume to go on with it, or another --out.")
    before = earlier(options.out, first) if options.out is not None else []
    if options.out is not None and not options.out.exists():
        options.out.write_text(json.dumps(first) + "\n", encoding="utf-8")
    rows: list[Row] = []
    cut = False
    try:
        for name in SETS if options.set == "both" else (options.set,):
            old = [row for row in before if row["set"] == name][: options.turns]
            rows += old
            done = {(row["scenario"], row["turn"]) for row in old}
            asked = ask_all(recorder, scenarios(name, options.seed), done)
            begun = time.monotonic()
            for number, row in enumerate(islice(asked, options.turns - len(old)), len(old) + 1):
                rows.append(row := {"set": name, **row})
                if options.out is not None:
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                right = sum(row["chain"] for row in rows if row["set"] == name)
                print(f"{name}: {number} turns, {right} right, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    except KeyboardInterrupt:
        cut = True
        print("interrupted: the figures are of what was asked so far", file=sys.stderr)
    return {**first, "interrupted": cut, "sets": summary(rows)}


def head(recorder: Recorder, options: argparse.Namespace) -> Row:
    """The first line of a file of results: what a run that goes on with it must have in common."""
    return {
        "benchmark": "calls",
        "model": recorder.engine.name,
        "fingerprint": recorder.engine.fingerprint,
        "prompt": recorder.prompt,
        "quoting": recorder.quoting,
        "max_steps": options.max_steps,
        "seed": options.seed,
        "texts": _texts(),
    }


def _texts() -> str:
    """Says whether two runs asked the same."""
    folder = Path(composing.__file__).parent
    files = [*folder.glob("*.py"), *folder.glob("texts/[dt]e*/*.yaml"), folder / "handwritten.yaml"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    config, paths = load_config(options.models), Paths.default()
    chosen = config.model(options.model)
    prompt = options.prompt or chosen.prompt
    engine = load_engine(replace(chosen, threads=options.threads or chosen.threads), n_ctx=options.n_ctx)
    try:
        embedding = config.embedder(None)
        embedder = SentenceEmbedder(locate_embedder(embedding, paths), embedding.name)
        quoting = chosen.quoting if options.quoting is None else options.quoting
        recorder = Recorder(engine, embedder, prompt=prompt, quoting=quoting, max_steps=options.max_steps)
        figures = run(recorder, options, head(recorder, options))
    finally:
        engine.close()
    if not options.json:
        print(report(figures))
    print(json.dumps(figures))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--models", type=Path, help="a models.yaml that is merged over the others")
    parser.add_argument("--set", choices=[*SETS, "both", "dev", "messages"], default="both")
    parser.add_argument("--prompt", choices=PRESETS, help="the preset (default: what models.yaml says)")
    parser.add_argument("--quoting", action=argparse.BooleanOptionalAction, help="default: what models.yaml says")
    parser.add_argument("--turns", type=int, default=300, help="at most so many judged turns of a set (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the first composed scenario (default: 0)")
    parser.add_argument("--max-steps", type=int, default=4, help="calls of a turn (default: 4)")
    parser.add_argument("--n-ctx", type=int, default=8192, help="tokens of main context (default: 8192)")
    parser.add_argument("--threads", type=int, default=0, help="default: what models.yaml says")
    parser.add_argument("--out", type=Path, help="a file for each turn, a line of JSON each")
    parser.add_argument("--resume", action="store_true", help="go on with --out")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
