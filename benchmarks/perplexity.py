"""General chat: how well a model reads ordinary prose, and how many plain questions it answers, without any memory.

    python -m benchmarks.perplexity [--model M] [--against M2] [--json]

Perplexity is of `prose.txt`, in windows of --window tokens, each read from its beginning; the first half of a window is
only read, so that every token that counts has that much before it. Questions are asked in the model's chat template,
alone, and answered greedily; an answer is right if it contains the word. With --against (the model without an adapter)
both are measured, and the ratio of the perplexities says what the adapter cost.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.intervals import wilson
from benchmarks.judging import says
from benchmarks.table import table
from localmem.config import ModelConfig, Paths, load_config
from localmem.engine.llama import LlamaEngine
from localmem.engine.load import load_engine
from localmem.engine.loading import LlamaOptions, apply_adapter, load_model, new_context
from localmem.models import locate

Row = dict[str, Any]

PROSE = Path(__file__).parent / "prose.txt"
_ANSWER_TOKENS = 64
_AT_ONCE = 128  # tokens of a batch, each with its logits

#: A plain question and the word of its answer; "a|b" is either.
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Germany?", "Berlin"),
    ("In which country is the city of Madrid?", "Spain"),
    ("On which continent is Egypt?", "Africa"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("What is the longest river in Africa?", "Nile"),
    ("Which planet is closest to the Sun?", "Mercury"),
    ("Which planet is known as the Red Planet?", "Mars"),
    ("What is the largest planet in the solar system?", "Jupiter"),
    ("What do bees make?", "honey"),
    ("What gas do plants take in from the air?", "carbon dioxide|CO2"),
    ("What is frozen water called?", "ice"),
    ("What is the chemical symbol for gold?", "Au"),
    ("What is the chemical formula of water?", "H2O|H₂O"),
    ("At how many degrees Celsius does water boil?", "100"),
    ("How many days are there in a week?", "7|seven"),
    ("How many months are there in a year?", "12|twelve"),
    ("How many legs does a spider have?", "8|eight"),
    ("How many sides does a triangle have?", "3|three"),
    ("What is 2 plus 3?", "5|five"),
    ("What is 10 minus 4?", "6|six"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo|Vinci"),
    ("Who was the first person to walk on the Moon?", "Armstrong"),
    ("What is the opposite of hot?", "cold"),
    ("What colour do you get when you mix blue and yellow?", "green"),
    ("What is the name for a baby dog?", "puppy|pup"),
    ("Which organ pumps blood through the body?", "heart"),
)


class Reader:
    """A context of its own on a model's file, read with the logits of every token."""

    def __init__(self, path: Path, options: LlamaOptions, window: int) -> None:
        self.window = window
        options = replace(options, n_ctx=window, reads_ahead=False)
        self._model = load_model(path, options)
        self._context, _ = new_context(self._model, path, options)
        apply_adapter(self._model, self._context, options)
        self._batch = llama_cpp.llama_batch_init(_AT_ONCE, 0, 1)
        self._size = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model)))

    def losses(self, tokens: Sequence[int]) -> list[float]:
        """The negative log-likelihood of each token but the first, given those before it."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        found: list[float] = []
        for start in range(0, len(tokens) - 1, _AT_ONCE):
            logits = self._logits(tokens[start : start + _AT_ONCE], start)
            following = tokens[start + 1 : start + 1 + len(logits)]
            logits = logits[: len(following)]
            highest = logits.max(axis=1, keepdims=True)
            total = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
            found += (total - logits[np.arange(len(following)), list(following)]).tolist()
        return found

    def _logits(self, tokens: Sequence[int], position: int) -> NDArray[np.float64]:
        """Decode `tokens` at `position`: a row of logits for each."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position + i, 1, 1
            batch.seq_id[i][0] = 0
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, shape=(len(tokens), self._size)).astype(np.float64)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


def perplexity(reader: Reader, tokens: Sequence[int]) -> Row:
    """Of a text's tokens: their mean negative log-likelihood in nats, and what that comes to."""
    losses: list[float] = []
    half = reader.window // 2
    for start in range(0, max(1, len(tokens) - half), half):
        found = reader.losses(tokens[start : start + reader.window])
        losses += found if start == 0 else found[half - 1 :]  # those before were counted in the last window
    mean = math.fsum(losses) / len(losses)
    return {"tokens": len(losses), "nats": round(mean, 4), "perplexity": round(math.exp(mean), 3)}


def answers(engine: LlamaEngine) -> list[Row]:
    """The model's answer to each plain question, in its own chat template and with nothing else."""
    chat, rows = engine.chat_format, []
    for question, word in QUESTIONS:
        prompt = [*chat.message("user", question, first=True), *chat.opening]
        said = engine.generate(prompt, max_tokens=_ANSWER_TOKENS, temperature=0.0)
        if said.finish == "interrupted":
            raise KeyboardInterrupt
        rows.append({"question": question, "answer": said.text, "right": says(word, said.text)})
    return rows


def measure(chosen: ModelConfig, window: int) -> Row:
    """Both figures of one model."""
    engine = load_engine(chosen, n_ctx=window)
    try:
        path = locate(chosen, Paths.default())
        bos = [] if engine.vocabulary.bos is None else [engine.vocabulary.bos]
        reader = Reader(path, engine.options, window)
        try:
            read = perplexity(reader, [*bos, *engine.vocabulary.tokenize(PROSE.read_text(encoding="utf-8"))])
        finally:
            reader.close()
        print(f"{chosen.name}: perplexity {read['perplexity']}", file=sys.stderr)
        said = answers(engine)
    finally:
        engine.close()
    right = sum(row["right"] for row in said)
    low, high = wilson(right, len(said))
    return {
        "model": chosen.name,
        **read,
        "questions": len(said),
        "right": right,
        "interval": [round(low, 4), round(high, 4)],
        "wrong": [row for row in said if not row["right"]],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    config = load_config(options.models)
    names = [options.model, *([options.against] if options.against else [])]
    chosen = [replace(model, threads=options.threads or model.threads) for model in map(config.model, names)]
    measured = [measure(model, options.window) for model in chosen]
    figures: Row = {"benchmark": "perplexity", "window": options.window, "models": measured}
    if len(measured) == 2:
        figures["ratio"] = round(math.exp(measured[0]["nats"] - measured[1]["nats"]), 4)
    if not options.json:
        print(report(figures))
    print(json.dumps(figures))


def report(figures: Row) -> str:
    """A table, and the ratio of two perplexities."""
    rows = [
        [
            one["model"],
            str(one["tokens"]),
            f"{one['perplexity']:.2f}",
            f"{one['right']}/{one['questions']}",
            "{:.0%} to {:.0%}".format(*one["interval"]),
        ]
        for one in figures["models"]
    ]
    lines = [table(["model", "tokens", "perplexity", "questions right", "95 %"], rows)]
    if "ratio" in figures:
        lines.append(f"perplexity, the first to the second: {figures['ratio']:.3f}")
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perplexity", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a name of models.yaml or a GGUF file (default: the default model)")
    parser.add_argument("--against", help="a second one to compare with")
    parser.add_argument("--models", type=Path, help="a models.yaml that is merged over the others")
    parser.add_argument("--window", type=int, default=1024, help="tokens read at a time (default: 1024)")
    parser.add_argument("--threads", type=int, default=0, help="default: what models.yaml says")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
