"""The wheel holds all that localmem needs: built here, installed into an empty folder, and run from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from localmem.config import load_config

SHIPPED = (
    "pyproject.toml", "models.yaml", "grammars", "localmem", "LICENSE", "CHANGELOG.md", "README.md",
    ".gitignore",  # what it names is left out of a wheel
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing appears in the working tree; offline, by the hatchling that is installed."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    (source / "README.md").touch()
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--quiet"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True, capture_output=True, timeout=120)
    return folder


def adapters() -> dict[str, Path]:
    """The adapters that models of the bundled models.yaml have, by the model's name."""
    return {name: model.adapter.path for name, model in load_config().models.items() if model.adapter is not None}


def test_the_wheel_holds_data_and_types_and_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("localmem/data/models.yaml", "localmem/data/grammars/json.gbnf", "localmem/py.typed"):
        assert name in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {f"localmem/adapters/{path.name}" for path in adapters().values()} <= set(names)
    assert [name for name in names if name.startswith(("tests", "benchmarks", "training"))] == []


def test_localmem_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """Its dependencies are found where they are, localmem itself only where it was installed."""
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-W", "error", *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
        ).stdout

    assert Path(run("-c", "import localmem; print(localmem.__file__)").strip()).is_relative_to(installed)
    listed = json.loads(run("-m", "localmem", "models", "ls", "--json"))
    assert "smollm2-135m" in [item["name"] for item in listed]
    assert run("-m", "localmem", "--version").startswith("localmem 0.")
    found = run("-c", "from localmem.config import bundled; print(bundled('grammars'))").strip()
    assert Path(found) == installed / "localmem" / "data" / "grammars"
    for name, adapter in adapters().items():
        program = f"from localmem.config import load_config; print(load_config().model({name!r}).adapter.path)"
        path = Path(run("-c", program).strip())
        assert path.is_relative_to(installed)
        assert path.read_bytes() == adapter.read_bytes()


def test_the_benchmarks_for_people_are_in_the_wheel(wheel: Path, installed: Path, tmp_path: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"localmem/bench/throughput.py", "localmem/bench/validity.py", "localmem/prompts/extract.txt"} <= set(names)
    environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    for command in (["bench"], ["bench", "throughput"], ["bench", "validity"], ["run"]):
        line = [sys.executable, "-W", "error", "-m", "localmem", *command, "--help"]
        done = subprocess.run(
            line, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=True
        )
        assert "Usage:" in done.stdout
    loads = [sys.executable, "-c", "import localmem.bench.validity as v; print(v.__file__)"]
    found = subprocess.run(loads, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=True)
    assert Path(found.stdout.strip()).is_relative_to(installed)


def test_the_entry_point_is_there(installed: Path) -> None:
    (points,) = installed.glob("localmem-*.dist-info/entry_points.txt")
    assert "localmem = localmem.cli:main" in points.read_text()
