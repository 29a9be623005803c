"""README.md is true: its file tree, its Python, its commands, its figures."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from agents import call, say
from conftest import ROOT

import localmem
from localmem import ScriptedEngine
from localmem.cli import main
from localmem.config import load_config
from localmem.memory.embedder import HashEmbedder
from localmem.opening import Setting

README = (ROOT / "README.md").read_text(encoding="utf-8")
LOG = (ROOT / "benchmarks" / "LOG.md").read_text(encoding="utf-8")
ABSENT = "test_<module>.py"  # stands for all that are one to one


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def tree() -> dict[str, str]:
    """Path -> purpose, from the file tree; folders end with a slash, and one with a purpose stands for all in it."""
    (text,) = blocks("text")
    paths: dict[str, str] = {}
    folders: list[str] = []
    for line in text.splitlines():
        name, _, purpose = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        del folders[depth:]
        paths["".join([*folders, name])] = purpose.strip()
        if name.endswith("/"):
            folders.append(name)
    return paths


def commands() -> Iterator[list[str]]:
    """The words of each `localmem ...` in shell blocks, transcripts and running text."""
    shell = "\n".join([*blocks("sh"), *blocks("console")])
    lines = [*shell.splitlines(), *re.findall(r"`((?:localmem|make) [^`\n]+)`", README)]
    for line in lines:
        for part in line.removeprefix("$ ").split(" | "):
            if part.startswith(("localmem ", "make ")):
                yield shlex.split(part, comments=True)


def test_each_path_of_the_tree_exists_and_has_a_purpose() -> None:
    for path, purpose in tree().items():
        if not path.endswith(ABSENT):
            assert (ROOT / path).exists(), path
        assert path.endswith("/") or purpose, path


def test_each_file_is_in_the_tree() -> None:
    there = [
        path.relative_to(ROOT).as_posix()
        for folder in ("localmem", "benchmarks", "grammars", "training")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    folders = tuple(path for path, purpose in tree().items() if path.endswith("/") and purpose)
    there = [path for path in there if not path.startswith(folders)]
    helping = [
        path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")
    ]
    assert sorted({*there, *helping} - set(tree())) == []


def test_lines_are_no_longer_than_a_page_is_wide() -> None:
    assert [line for line in README.splitlines() if len(line) > 120] == []


def test_commands_exist() -> None:
    named = list(commands())
    assert len(named) > 15
    for words in named:
        if words[0] == "make":
            target = words[1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
            continue
        check_command(words[1:])


def check_command(words: list[str]) -> None:
    """Walk through groups to the command, then let click parse the rest."""
    context = click.Context(main)
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    for word in words:
        if re.match(r"--?[a-zA-Z]", word):
            assert word in known, f"{command.name} has no {word}"


def test_slash_commands_exist() -> None:
    from localmem.cli.chat_commands import COMMANDS

    named = re.findall(r"`/([a-z]+)", README)
    assert {"help", "memory", "why", "pop", "save", "load", "attach"} <= set(named)
    assert set(named) <= set(COMMANDS)


def test_models_and_keys_exist() -> None:
    config = load_config()
    for name in re.findall(r"(?:pull|-m) ([a-z0-9.-]+)`?(?:\s|$)", "\n".join(blocks("sh"))):
        if name not in ("mine", "path/to/file.gguf"):
            assert config.model(name).name == name
    assert config.default_model == "smollm2-135m"


def test_figures_are_from_the_log() -> None:
    section = README.split("## How it differs", 1)[1].split("\n## ", 1)[0]
    figures = re.findall(r"(?<![\w.])\d+(?:[.,]\d+)?", section)
    assert len(figures) >= 9
    known = set(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)?", LOG)) | {"20"}  # the kills are test_kill.KILLS
    assert [figure for figure in figures if figure not in known] == []


def test_the_kills_that_it_speaks_of() -> None:
    from test_kill import KILLS

    assert f"kills the process {KILLS} times" in README


def test_the_agent_of_the_python_example(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from localmem.config import Paths

    answers = [
        call("core_memory_append", "Save where they live.", block="human", content="Lives in Lisbon."),
        call("celsius", "Convert it.", fahrenheit=86),
        say("That is 30 degrees."),
        say("That you live in Lisbon."),
    ]
    setting = Setting(load_config(), Paths.under(home), engine=ScriptedEngine(answers), embedder=HashEmbedder())
    monkeypatch.setattr(localmem, "open_agent", functools.partial(localmem.open_agent, setting=setting))
    run(blocks("python")[0])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "That is 30 degrees."
    assert printed[1] == "user_message Thanks! What have you noted about me?"
    assert "assistant_message That you live in Lisbon." in printed
    assert "Lives in Lisbon." in printed
    assert "Lisbon" in printed[-1], "the best hit of the search"


@pytest.mark.usefixtures("with_models")
def test_the_engine_of_the_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    """On the bundled model."""
    run(blocks("python")[1])
    assert re.fullmatch(
        r'\{"city": ".{0,40}", "capital": (true|false)\} (stop|closed)\n', capsys.readouterr().out, re.DOTALL
    )


def test_the_extraction_of_the_python_example(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from localmem.config import Paths

    engine = ScriptedEngine(['{"name": "Ada Lovelace", "people": 4}'])
    setting = Setting(load_config(), Paths.under(home), engine=engine, embedder=HashEmbedder())
    monkeypatch.setattr(localmem, "open_agent", functools.partial(localmem.open_agent, setting=setting))
    run(blocks("python")[2])
    assert capsys.readouterr().out == "Ada Lovelace 4\n"


def test_no_python_example_goes_untested() -> None:
    assert len(blocks("python")) == 3


def run(source: str) -> None:
    space: dict[str, Any] = {"__name__": "readme"}
    exec(compile(source, "README.md", "exec", dont_inherit=True), space)
