"""localmem load: files and folders into an agent, what is skipped, and what the agent is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scripted_cli import Line, line, send

from localmem.cli import main
from localmem.config import Paths

__all__ = ["line"]


def load(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["load", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "boat.md").write_text("# Boat\n\nThe boat is moored at pier seven.\n")
    (folder / "code.py").write_text("def moor() -> None:\n    '''Make fast.'''\n")
    (folder / "image.png").write_bytes(b"\0\1\2")
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7")
    (folder / "empty.txt").touch()
    (folder / ".hidden").write_text("no")
    return folder


def test_a_folder_is_loaded_and_the_agent_is_told(line: Line, notes: Path) -> None:
    done = load("-a", "t", notes)
    assert (done.exit_code, done.stdout) == (0, "2 documents: 2 new passages\n")
    assert "new agent t" in done.stderr
    for name, reason in {"image.png": "binary", "paper.pdf": "a PDF", "empty.txt": "empty"}.items():
        assert f"skipped {notes / name}: {reason}" in done.stderr
    assert "skipped 1 hidden" in done.stderr
    line.chat("Hi", answers=[send("Hello.")])
    assert "The user gave you documents: notes/boat.md, notes/code.py." in line.engines[0].prompts[0]


def test_a_second_version_replaces_the_first(notes: Path) -> None:
    load("-a", "t", notes)
    (notes / "boat.md").write_text("# Boat\n\nThe boat is moored at pier nine.\n")
    again = load("-a", "t", notes)
    assert again.stdout == "notes/boat.md: 1 new passages; notes/code.py: unchanged\n"
    found = CliRunner().invoke(main, ["search", "-a", "t", "moored"]).stdout
    assert "pier nine" in found
    assert "pier seven" not in found


def test_many_documents_are_told_of_in_few_words(line: Line, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(f"Text {number}.")
    assert load("-a", "t", folder).stdout == "30 documents: 30 new passages\n"
    line.chat("Hi", answers=[send("Hello.")])
    assert "many/07.txt and 22 more. Read them" in line.engines[0].prompts[0]


@pytest.mark.parametrize("arguments", [[], ["-a", "t"], ["--nope", "x"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert load(*arguments).exit_code == 2


def test_a_path_that_does_not_exist_makes_no_agent(paths: Paths, notes: Path) -> None:
    done = load("-a", "t", notes, "/nowhere")
    assert done.exit_code == 1
    assert done.stderr == "Error: there is no /nowhere; check its spelling\n"
    assert not paths.agents.exists()


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    assert load("-a", "t", tmp_path / "void").stdout == "nothing to read there\n"


def test_a_new_agent_is_pointed_out_beside_those_there_are(notes: Path) -> None:
    load("-a", "ada", notes / "boat.md")
    assert "new agent aad (there are: ada)" in load("-a", "aad", notes / "boat.md").stderr
