"""How fast one model reads and writes beside another: the bundled one as it runs beside the file that was fetched.

    python -m benchmarks.speed [--model M] [--against M] [--read N] [--tokens N] [--rounds R] [--threads T] [--json]

Each round, every model reads a prompt that its cache has nothing of, and writes freely behind it and behind twenty
tokens; which goes first changes from round to round. Both draw their prompts from the same numbers. Ratios are taken
within a round; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.table import table
from localmem.config import load_config
from localmem.engine.llama import LlamaEngine
from localmem.engine.load import load_engine

_FEW = 20  # tokens behind which writing is measured too
_ORDINARY = (1000, 40_000)  # token ids that are words, in a vocabulary that has as many
_TRIES = 20
MEASURES = ("prefill", "decode behind few", "decode behind many")

Rates = tuple[float, float, float]


def rates(engine: LlamaEngine, prompt: Sequence[int], tokens: int, seed: int) -> Rates | None:
    """Tokens a second: reading `prompt`, writing behind its first twenty tokens, and writing behind all of it.

    None if the model ended a text early.
    """
    few, many = (
        engine.generate(list(read), max_tokens=tokens, temperature=0.7, seed=seed)
        for read in (prompt[1 : 1 + _FEW], prompt)
    )
    if min(len(few.tokens), len(many.tokens)) < tokens:
        return None
    writing = [(len(done.tokens) - 1) / done.decode_s for done in (few, many)]
    return len(prompt) / many.ttft_s, writing[0], writing[1]


def interleaved(engines: Sequence[LlamaEngine], options: argparse.Namespace) -> list[list[Rates]]:
    """The rates of each round, in the order of the engines. Prompts behind which one ends early are left out."""
    rng, rounds = random.Random(1), list[list[Rates]]()
    first, last = _ORDINARY
    last = min(last, *(engine.vocabulary.size for engine in engines))
    for number in range(options.rounds * _TRIES):
        prompt = [rng.randrange(first, last) for _ in range(options.read)]
        order = rng.sample(range(len(engines)), len(engines))
        found = {at: rates(engines[at], prompt, options.tokens, number) for at in order}
        made = [rate for at in range(len(engines)) if (rate := found[at]) is not None]
        if len(made) == len(engines):
            rounds.append(made)
        if len(rounds) == options.rounds:
            return rounds
    raise SystemExit("The models end their texts too early to be measured; give fewer --tokens.")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    config = load_config()
    chosen = [config.model(name) for name in (options.model, options.against)]
    n_ctx = options.read + options.tokens + 64
    engines = [load_engine(replace(one, threads=options.threads or one.threads), n_ctx=n_ctx) for one in chosen]
    try:
        rounds = interleaved(engines, options)
    finally:
        for engine in engines:
            engine.close()
    figures = {
        "benchmark": "speed",
        "models": [one.name for one in chosen],
        "read": options.read,
        "tokens": options.tokens,
        "rounds": options.rounds,
        **summary(rounds),
    }
    if not options.json:
        print(report(figures))
    print(json.dumps(figures))


def summary(rounds: Sequence[Sequence[Rates]]) -> dict[str, Any]:
    """By measure: each model's median rate, and the median, least and greatest ratio of the first to the second."""
    found = {}
    for at, measure in enumerate(MEASURES):
        ratios = [one[at] / other[at] for one, other in rounds]
        found[measure] = {
            "rates": [
                round(statistics.median(each), 1) for each in zip(*([m[at] for m in r] for r in rounds), strict=True)
            ],
            "ratio": round(statistics.median(ratios), 3),
            "from": round(min(ratios), 3),
            "to": round(max(ratios), 3),
        }
    return {"measures": found}


def report(figures: dict[str, Any]) -> str:
    rows = [
        [
            measure,
            *(f"{rate:.0f}" for rate in found["rates"]),
            *(f"{found[key]:.2f}" for key in ("ratio", "from", "to")),
        ]
        for measure, found in figures["measures"].items()
    ]
    return table(["tokens/s", *figures["models"], "ratio", "from", "to"], rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--against", default="smollm2-135m-base", help="default: smollm2-135m-base")
    parser.add_argument("--read", type=int, default=600, help="tokens of a prompt (default: 600)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens to write (default: 48)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="default: what models.yaml says")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
