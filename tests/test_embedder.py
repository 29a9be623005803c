"""Embedders: unit vectors that mean something, from a folder, with no network."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from localmem.errors import ModelError
from localmem.memory.embedder import HashEmbedder, SentenceEmbedder
from localmem.memory.search import SIMILARITY

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def embedder(embedder_folder: Path) -> Iterator[SentenceEmbedder]:
    embedder = SentenceEmbedder(embedder_folder, "minilm")
    yield embedder
    embedder.close()


def test_the_fake_is_deterministic_and_knows_shared_words() -> None:
    embedder = HashEmbedder(64)
    vectors = embedder.embed(["the red apple", "The apple, red!", "a blue boat", "", "🎉", "\udce9"])
    assert (vectors.shape, vectors.dtype) == ((6, 64), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert vectors[0] @ vectors[1] == pytest.approx(1)
    assert vectors[0] @ vectors[2] < 0.5
    assert (embedder.embed(["the red apple"])[0] == vectors[0]).all()
    assert embedder.embed([]).shape == (0, 64)


def test_importing_the_module_is_cheap() -> None:
    code = "import sys, localmem.memory.embedder; print('torch' in sys.modules, 'sentence_transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False False\n"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no embedding model"):
        SentenceEmbedder(tmp_path / "none", "x").embed(["a"])


def test_a_broken_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "nothing.Real"}]')
    with pytest.raises(ModelError) as caught:
        SentenceEmbedder(tmp_path, "x").embed(["a"])
    assert "\n" not in str(caught.value)


def test_closing_does_not_wait_for_the_model_to_load(embedder_folder: Path) -> None:
    embedder = SentenceEmbedder(embedder_folder, "minilm")
    failures: list[ModelError] = []

    def embed() -> None:
        try:
            embedder.embed(["a"])
        except ModelError as error:
            failures.append(error)

    embedder.close()
    thread = threading.Thread(target=embed)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    embedder.close()
    thread.join(5)
    assert time.monotonic() - began < 0.5
    assert "ended early" in str(failures[0])


def test_it_leaves_with_its_owner_however_that_ends(embedder_folder: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from localmem.memory.embedder import SentenceEmbedder\n"
        "embedder = SentenceEmbedder(Path(sys.argv[1]), 'minilm'); process = embedder._started()\n"
        "print(process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(embedder_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    child, until = int(done.stdout), time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_real_model(embedder: SentenceEmbedder, capfd: pytest.CaptureFixture[str]) -> None:
    assert (embedder.name, embedder.dimension) == ("minilm", 384)
    texts = ["My dog is called Rex.", "What is the name of my pet?", "The tax return is due in May.", "", "\ud800"]
    vectors = embedder.embed(texts)
    assert (vectors.shape, vectors.dtype) == ((5, 384), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > SIMILARITY > vectors[0] @ vectors[2]
    assert embedder.embed([]).shape == (0, 384)
    assert capfd.readouterr() == ("", "")


def test_the_end_of_a_long_text_counts(embedder: SentenceEmbedder) -> None:
    filler = "The weather was grey and the road was long. " * 60
    long, plain, query = embedder.embed([filler + "My dog Rex bit the postman. " * 20, filler, "a dog bites a postman"])
    assert long @ query > plain @ query + 0.1
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)
