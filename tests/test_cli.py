"""The group itself: what it loads, how it fails, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner
from conftest import ROOT

from localmem import cli
from localmem.cli import console, main
from localmem.errors import ConfigError, GrammarError

HEAVY = (
    "numpy",
    "rich",
    "duckdb",
    "faiss",
    "tantivy",
    "torch",
    "llama_cpp",
    "llguidance",
    "prompt_toolkit",
    "outlines",
)
HEAVY_TOO = ("sentence_transformers", "huggingface_hub", "jinja2", "yaml", "transformers")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys, json\n"
        "from localmem.cli import main\n"
        f"main({arguments}, standalone_mode=False)\n"
        f"print(json.dumps([name for name in {HEAVY + HEAVY_TOO} if name in sys.modules]), file=sys.stderr)"
    )
    done = python("-c", program)
    assert json.loads(done.stderr) == []


def test_help_lists_every_command_with_a_word_about_it() -> None:
    done = python("-m", "localmem", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: localmem [OPTIONS] COMMAND")
    for name, (_, about) in cli._COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert about in done.stdout


@pytest.mark.parametrize(("arguments", "said"), [(["nope"], "No such command 'nope'"), (["--nope"], "No such option")])
def test_wrong_usage_is_2(arguments: list[str], said: str) -> None:
    done = python("-m", "localmem", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Makes `localmem chat` do something."""

    def install(action: Callable[[], object]) -> None:
        module = ModuleType("fake_chat")
        module.chat = click.command("chat")(action)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fake_chat", module)
        monkeypatch.setitem(cli._COMMANDS, "chat", ("fake_chat", "Talk."))

    return install


def raising(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (ConfigError("wrong: do this"), 1, "Error: wrong: do this\n"),
        (GrammarError("two\nlines"), 1, "Error: two lines\n"),
        (click.UsageError("so not"), 2, "Error: so not\n"),
        (click.ClickException("no"), 1, "Error: no\n"),
        (click.Abort(), 130, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_one_line_and_an_exit_code(command, error: BaseException, code: int, stderr: str) -> None:
    command(raising(error))
    result = CliRunner().invoke(main, ["chat"])
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.endswith(stderr)
    assert "Traceback" not in result.stderr


def test_a_mistake_in_the_program_keeps_its_traceback(command) -> None:
    command(raising(ZeroDivisionError()))
    assert isinstance(CliRunner().invoke(main, ["chat"]).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("module", "said"), [("no_such_module", "has no `chat`"), ("fake_lacking", "colorama9 is not")]
)
def test_a_missing_module_breaks_its_command_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, said: str
) -> None:
    (tmp_path / "fake_lacking.py").write_text("import colorama9")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli._COMMANDS, "chat", (module, "Talk."))
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0
    result = CliRunner().invoke(main, ["chat"])
    assert result.exit_code == 1
    assert said in result.stderr


def test_the_models_option_is_merged_for_every_command(tmp_path: Path) -> None:
    extra = tmp_path / "extra.yaml"
    extra.write_text("models: {mine: {source: {path: m.gguf}}}")
    result = CliRunner().invoke(main, ["--models", str(extra), "models", "ls", "--json"])
    assert "mine" in [item["name"] for item in json.loads(result.stdout)]
    assert CliRunner().invoke(main, ["--models", str(tmp_path / "none"), "models", "ls"]).exit_code == 2


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals and pipes")
def test_ctrl_c_is_130_and_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    program = (
        "import sys, time, types, click\n"
        "from localmem import cli\n"
        "def chat():\n    print('started', flush=True)\n    {}\n"
        "sys.modules['fake'] = types.SimpleNamespace(chat=click.command('chat')(chat))\n"
        "cli._COMMANDS['chat'] = ('fake', 'x')\n"
        "cli.main(['chat'])\n"
    )
    start = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    with subprocess.Popen([sys.executable, "-c", program.format("time.sleep(60)")], **start) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"started\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
        assert process.returncode == 130
    endless = program.format("[print('x' * 1000) for _ in range(10000)]")
    with subprocess.Popen([sys.executable, "-c", endless], **start) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain\ttext\nand é 漢 🙂", "plain\ttext\nand é 漢 🙂"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;ZXZpbA==\x1b\\x", "x"),
        ("\x9b31mred\x9d0;t\x9cx", "redx"),
        ("\x1bP1$r\x1b\\x\x1b_a\x1b\\y", "xy"),
        ("\x1b(B\x1bcx", "x"),
        ("\x1b]never ends", "never ends"),
        ("a\rb\x00c\x07d\x08e\x7f\x85", "abcde"),
        ("\x1b", ""),
        ("\x1b\x1b[31mx", "x"),
    ],
)
def test_control_sequences_do_not_reach_the_terminal(text: str, safe: str) -> None:
    assert console.strip_control(text) == safe


def test_stripping_is_quick_on_hostile_text() -> None:
    started = time.perf_counter()
    assert "\x1b" not in console.strip_control("\x1b]" * 200_000 + "\x1b[" * 200_000)
    assert time.perf_counter() - started < 5


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table([("NAME", "SIZE"), ("long name", "1"), ("x", "\x1b[31m2")])
    assert capsys.readouterr().out == "NAME       SIZE\nlong name  1\nx          2\n"
