"""What every test gets: no network, no one's home folder, and the bundled model and embedder.

The real models are found before `LOCALMEM_HOME` is changed; tests read them there and write elsewhere.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from localmem.config import Paths, load_config
from localmem.errors import LocalmemError
from localmem.models import locate, locate_embedder, place

REAL_PATHS = Paths.default()
ROOT = Path(__file__).resolve().parent.parent

# Subprocesses and libraries inherit these, whatever a test does.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


class NetworkUsed(AssertionError):
    """A test, or what it tests, tried to leave the machine."""


def _is_local(address: Any) -> bool:
    """Loopback and Unix sockets."""
    host = address[0] if isinstance(address, tuple) else None
    if host is None or host in ("localhost", b"localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def _guarded(name: str, real: Any, host_first: bool = False) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        if host_first:
            address: Any = args[0] if isinstance(args[0], tuple) else (args[0],)
        else:
            address = args[1]
        if address != (None,) and not _is_local(address):
            raise NetworkUsed(f"{name} to {address!r}")
        return real(*args, **options)

    return call


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Whoever looks a host up or connects to one fails the test; the whole session, so that threads cannot slip by."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(name, getattr(socket.socket, name)))
        for name in ("create_connection", "getaddrinfo", "gethostbyname"):
            patch.setattr(socket, name, _guarded(name, getattr(socket, name), host_first=True))
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`LOCALMEM_HOME` of the test: every folder of localmem is in it."""
    folder = tmp_path / "home"
    monkeypatch.setenv("LOCALMEM_HOME", str(folder))
    return folder


@pytest.fixture
def paths(home: Path) -> Paths:
    """The folders of the test."""
    return Paths.under(home)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file that `make chat` runs: the bundled model with its adapter in it. Read only."""
    cache = tmp_path_factory.mktemp("cache")  # where the hashes of what is found are remembered
    try:
        return locate(load_config().model("smollm2-135m"), replace(REAL_PATHS, cache=cache))
    except LocalmemError as error:
        pytest.exit(f"{error} (or: make models)", returncode=1)


@pytest.fixture(scope="session")
def wheel_path(model_path: Path) -> Path:
    """The GGUF file of the bundled model as it was fetched, without its adapter. Read only."""
    return place(load_config().model("smollm2-135m").source, REAL_PATHS)


@pytest.fixture(scope="session")
def embedder_folder() -> Path:
    """The folder of the bundled embedder. Read only."""
    try:
        return locate_embedder(load_config().embedder("minilm"), REAL_PATHS)
    except LocalmemError as error:
        pytest.exit(f"{error} (or: make models)", returncode=1)


@pytest.fixture
def with_models(home: Path, model_path: Path, embedder_folder: Path) -> Path:
    """`home` with the bundled model and embedder in it, as if they had been pulled.

    Each file is a link in a folder of the test's own, so that nothing a test pulls or merges lands among the real ones.
    """
    shutil.copytree(
        REAL_PATHS.models, home / "models", copy_function=os.symlink, ignore=shutil.ignore_patterns(".incoming-*")
    )
    return home


@pytest.fixture(scope="session")
def tiny_gguf(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the path of a tiny random-weight model with the bundled model's tokenizer, written once a session.

    `tiny_gguf(architecture="llama", n_ctx=4096, seed=0)`: llama, qwen2, gemma3 (sliding window), mamba (recurrent) or
    lfm2 (hybrid). `heads` as in write_tiny.
    """
    from tiny_gguf import HEADS, Tokenizer, write_tiny

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer.of_file(model_path)

    @cache
    def write(architecture: str = "llama", n_ctx: int = 4096, seed: int = 0, heads: int = HEADS) -> Path:
        path = folder / f"tiny-{architecture}-{n_ctx}-{seed}-{heads}.gguf"
        return write_tiny(path, tokenizer, architecture=architecture, n_ctx=n_ctx, seed=seed, heads=heads)

    return write


@pytest.fixture(scope="session")
def tiny_model_path(tiny_gguf: Callable[..., Path]) -> Path:
    """A tiny llama with random weights and the bundled model's tokenizer, for long runs. Read only."""
    return tiny_gguf()
