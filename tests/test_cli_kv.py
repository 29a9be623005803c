"""localmem kv: what is listed, checked and removed, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localmem.cli import main
from localmem.config import Paths
from localmem.engine.snapshot_file import Header, write_snapshot
from localmem.engine.snapshots import Snapshots

PRINT = "0123456789abcdef" * 4
CONVERSATION = f"{PRINT[:16]}.kv"


def kv(*arguments: str, stdin: str = "") -> Result:
    result = CliRunner().invoke(main, ["kv", *arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def put(paths: Paths, agent: str | None, tokens: list[int], age: float, model: str = "tiny") -> Path:
    """A snapshot of an agent's conversation or, with None, of a static prefix; last used `age` seconds ago."""
    snapshots = Snapshots(paths, 1)
    path = snapshots.conversation(agent, PRINT) if agent else snapshots.static(PRINT, tokens)
    kind = "conversation" if agent else "static"
    header = Header(kind, PRINT, model, agent, len(tokens), 100_000, {"type_k": "f16"}, {}, "2026-01-02T03:04:05+00:00")  # type: ignore[arg-type]
    write_snapshot(path, header, tokens, bytes(100_000))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


@pytest.fixture
def three(paths: Paths) -> list[Path]:
    """A static prefix, used last, and the conversations of ada and bob."""
    for agent in ("ada", "bob", "eve"):
        paths.agent_folder(agent).mkdir(parents=True)
        (paths.agent_folder(agent) / "agent.duckdb").touch()
    return [put(paths, None, [1, 2], 10), put(paths, "ada", list(range(1234)), 60), put(paths, "bob", [3], 3600)]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)  # and it was used last, then


def test_ls_without_snapshots() -> None:
    done = kv("ls")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "0 snapshots: 0 bytes of 2.0 GB (kv_disk_budget)\n"
    assert json.loads(kv("ls", "--json").stdout) == {"budget": 2_000_000_000, "total": 0, "snapshots": []}


def test_ls(three: list[Path]) -> None:
    done = kv("ls")
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["KIND", "AGENT", "MODEL", "TOKENS", "SIZE", "USED", "FILE"]
    static, ada, bob = (row.split() for row in rows)
    assert static[:6] == ["static", "-", "tiny", "2", "100.3", "kB"]
    assert ada[:4] == ["conversation", "ada", "tiny", "1,234"]
    assert ada[-1] == f"ada/{CONVERSATION}"
    assert bob[:4] == ["conversation", "bob", "tiny", "1"]
    assert done.stderr.startswith("3 snapshots: 30")
    assert done.stderr.endswith(" kB of 2.0 GB (kv_disk_budget)\n")


def test_ls_as_json(three: list[Path]) -> None:
    listed = json.loads(kv("ls", "--json").stdout)
    assert listed["total"] == sum(path.stat().st_size for path in three)
    static, ada, _ = listed["snapshots"]
    assert (static["kind"], static["agent"], static["path"]) == ("static", None, str(three[0]))
    assert (ada["agent"], ada["tokens"], ada["fingerprint"]) == ("ada", 1234, PRINT)
    assert ada["used"].endswith("+00:00")
    assert ada["settings"] == {"type_k": "f16"}


def test_ls_of_broken_ones(three: list[Path]) -> None:
    three[1].write_bytes(b"no snapshot")
    done = kv("ls")
    assert [line.split()[:4] for line in done.stdout.splitlines() if "ada" in line] == [
        ["conversation", "ada", "-", "broken"]
    ]
    assert "localmem kv verify" in done.stderr
    (broken,) = [one for one in json.loads(kv("ls", "--json").stdout)["snapshots"] if "error" in one]
    assert (broken["agent"], broken["error"]) == ("ada", "is not a snapshot")


def test_ls_says_when_none_is_saved(paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    paths.models_file.write_text("kv_disk_budget: 0")
    assert kv("ls").stderr == "0 snapshots: kv_disk_budget is 0, so none is saved\n"


def test_a_models_name_cannot_drive_the_terminal(paths: Paths) -> None:
    put(paths, None, [1], 1, model="\x1b]0;owned\x07\x1b[2Jnice\nmodel")
    rows = kv("ls").stdout.splitlines()
    assert len(rows) == 2
    assert "nice model" in rows[1]
    assert "\x1b" not in rows[1]


@pytest.mark.parametrize(
    ("words", "removed"),
    [
        (["ada"], [1]),
        (["ada", "bob"], [1, 2]),
        ([f"ada/{CONVERSATION}"], [1]),
        (["--static"], [0]),
        (["--static", "bob"], [0, 2]),
        (["--all"], [0, 1, 2]),
        (["ada", "ada"], [1]),
    ],
)
def test_rm(three: list[Path], words: list[str], removed: list[int]) -> None:
    done = kv("rm", *words, "--yes")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == len(removed)
    assert [path.exists() for path in three] == [index not in removed for index in range(3)]


def test_rm_by_file(three: list[Path]) -> None:
    assert kv("rm", three[0].name, str(three[1]), "--yes").stdout == (
        f"removed {three[0].name}\nremoved ada/{CONVERSATION}\n"
    )
    assert [path.exists() for path in three] == [False, False, True]


def test_rm_asks(three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    refused = kv("rm", "--all")
    assert refused.exit_code == 2
    assert "3 snapshots (30" in refused.stderr
    assert "--yes" in refused.stderr
    monkeypatch.setattr("localmem.cli.kv.asks", lambda: True)
    done = kv("rm", "ada", stdin="n\n")
    assert done.exit_code == 130
    assert "Remove 1 snapshot (10" in done.stderr
    assert all(path.exists() for path in three)
    assert kv("rm", "ada", stdin="y\n").exit_code == 0
    assert not three[1].exists()


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ([], 2, "--static or --all"),
        (["aad"], 1, "no snapshot and no agent called 'aad'; did you mean 'ada'? see: localmem kv ls"),
        (["zzzzzz"], 1, "called 'zzzzzz'; see: localmem kv ls"),
        (["ada", "zzzzzz"], 1, "called 'zzzzzz'"),
        (["agent.duckdb"], 1, "no snapshot and no agent"),
        (["../ada/agent.duckdb"], 1, "no snapshot and no agent"),
        (["eve"], 0, "No snapshots to remove."),
    ],
)
def test_rm_of_what_is_not_there(three: list[Path], words: list[str], code: int, reason: str) -> None:
    done = kv("rm", *words, "--yes")
    assert done.exit_code == code
    assert reason in done.stderr
    assert all(path.exists() for path in three)


def test_rm_removes_snapshots_only(three: list[Path], paths: Paths) -> None:
    file = paths.agent_folder("ada") / "agent.duckdb"
    assert kv("rm", str(file), "--yes").exit_code == 1
    assert kv("rm", "--all", "--yes").exit_code == 0
    assert file.exists()


def test_verify(three: list[Path]) -> None:
    done = kv("verify")
    assert (done.exit_code, done.stdout.count("ok      ")) == (0, 3)
    damage(three[2])
    done = kv("verify")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == f"broken  bob/{CONVERSATION}: the state's checksum is wrong"
    assert three[2].exists()
    done = kv("verify", "--rm")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].endswith("checksum is wrong, removed")
    assert [path.exists() for path in three] == [True, True, False]
    assert kv("verify").exit_code == 0


def test_verify_without_snapshots() -> None:
    assert (kv("verify").exit_code, kv("verify").stdout) == (0, "")


@pytest.mark.parametrize("words", [["--help"], ["ls", "--help"], ["ls"], ["verify"]])
def test_nothing_heavy_is_loaded(three: list[Path], words: list[str]) -> None:
    program = (
        "import sys\nfrom localmem.cli import main\n"
        f"main(['kv', *{words}], standalone_mode=False)\n"
        "assert not {'llama_cpp', 'llguidance', 'duckdb', 'faiss', 'rich'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_a_removed_agents_snapshots_go_with_it(three: list[Path]) -> None:
    assert CliRunner().invoke(main, ["agents", "rm", "ada", "--yes"]).exit_code == 0
    assert [path.exists() for path in three] == [True, False, True]
    assert kv("ls").stderr.startswith("2 snapshots: ")
