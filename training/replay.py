"""Replay: what the model writes without an adapter, as records on which the adapter is to change nothing.

    python -m training.replay --out build/adapter/replay.npz

Drawn at temperature 1, so that it is what the model itself takes for ordinary text. Most of it is prose that goes on
from a beginning, the rest are answers in the chat template to what users say, alone. Seeded.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.protocols import Sampling
from training.lora import base_file
from training.recorder import Trace
from training.records import write
from training.texts import fill, load

_AS_IT_IS = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
_PROSE_TOKENS = 640
_ANSWER_TOKENS = 96
_BEGINNINGS = (
    "It was late in the afternoon when",
    "Dear Martha,\n\nthank you for your letter.",
    "The history of the town begins with",
    "To make the soup, first",
    "Scientists at the university have found that",
    "The most important thing to know about computers is",
    "“I don't believe you,” she said, and",
    "The new law, which comes into force next year,",
    "On the second day of our journey we",
    "There are three reasons why people",
    "In mathematics, a function is",
    "The old man who kept the lighthouse",
    "Yesterday evening the home team",
    "A good garden needs",
    "My grandmother always used to tell the story of how",
    "When you look at the night sky,",
)


def prose(engine: LlamaEngine, count: int, *, most: int = _PROSE_TOKENS) -> Iterator[Trace]:
    """Texts of at most so many tokens that go on from a beginning."""
    for number in range(count):
        beginning = engine.vocabulary.tokenize(_BEGINNINGS[number % len(_BEGINNINGS)])
        yield _trace(beginning, engine.generate(beginning, max_tokens=most, seed=number).tokens)


def answers(engine: LlamaEngine, count: int, *, most: int = _ANSWER_TOKENS) -> Iterator[Trace]:
    """What the model answers to users' talk, questions and requests, each a conversation of its own."""
    rng, texts, chat = random.Random("replay"), load("train"), engine.chat_format
    for number in range(count):
        item = rng.choice(texts["chat"])
        said = fill(rng.choice(item["say"]), texts.draw(item, rng))
        prompt = [*chat.message("user", said, first=True), *chat.opening]
        answer = engine.generate(prompt, max_tokens=most, seed=number)
        yield _trace(prompt, [*answer.tokens, *(chat.ending if answer.finish == "stop" else [])])


def _trace(prompt: Sequence[int], written: Sequence[int]) -> Trace:
    """A record in which all that was written counts."""
    start, end = len(prompt), len(prompt) + len(written)
    return Trace([*prompt, *written], [(start, end)], [*range(start, end)], [1.0] * len(written), [(start, "replay")])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.replay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prose", type=int, default=24, help="texts of prose (default: 24)")
    parser.add_argument("--answers", type=int, default=96, help="answers to talk (default: 96)")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    engine = LlamaEngine(base_file(), LlamaOptions(n_ctx=1024, sampling=_AS_IT_IS), name="base")
    try:
        traces = [*prose(engine, options.prose), *answers(engine, options.answers)]
    finally:
        engine.close()
    print(json.dumps(write(dict(enumerate([trace] for trace in traces)), options.out)))


if __name__ == "__main__":
    main()
