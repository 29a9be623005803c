"""All of it, one step after the other: `python -m training`, or `make adapter`. What is there is not made again.

An unfinished training goes on. Evaluate the result with `python -m benchmarks.calls`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from training.export import DATA_VERSION


def main() -> None:
    options = _options()
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    about = {}
    for split, count in (("train", options.scenarios), ("dev", options.dev_scenarios)):
        file = folder / f"{split}-{DATA_VERSION}-{count}.npz"
        if not file.exists():
            _run("training.records", split, "--count", str(count), "--out", str(file))
        about[split] = file
    replay = folder / f"replay-{DATA_VERSION}.npz"
    if not replay.exists():
        _run("training.replay", "--out", str(replay))
    given = ["--data", str(about["train"]), "--replay", str(replay), "--dev", str(about["dev"])]
    lora = folder / f"lora-{DATA_VERSION}-{options.scenarios}"
    _run("training.train", *given, "--steps", str(options.steps), "--out", str(lora), environment=_ALLOCATOR)
    facts = folder / "about.json"
    facts.write_text(json.dumps({"data.scenarios": str(options.scenarios)}), encoding="utf-8")
    _run("training.export", str(lora / "state.pt"), str(folder / "adapter.gguf"), "--about", str(facts))
    print(
        f"The adapter is {folder / 'adapter.gguf'}. Judge it before it takes the place of the one in localmem/adapters."
    )


#: glibc maps large blocks anew each time, and each page of them is faulted in again: a fifth of a training step. So it
#: keeps what it has until the process ends.
_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def _run(module: str, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
    """A step in a process of its own, which gives its memory back. What the user's environment says goes first."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env={**environment, **os.environ}, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scenarios", type=int, default=2000, help="conversations to learn from (default: 2000)")
    parser.add_argument("--dev-scenarios", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500, help="steps of about 3,000 tokens (default: 1500)")
    parser.add_argument("--out", type=Path, default=Path("build/adapter"), help="default: build/adapter")
    return parser.parse_args()


if __name__ == "__main__":
    main()
