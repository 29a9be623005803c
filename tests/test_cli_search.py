"""localmem search: hits with their sources, dates, pages, and what is said where something is missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localmem import Kind
from localmem.cli import main
from localmem.config import Paths
from localmem.memory.store import Store


def search(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["search", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def diary(paths: Paths, tmp_path: Path) -> None:
    """The agent `t`: 25 days of March 2026, an answer each, and a document."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def clock() -> datetime:
        return now

    store = Store.open(paths.agent_folder("t") / "agent.duckdb", clock=clock)
    for day in range(1, 26):
        now = datetime(2026, 3, day, 12, tzinfo=UTC)
        store.append(Kind.USER, f"Sailed to island number {day} today." if day != 7 else "The mast broke.")
        store.append(Kind.ASSISTANT, "Noted.")
    store.close()
    (tmp_path / "boat.md").write_text("A mast is made of spruce.")
    assert CliRunner().invoke(main, ["load", "-a", "t", str(tmp_path / "boat.md")]).exit_code == 0


def test_hits_of_both_tiers_with_source_and_time(diary: None, tmp_path: Path) -> None:
    done = search("-a", "t", "mast")
    assert done.exit_code == 0
    assert "recall: 1 found\n  #13  2026-03-07 " in done.stdout
    assert "  user\n    The mast broke.\n" in done.stdout
    assert f"archival: 1 found\n  {tmp_path}/boat.md:1  " in done.stdout
    assert "    A mast is made of spruce.\n" in done.stdout
    assert done.stderr == "by keyword only: minilm is not on this machine; run: localmem models pull minilm\n"


def test_json(diary: None, tmp_path: Path) -> None:
    data = json.loads(search("-a", "t", "mast", "--json").stdout)
    assert data["query"] == "mast"
    assert (data["recall"]["total"], data["recall"]["page"], data["recall"]["pages"]) == (1, 1, 1)
    (hit,) = data["recall"]["hits"]
    assert (hit["source"], hit["text"], hit["kind"]) == (13, "The mast broke.", "user_message")
    assert (hit["before"], hit["after"], hit["time"]) == ("Noted.", "Noted.", "2026-03-07T12:00:00+00:00")
    assert data["archival"]["hits"][0]["source"] == f"{tmp_path}/boat.md:1"


@pytest.mark.parametrize(
    ("kind", "shown"), [("recall", ["recall"]), ("archival", ["archival"]), ("both", ["recall", "archival"])]
)
def test_kinds(diary: None, kind: str, shown: list[str]) -> None:
    data = json.loads(search("-a", "t", "--kind", kind, "--json", "mast").stdout)
    assert [name for name in data if name != "query"] == shown


def test_pages(diary: None) -> None:
    seen: set[int] = set()
    for page in (1, 2, 3):
        data = json.loads(search("-a", "t", "--kind", "recall", "--page", page, "--json", "island").stdout)["recall"]
        assert (data["total"], data["pages"], data["page"]) == (24, 3, page)
        seen |= {hit["source"] for hit in data["hits"]}
    assert len(seen) == 24
    assert "24 found, page 1 of 3" in search("-a", "t", "island").stdout
    beyond = search("-a", "t", "island", "--page", "4")
    assert (beyond.exit_code, beyond.stderr.splitlines()[-1]) == (1, "Error: there is no page 4: the last one is 3")


@pytest.mark.parametrize(
    ("dates", "days"),
    [
        (["--start", "2026-03-23"], [23, 24, 25]),
        (["--end", "2026-03-02"], [1, 2]),
        (["--start", "2026-03-05", "--end", "2026-03-06"], [5, 6]),
        (["--start", "2026-03-06", "--end", "2026-03-05"], [5, 6]),
        (["--start", "2027-01-01"], []),
    ],
)
def test_dates(diary: None, dates: list[str], days: list[int]) -> None:
    data = json.loads(search("-a", "t", "--json", *dates, "island").stdout)
    assert "archival" not in data
    assert sorted(int(hit["text"].split()[4]) for hit in data["recall"]["hits"]) == days


def test_a_day_without_words(diary: None) -> None:
    done = search("-a", "t", "--start", "2026-03-07", "--end", "2026-03-07")
    assert "recall: 2 found" in done.stdout
    assert "The mast broke." in done.stdout


def test_nothing_is_found(diary: None) -> None:
    done = search("-a", "t", "zebra")
    assert (done.exit_code, done.stdout) == (0, "recall: 0 found\narchival: 0 found\n")


@pytest.mark.parametrize(
    "arguments",
    [[], [" "], ["--page", "0", "x"], ["--kind", "x", "x"], ["--start", "monday", "x"],
     ["--kind", "archival", "--start", "2026-03-01", "x"]],
)  # fmt: skip
def test_wrong_usage_is_2(diary: None, arguments: list[str]) -> None:
    assert search("-a", "t", *arguments).exit_code == 2


def test_an_agent_that_does_not_exist_is_not_made(diary: None, paths: Paths) -> None:
    done = search("-a", "tt", "mast")
    assert done.exit_code == 1
    assert done.stderr == "Error: there is no agent 'tt'; did you mean 't'? There are: t\n"
    assert not paths.agent_folder("tt").exists()


def test_control_characters_are_not_printed(paths: Paths) -> None:
    store = Store.open(paths.agent_folder("t") / "agent.duckdb")
    store.append(Kind.USER, "mast \x1b]0;evil\x07\x1b[31mred")
    store.close()
    assert "\x1b" not in search("-a", "t", "mast").output


def test_by_meaning_with_the_real_embedder(with_models: Path, diary: None) -> None:
    """What was said, and what was loaded."""
    done = search("-a", "t", "which wood is the pole of a yacht made from, and did it fall?")
    assert "The mast broke." in done.stdout
    assert "A mast is made of spruce." in done.stdout
    assert "keyword" not in done.stderr
