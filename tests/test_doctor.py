"""localmem doctor: each thing it looks at, with the rest of the machine faked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import localmem
from localmem.cli import doctor, main
from localmem.config import Paths, load_config


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is loaded."""
    monkeypatch.setattr(doctor, "_speed", lambda config: doctor.Finding("speed", "ok", "reads 9 tokens/s"))
    monkeypatch.setattr(doctor, "_llama_build", lambda: {"version": "1", "gpu_offload": False})


def test_all_is_well(with_models: Path, fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.models, "graphics_card", lambda: None)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "ok       model      smollm2-135m" in result.stdout
    assert "sha256 right" in result.stdout
    assert "tokens, with 7" in result.stdout
    assert "->" not in result.stdout


def test_without_a_model_it_says_what_to_run(fast: None) -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    found = {finding["subject"]: finding for finding in report["findings"]}
    assert found["model"]["status"] == "problem"
    assert found["model"]["advice"] == "run: localmem models pull smollm2-135m"
    assert found["embedder"]["status"] == "note"
    assert "speed" not in found


def test_a_wrong_models_yaml_is_a_problem(paths: Paths, fast: None) -> None:
    paths.config.mkdir(parents=True)
    paths.models_file.write_text("modles: {}")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "PROBLEM  config" in result.stdout
    assert "did you mean 'models'" in result.stdout


def test_a_card_that_this_build_cannot_use(with_models: Path, fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.models, "graphics_card", lambda: ("GeForce", "cuda"))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "GeForce is here, and this build cannot use it" in result.stdout
    assert "-> make chat GPU=cuda" in result.stdout


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("duckdb", "outlines") else "1")
    found = {finding.text: finding for finding in doctor._installed()}
    assert found["duckdb is not installed"].status == "problem"
    assert found["outlines is not installed"].status == "note"


class FakeEngine:
    """Says what it generated, and how long it took."""

    def __init__(self, tokens: list[int], decode_s: float) -> None:
        self.vocabulary = SimpleNamespace(tokenize=lambda text: [1] * 200)
        self.done = SimpleNamespace(tokens=tokens, prompt_tokens=200, reused_tokens=0, ttft_s=0.5, decode_s=decode_s)
        self.closed = False

    def generate(self, prompt: list[int], **_: object) -> SimpleNamespace:
        return self.done

    def interrupt(self) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("tokens", "status", "text"),
    [
        ([1] * 101, "ok", "reads 400 tokens/s, writes 50 tokens/s"),
        ([1] * 3, "note", "reads 400 tokens/s, writes 1 tokens/s"),
        ([], "note", "no token within"),
    ],
)
def test_speed(monkeypatch: pytest.MonkeyPatch, tokens: list[int], status: str, text: str) -> None:
    engine = FakeEngine(tokens, 2.0)
    monkeypatch.setattr(localmem, "load_engine", lambda *_, **__: engine)
    finding = doctor._speed(load_config())
    assert (finding.status, finding.advice == "") == (status, status == "ok")
    assert text in finding.text
    assert engine.closed
