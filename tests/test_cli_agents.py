"""localmem agents: what is listed, shown and removed, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scripted_cli import Line, call, line, send

from localmem.cli import main
from localmem.config import Paths

__all__ = ["line"]


def agents(*arguments: str, stdin: str = "") -> Result:
    result = CliRunner().invoke(main, ["agents", *arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def ada(line: Line, tmp_path: Path) -> Line:
    """An agent `ada` with an exchange, a document and something saved."""
    (tmp_path / "boat.md").write_text("The boat is moored at pier seven.")
    answers = [call("core_memory_append", block="human", content="Name: Ada."), send("Hello, Ada.")]
    lines = ["I am Ada.", f"/attach {tmp_path / 'boat.md'}", "/save first"]
    line.run("chat", "-a", "ada", "--prompt", "compact", lines=lines, answers=answers)
    return line


def test_ls_without_agents() -> None:
    assert agents("ls").stdout == ""
    assert "localmem chat -a NAME" in agents("ls").stderr
    assert json.loads(agents("ls", "--json").stdout) == []


def test_ls(ada: Line, paths: Paths) -> None:
    (paths.agents / "no-agent").mkdir()
    heading, row = agents("ls").stdout.splitlines()
    assert heading.split() == ["NAME", "MESSAGES", "DOCUMENTS", "LAST", "SIZE"]
    assert row.split()[:3] == ["ada", "2", "1"]
    (listed,) = json.loads(agents("ls", "--json").stdout)
    assert (listed["name"], listed["messages"], listed["documents"]) == ("ada", 2, 1)
    assert listed["last"].endswith("+00:00")
    assert listed["size"] > 0


def test_show(ada: Line) -> None:
    shown = json.loads(agents("show", "ada", "--json").stdout)
    assert [block["label"] for block in shown["blocks"]] == ["persona", "human"]
    assert shown["blocks"][1]["value"] == "Name: Ada."
    user, assistant = shown["messages"]
    assert (user["role"], user["text"], user["kind"]) == ("user", "I am Ada.", "user_message")
    assert (assistant["role"], assistant["id"] > user["id"]) == ("assistant", True)
    assert user["time"].endswith("+00:00")
    assert [(one["name"], one["passages"]) for one in shown["documents"]] == [("boat.md", 1)]
    assert shown["counts"]["messages"] == 2
    assert shown["counts"]["passages"] == 1
    assert list(shown["saved"]) == ["first"]


def test_show_as_text(ada: Line) -> None:
    out = agents("show", "ada").stdout
    assert "human (10 of 600 characters)\n  Name: Ada.\n" in out
    assert "boat.md (1 passages)" in out
    assert "user: I am Ada." in out
    assert "saved: first" in out


@pytest.mark.parametrize("command", [["show", "aad"], ["rm", "aad", "--yes"]])
def test_an_agent_that_does_not_exist(ada: Line, paths: Paths, command: list[str]) -> None:
    done = agents(*command)
    assert done.exit_code == 1
    assert done.stderr == "Error: there is no agent 'aad'; did you mean 'ada'? There are: ada\n"
    assert not paths.agent_folder("aad").exists()


def test_a_name_that_is_no_file_name() -> None:
    done = agents("show", "../x")
    assert done.exit_code == 1
    assert "cannot name an agent" in done.stderr
    assert "run: localmem chat -a nobody" in agents("show", "nobody").stderr


def test_rm(ada: Line, paths: Paths) -> None:
    refused = agents("rm", "ada")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert paths.agent_folder("ada").exists()
    assert agents("rm", "ada", "--yes").stdout == "removed ada\n"
    assert list(paths.agents.iterdir()) == []


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, False), ("n\n", 130, True), ("", 130, True)])
def test_rm_asks_at_a_terminal(
    ada: Line, paths: Paths, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: bool
) -> None:
    monkeypatch.setattr("localmem.cli.agents.asks", lambda: True)
    done = agents("rm", "ada", stdin=answer)
    assert done.exit_code == code
    assert "Remove ada and all that it remembers" in done.stderr
    assert paths.agent_folder("ada").exists() is left


def test_an_agent_in_use_is_listed_and_refused(ada: Line, paths: Paths) -> None:
    file = paths.agent_folder("ada") / "agent.duckdb"
    program = (
        "import sys, pathlib\n"
        "from localmem.memory.store import Store\n"
        "store = Store.open(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == b"open\n"
        shown, removed, listed = agents("show", "ada"), agents("rm", "ada", "--yes"), agents("ls")
        owner.stdin.close()
    for done in (shown, removed):
        assert done.exit_code == 1
        assert "in use by" in done.stderr
        assert str(owner.pid) in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "in use by" in listed.stdout
    assert listed.exit_code == 0
    assert file.exists()


def test_a_damaged_agent_is_listed_and_can_be_removed(paths: Paths) -> None:
    folder = paths.agent_folder("bad")
    folder.mkdir(parents=True)
    (folder / "agent.duckdb").write_bytes(b"no database " * 1000)
    assert "not an agent's file" in agents("ls").stdout
    assert agents("show", "bad").exit_code == 1
    assert agents("rm", "bad", "--yes").exit_code == 0
    assert not folder.exists()


def test_what_another_version_left_behind_does_not_hinder(ada: Line, paths: Paths) -> None:
    (paths.agents / ".ada.removed").mkdir()
    assert agents("rm", "ada", "--yes").exit_code == 0
