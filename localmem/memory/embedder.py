"""Text to vectors: a sentence-transformers model in a process of its own, and the fake that stands in for it in tests.

The only user of sentence_transformers. Importing it takes seconds that would hold up decoding, and Python cannot leave
while a thread is at it; a process can be given a low priority, and killed. This file is both sides: `SentenceEmbedder`
asks, and `python -m localmem.memory.embedder FOLDER` answers. No byte is fetched: the model is a folder.

The exchange: a line of JSON, the list of texts; back comes a line of JSON, `{"rows": n, "dimension": d}`, and n * d
native float32s, or `{"error": "..."}`. Knows nothing of what is embedded or where the vectors go.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from localmem.errors import ModelError
from localmem.memory.records import storable

#: Where the package is, for the child to find it however this process did.
_ROOT = Path(__file__).parent.parent.parent

#: No network, and warnings of third parties are no errors there, whatever they are here.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
}

#: How much the model gives way to the one that talks.
_NICENESS = 10


class SentenceEmbedder:
    """The model in `folder`, known as `name`. Its process starts with the first text, and again after `close`.

    Safe to use from several threads, one after the other. ModelError if the model cannot be loaded or fails.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = Path(folder), name
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., SentenceEmbedder] | None = None
        self._dimension = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        if not self._dimension:
            self.embed([])
        return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of unit length.

        A text longer than the model reads is embedded as the mean of its windows.
        """
        with self._lock:
            process = self._started()
            try:
                vectors = self._ask(process, [storable(text) for text in texts])
            except (OSError, ValueError) as error:
                self.close()
                raise ModelError(f"the embedding process of {self._folder} ended early; try again") from error
            except BaseException:
                # An answer that nobody read would be taken for the next one's.
                self.close()
                raise
        self._dimension = vectors.shape[1]
        return vectors

    def close(self) -> None:
        """End the process at once; whoever waits for its vectors gets a ModelError."""
        if self._end is not None:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None or not (self._end and self._end.alive):
            if not self._folder.is_dir():
                raise ModelError(f"there is no embedding model in {self._folder}; fetch it, or use keywords only")
            search_path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(search_path)},
                start_new_session=True,  # Ctrl-C in the terminal is not for it
            )
            self._end = weakref.finalize(self, _kill, self._process)
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], texts: list[str]) -> NDArray[np.float32]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(texts).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "error" in answer:
            raise ModelError(f"the embedding model in {self._folder} failed: {answer['error']}; fetch it again")
        rows, dimension = answer["rows"], answer["dimension"]
        data = process.stdout.read(rows * dimension * 4)
        return np.frombuffer(data, dtype=np.float32).reshape(rows, dimension)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    # A thread that stands in a read gets the end of the file, and its ModelError, before stdout can be closed.
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


class _Model:
    """What the process holds: the model itself."""

    def __init__(self, folder: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model: Any = SentenceTransformer(folder, device="cpu", local_files_only=True)
        self.dimension = int(self._model.encode([""], show_progress_bar=False).shape[1])

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        windows = [self._windows(text) for text in texts]
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        flat = [window for of_text in windows for window in of_text]
        if flat:
            encoded = self._model.encode(flat, normalize_embeddings=True, show_progress_bar=False)
            owner = np.repeat(np.arange(len(texts)), [len(of_text) for of_text in windows])
            np.add.at(vectors, owner, encoded)
        return _unit(vectors)

    def _windows(self, text: str) -> list[str]:
        """`text` in parts that the model reads whole, cut between word pieces."""
        tokenizer = self._model.tokenizer
        room = self._model.max_seq_length - tokenizer.num_special_tokens_to_add()
        cut = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
        offsets = cut["offset_mapping"]
        if len(offsets) <= room:
            return [text]
        return [
            text[part[0][0] : part[-1][1]] for part in (offsets[i : i + room] for i in range(0, len(offsets), room))
        ]


def _serve(folder: str, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the other side is gone."""
    model: _Model | None = None
    for request in requests:
        try:
            model = model or _Model(folder)
            vectors = model.embed(json.loads(request))
        except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            answers.write(json.dumps({"error": reason}).encode() + b"\n")
        else:
            head = {"rows": vectors.shape[0], "dimension": vectors.shape[1]}
            answers.write(json.dumps(head).encode() + b"\n" + vectors.tobytes())
        answers.flush()


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    # What the libraries print is not an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.argv[1], sys.stdin.buffer, answers)


class HashEmbedder:
    """A fake that needs no weights: each word adds to one of `dimension` places, chosen by its hash.

    Texts are alike as far as they share words. Feature hashing: Weinberger et al., ICML 2009.
    """

    def __init__(self, dimension: int = 64) -> None:
        self._dimension = dimension

    @property
    def name(self) -> str:
        return f"hash-{self._dimension}"

    @property
    def dimension(self) -> int:
        return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [text]:
                digest = hashlib.sha256(storable(word).encode()).digest()
                row[int.from_bytes(digest[:8], "little") % self._dimension] += 1 if digest[8] & 1 else -1
        # Words of opposite signs can cancel out; a vector still has to point somewhere.
        vectors[~vectors.any(axis=1), 0] = 1
        return _unit(vectors)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return unit


if __name__ == "__main__":
    _main()
