"""What a restart costs: an agent with some 2,000 tokens of context, and a new one, opened cold and from snapshots.

Each sample has a copy of one prepared folder, and an engine that is loaded and holds nothing of the prompt. Cold, the
folder has no snapshots. The system's own cache of files is warm in both. Measures; knows no policy but ours.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localmem.agent import Agent
from localmem.bench.kv import N_CTX, PRESET, open_in
from localmem.bench.kv_engine import Dictated
from localmem.bench.kv_script import Clock, script
from localmem.config import ModelConfig, Paths
from localmem.engine.load import load_engine
from localmem.events import write_call

TOKENS = 2000
KINDS = ("reopened", "new")
_AGENT, _NEW = "kv", "new"
_QUESTION = "Good evening! Do you remember what we spoke about?"
_ANSWER = write_call("Answer.", "send_message", {"message": "Of course I do."})
_SNAPSHOTS = "*.kv"


@dataclass(frozen=True, slots=True)
class Opened:
    """One opening. Seconds: `open_s` of open_agent, `ready_s` until the whole prompt is in the KV cache.

    `cache_s` is what the KV cache took of that, restored or prefilled. `first_token_s` runs from the beginning of the
    opening to the first token of the answer to a message that is sent at once. `prompt` are the tokens at the opening,
    `read` those that had to be prefilled for that.
    """

    open_s: float
    cache_s: float
    ready_s: float
    first_token_s: float
    prompt: int
    read: int


class Openings:
    """One engine and the folders of the samples. Use it as a context manager.

    `n_ctx` None is what models.yaml says.
    """

    def __init__(self, model: ModelConfig, *, n_ctx: int | None = N_CTX, preset: str = PRESET) -> None:
        with ExitStack() as undo:
            self._root = Path(undo.enter_context(tempfile.TemporaryDirectory()))
            self._engine = load_engine(model, n_ctx=n_ctx)
            undo.callback(self._engine.close)
            self._closing = undo.pop_all()
        self._clock, self._preset = Clock(), preset
        self._samples = 0

    def __enter__(self) -> Openings:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def interrupt(self) -> None:
        """Stop what is being generated."""
        self._engine.interrupt()

    # -- what is prepared

    def prepare(self, tokens: int = TOKENS) -> dict[str, Any]:
        """Talk until main context has so many tokens, for a turn at least, and close; what the snapshots then are."""
        dictated = self._dictated()
        with self._open(self._root / "made", _AGENT, dictated) as agent:
            for turn in script():
                self._clock.turn = turn.number
                dictated.calls.extend(call for call in turn.answers if "_search" not in call)
                list(agent.send(turn.user))
                agent.idle()
                dictated.wait()
                if agent.context.tokens >= tokens:
                    break
            held = agent.context.tokens
        about = {"preset": self._preset, "n_ctx": self._engine.n_ctx, "context": held}
        return {**about, "save_ms": [_ms(seconds) for seconds in dictated.moved["save"]], **self._files()}

    def _files(self) -> dict[str, Any]:
        """The sizes of the snapshots, in bytes."""
        files = sorted((self._root / "made").rglob(_SNAPSHOTS))
        agents = Paths.under(self._root / "made").agents
        sizes = {True: 0, False: 0}
        for file in files:
            sizes[agents in file.parents] += file.stat().st_size
        return {"conversation_bytes": sizes[True], "static_bytes": sizes[False]}

    def _dictated(self) -> Dictated:
        return Dictated(self._engine, lambda offered: offered[0])

    def _open(self, home: Path, name: str, dictated: Dictated) -> Agent:
        return open_in(home, name, dictated, self._clock, self._preset)

    # -- samples

    def sample(self, kind: str, *, cold: bool) -> Opened:
        """One opening: the prepared agent ("reopened"), or a new one with the shipped persona and human ("new")."""
        name = _AGENT if kind == "reopened" else _NEW
        with self._copy(cold) as home:
            ready = self._to_ready(home, name)
        with self._copy(cold) as home:
            return replace(ready, first_token_s=self._to_first_token(home, name))

    @contextmanager
    def _copy(self, cold: bool) -> Iterator[Path]:
        """A copy of the prepared folder; cold, without its snapshots."""
        self._samples += 1
        home = self._root / f"sample-{self._samples}"
        shutil.copytree(self._root / "made", home)
        if cold:
            for file in home.rglob(_SNAPSHOTS):
                file.unlink()
        try:
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def _to_ready(self, home: Path, name: str) -> Opened:
        """Open, and let the engine prefill what was not restored, as in any generation."""
        dictated = self._forgetful()
        started = time.perf_counter()
        with self._open(home, name, dictated) as agent:
            open_s = time.perf_counter() - started
            prompt = agent.context.written
            restored_s, prefill_s, missing = sum(dictated.moved["restore"]), 0.0, dictated.missing(prompt)
            if missing:
                done = self._engine.generate(prompt, max_tokens=1, temperature=0.0)
                if done.finish == "interrupted":
                    raise KeyboardInterrupt
                prefill_s = done.ttft_s
        return Opened(open_s, restored_s + prefill_s, open_s + prefill_s, 0.0, len(prompt), missing)

    def _to_first_token(self, home: Path, name: str) -> float:
        """Seconds from the beginning of the opening to the first token of an answer."""
        dictated = self._forgetful()
        dictated.calls.append(_ANSWER)
        started = time.perf_counter()
        with self._open(home, name, dictated) as agent:
            list(agent.send(_QUESTION))
        return dictated.began_at[0] - started + dictated.generations[0][1].ttft_s

    def _forgetful(self) -> Dictated:
        """The engine, its KV cache without anything of any prompt."""
        other = self._engine.vocabulary.tokenize("Something else.")
        self._engine.generate(other, max_tokens=1)
        return self._dictated()


def measure(
    openings: Openings, samples: int, kinds: Sequence[str] = KINDS, on_sample: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Medians of `samples` openings of each kind, cold and from snapshots in turn, and their ratios; JSON-ready."""
    found: dict[str, dict[bool, list[Opened]]] = {kind: {True: [], False: []} for kind in kinds}
    for _ in range(samples):
        for kind, samples_of in found.items():
            for cold in (True, False):
                samples_of[cold].append(openings.sample(kind, cold=cold))
                on_sample()
    return {kind: _compared(both[True], both[False]) for kind, both in found.items()}


def _compared(cold: Sequence[Opened], ours: Sequence[Opened]) -> dict[str, Any]:
    medians = {"cold": _median(cold), "ours": _median(ours)}
    ratios = {
        name: round(medians["cold"][name] / medians["ours"][name], 1) if medians["ours"][name] else None
        for name in ("cache_s", "ready_s", "first_token_s")
    }
    return {**medians, "ratios": ratios}


def _median(samples: Sequence[Opened]) -> dict[str, float]:
    rows = [asdict(sample) for sample in samples]
    return {name: round(statistics.median(row[name] for row in rows), 5) for name in rows[0]}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
