"""localmem doctor: what is installed, what is missing, how fast it runs, and what to do about each problem.

Looks and measures; changes nothing.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import click

from localmem import models
from localmem.cli import console
from localmem.config import Config, EmbedderConfig, ModelConfig, Paths
from localmem.errors import LocalmemError

#: What must be there to chat at all, and what search by meaning and some grammars need besides.
_NEEDED = (
    "llama-cpp-python",
    "llguidance",
    "duckdb",
    "faiss-cpu",
    "tantivy",
    "jinja2",
    "numpy",
    "rich",
    "prompt_toolkit",
)
_WANTED = ("sentence-transformers", "huggingface_hub", "outlines")
_LITTLE_DISK = 1_000_000_000
_TEST_S = 2.0

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. A "problem" keeps localmem from chatting, a "note" does not; both say what to do."""

    subject: str
    status: Status
    text: str
    advice: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check this installation and say what to do about each problem.

    Exits with 0 if localmem can chat, 1 if not.
    """
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not as_json:
            _print(finding)
    healthy = all(finding.status != "problem" for finding in findings)
    if as_json:
        console.print_json({"ok": healthy, "findings": [asdict(finding) for finding in findings]})
    ctx.exit(0 if healthy else 1)


def _print(finding: Finding) -> None:
    mark = {"ok": "ok", "note": "note", "problem": "PROBLEM"}[finding.status]
    click.echo(console.strip_control(f"{mark:8} {finding.subject:10} {finding.text}"))
    if finding.advice:
        click.echo(console.strip_control(f"{'':19} -> {finding.advice}"))


def _findings() -> Iterator[Finding]:
    """One after another, so that a person sees the first while the last is measured."""
    paths = Paths.default()
    yield from _installed()
    yield from _machine(paths)
    try:
        config = console.configuration()
    except LocalmemError as error:
        yield Finding("config", "problem", str(error), "correct the file, then run localmem doctor again")
        return
    room = models.human(config.kv_disk_budget)
    yield Finding("snapshots", "ok", f"up to {room} in {paths.cache / 'kv'} and beside the agents")
    model = _present("model", config.model, paths)
    yield model
    embedder = _present("embedder", config.embedder, paths)
    if embedder.status == "problem":  # search falls back to keywords, and chat goes on
        embedder = Finding(embedder.subject, "note", embedder.text, embedder.advice)
    yield embedder
    if model.status == "ok":
        window = _window(config, paths)
        yield window
        if window.status == "ok":
            yield _speed(config)


def _installed() -> Iterator[Finding]:
    versions = {name: _version(name) for name in (*_NEEDED, *_WANTED)}
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("localmem", "ok", f"{_version('localmem') or 'from source'}, {python}")
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield Finding("packages", "ok", there)
    for name in (name for name, version in versions.items() if version is None):
        status: Status = "problem" if name in _NEEDED else "note"
        yield Finding("packages", status, f"{name} is not installed", f"pip install {name}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine(paths: Paths) -> Iterator[Finding]:
    cores, ram = models.physical_cores(), models.available_ram()
    yield Finding("machine", "ok", f"{cores} physical cores, {models.human(ram)} of memory free")
    free = shutil.disk_usage(_existing(paths.data)).free
    advice = "free some space: agents and models need it" if free < _LITTLE_DISK else ""
    yield Finding("disk", "note" if advice else "ok", f"{models.human(free)} free under {paths.data}", advice)
    build = _llama_build()
    if build:
        kind = "with GPU support" if build.get("gpu_offload") else "for the CPU"
        yield Finding("llama.cpp", "ok", f"{build.get('version', 'unknown version')}, built {kind}")
    card = models.graphics_card()
    if card and build and not build.get("gpu_offload"):
        name, target = card
        yield Finding("gpu", "note", f"{name} is here, and this build cannot use it", f"make chat GPU={target}")
    elif card:
        yield Finding("gpu", "ok", card[0])


def _existing(folder: Path) -> Path:
    """`folder`, or the closest folder above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _llama_build() -> dict[str, Any]:
    """What the engine knows of its llama.cpp; nothing if it cannot be loaded."""
    try:
        build: dict[str, Any] = importlib.import_module("localmem.engine.llama").build_info()
    except (ImportError, AttributeError, OSError):
        return {}
    return build


def _present(kind: str, entry: Callable[[], ModelConfig | EmbedderConfig], paths: Paths) -> Finding:
    try:
        found = entry()
        models.check(found, paths)
    except LocalmemError as error:
        text, _, command = str(error).partition(": run: ")
        return Finding(
            kind, "problem", text, f"run: {command}" if command else "correct models.yaml, or: localmem models ls"
        )
    checked = "sha256 right" if found.sha256 else "whole"
    path = models.locate(found, paths) if isinstance(found, ModelConfig) else models.place(found.source, paths)
    return Finding(kind, "ok", f"{found.name}: {path}, {checked}")


def _window(config: Config, paths: Paths) -> Finding:
    model = config.model()
    info = models.read_gguf(models.locate(model, paths))
    try:
        n_ctx = models.choose_n_ctx(model, info)
    except LocalmemError as error:
        return Finding("window", "problem", str(error), f"set n_ctx of {model.name} in {paths.models_file}")
    needed = models.memory_estimate(info, model, n_ctx)
    return Finding("window", "ok", f"{n_ctx:,} tokens, with {models.human(needed)} of memory for model and window")


def _speed(config: Config) -> Finding:
    """Read and write with the default model for two seconds."""
    try:
        engine = importlib.import_module("localmem").load_engine(config.model())
    except (ImportError, AttributeError) as error:
        return Finding("speed", "problem", f"the engine cannot be loaded: {error}", "install localmem again")
    except LocalmemError as error:
        return Finding("speed", "problem", str(error), "see above")
    try:
        prompt = engine.vocabulary.tokenize("The quick brown fox jumps over the lazy dog. " * 20)
        timer = threading.Timer(_TEST_S, engine.interrupt)
        timer.start()
        started = time.perf_counter()
        done = engine.generate(prompt, max_tokens=512, temperature=0.0, seed=1)
        timer.cancel()
    except LocalmemError as error:
        return Finding("speed", "problem", str(error), "choose another model, or install localmem again")
    finally:
        engine.close()
    if not done.tokens:
        waited = time.perf_counter() - started
        return Finding("speed", "note", f"no token within {waited:.1f} s", "choose a smaller model: localmem models ls")
    prefill = (done.prompt_tokens - done.reused_tokens) / max(done.ttft_s, 1e-9)
    decode = (len(done.tokens) - 1) / max(done.decode_s, 1e-9)
    slow = decode < 5 and len(done.tokens) > 1
    advice = "choose a smaller model, or close other programs" if slow else ""
    text = f"reads {prefill:.0f} tokens/s, writes {decode:.0f} tokens/s"
    return Finding("speed", "note" if slow else "ok", text, advice)
