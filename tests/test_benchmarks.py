"""The benchmarks run from end to end and end with one line of JSON. Their figures are not tested: LOG.md has those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed, throughput
from benchmarks.table import table
from localmem.grammar.compile import BACKENDS

ROWS = [["raw", "99.1"], ["localmem, free", "7.25"]]


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], dict[str, Any]]:
    """What came before the last line, and that line as JSON."""
    *lines, last = capsys.readouterr().out.splitlines()
    return lines, json.loads(last)


def test_columns_are_aligned() -> None:
    assert table(["decode", "tokens/s"], ROWS).split("\n") == [
        "decode          tokens/s",
        "--------------  --------",
        "raw                 99.1",
        "localmem, free      7.25",
    ]


def test_throughput_runs_from_end_to_end(tiny_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A fraction of a fair measurement: a tiny model, one round of a few tokens, one thread.
    arguments = ["--model", str(tiny_model_path), "--preset", "compact", "--n-ctx", "4096", "--threads", "1"]
    throughput.main([*arguments, "--tokens", "4", "--rounds", "1", "--longest-call", "64"])
    lines, figures = last_line(capsys)
    names = ["raw", "free", *(name for name in BACKENDS if name not in figures["left_out"]), "high_level"]
    assert "llguidance" in names
    assert list(figures["decode"]) == list(figures["sampled_token_ms"]) == list(figures["one_token_step_ms"]) == names
    assert all(rate > 0 for rate in [*figures["decode"].values(), *figures["prefill"].values()])
    ratios = {"free/raw", "llguidance/free", "llguidance/raw", "llguidance/high_level"}
    assert ratios <= set(figures["ratios"]) == set(figures["sampled_token_ratios"])
    assert figures["one_token_step_ratios"]["llguidance/free"] > 0
    assert all(0 <= share < 1 for share in figures["forced_share"].values())
    assert figures["bind_ms"]["llguidance"] > 0
    assert {"sampler", "validate"} <= set(figures["inside_us"]["llguidance"])
    assert {key: figures[key] for key in ("benchmark", "n_ctx", "threads", "tokens", "rounds")} == {
        "benchmark": "throughput",
        "n_ctx": 4096,
        "threads": 1,
        "tokens": 4,
        "rounds": 1,
    }
    head = next(line for line in lines if line.startswith("decode"))
    assert head.split()[:4] == ["decode", "tokens/s", "from-to", "to"]


def test_two_models_are_measured_side_by_side(tiny_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tiny_model_path)
    speed.main(["--model", path, "--against", path, "--read", "40", "--tokens", "4", "--rounds", "2", "--threads", "1"])
    lines, figures = last_line(capsys)
    assert figures["models"] == [tiny_model_path.stem] * 2
    for found in figures["measures"].values():
        assert 0 < found["from"] <= found["ratio"] <= found["to"]
    assert [line.split("  ")[0] for line in lines[2:]] == list(speed.MEASURES)


def test_ratios_are_taken_within_a_round() -> None:
    rounds = [
        [(10.0, 1.0, 1.0), (5.0, 1.0, 2.0)],
        [(300.0, 1.0, 1.0), (100.0, 1.0, 4.0)],
        [(8.0, 1.0, 1.0), (4.0, 1.0, 8.0)],
    ]
    prefill = speed.summary(rounds)["measures"]["prefill"]
    assert prefill == {"rates": [10.0, 5.0], "ratio": 2.0, "from": 2.0, "to": 3.0}


def test_the_raw_loop_and_the_engine_write_the_same_tokens(tiny_model_path: Path) -> None:
    """What makes the ratio fair: the same sampler chain and the same stop, so the same text at the same seed."""
    from benchmarks.llama_loops import RawLoop
    from localmem.engine.load import load_engine

    engine = load_engine(str(tiny_model_path), n_ctx=512)
    raw = RawLoop(tiny_model_path, engine)
    try:
        prompt = engine.vocabulary.tokenize("Once upon a time there was a lighthouse.")
        for seed in (1, 2, 3):
            expected = engine.generate(prompt, max_tokens=24, seed=seed).tokens
            assert raw.generate(prompt, 24, seed).tokens == expected
    finally:
        raw.close()
        engine.close()
