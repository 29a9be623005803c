"""open_agent: what it refuses before the first word, and what a new agent is made of."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from agents import agent_on, scripted

import localmem
from localmem.config import Paths
from localmem.engine.scripted import ScriptedEngine
from localmem.errors import ConfigError, LocalmemError, ModelError
from localmem.memory.store import Store


def test_a_new_agent_has_the_shipped_blocks(home: Path) -> None:
    with scripted(home) as agent:
        assert agent.core.labels == ["persona", "human"]
        assert "I am Lo" in agent.core["persona"].value


@pytest.mark.parametrize(
    ("given", "value"),
    [("archivist", "careful archivist"), ("I am Bo, I am brief.", "I am Bo, I am brief."), ("FILE", "from a file")],
)  # fmt: skip
def test_personas_are_names_files_or_texts(home: Path, tmp_path: Path, given: str, value: str) -> None:
    if given == "FILE":
        file = tmp_path / "persona.txt"
        file.write_text("I come from a file.\n")
        given = str(file)
    with scripted(home, persona=given) as agent:
        assert value in agent.core["persona"].value


def test_an_agent_that_exists_keeps_its_own_blocks(home: Path) -> None:
    scripted(home, persona="I am the first.").close()
    with scripted(home, persona="I am the second.") as agent:
        assert agent.core["persona"].value == "I am the first."


@pytest.mark.parametrize("missing", ["nobody", "no/such/file.txt"])
def test_an_unknown_persona_names_the_ones_there_are(home: Path, missing: str) -> None:
    with pytest.raises(ConfigError, match="archivist, default"):
        scripted(home, persona=missing)
    scripted(home).close()  # and nothing is left locked


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 65])
def test_names_that_are_no_file_names_are_refused(home: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name an agent"):
        scripted(home, name=name)


def test_a_window_too_small_is_refused_with_the_one_that_works(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"Use --n-ctx \d+ or more"):
        scripted(home, n_ctx=1024)
    assert threading.active_count() < 10


def test_long_blocks_count(home: Path) -> None:
    scripted(home, n_ctx=8192).close()
    with pytest.raises(ConfigError, match="smaller blocks"):
        scripted(home, name="long", n_ctx=8192, persona="I talk a lot. " * 400)


def test_a_missing_model_is_one_line_and_says_what_to_do(home: Path) -> None:
    with pytest.raises(ModelError, match="localmem models pull"):
        localmem.open_agent("x", home=home)
    with pytest.raises(ConfigError, match=r"[Dd]id you mean"):
        localmem.open_agent("x", home=home, model="smolm2-135m")
    Store.open(Paths.under(home).agent_folder("x") / "agent.duckdb").close()


def test_a_failed_open_leaves_no_agent_behind(home: Path) -> None:
    with pytest.raises(LocalmemError):
        localmem.open_agent("ghost", home=home)
    agents = Paths.under(home).agents
    assert not agents.exists() or [p.name for p in agents.iterdir()] == []


def test_presets(home: Path) -> None:
    with scripted(home, prompt="fewshot", n_ctx=32768) as agent:
        prompt = agent.engine.vocabulary.detokenize(agent.context.prompt())
        assert "The examples end here" in prompt
        for name in ("core_memory_append", "conversation_search_date", "page_out"):
            assert f'"function": "{name}"' in prompt
    with pytest.raises(ConfigError, match="compact, fewshot"):
        scripted(home, prompt="verbose")


def test_a_function_of_ones_own_is_in_the_list(home: Path) -> None:
    def weather(city: str, days: int = 1) -> str:
        """Tell the weather of a city."""
        return city * days

    with agent_on(home, ScriptedEngine(n_ctx=16384), functions=[weather]) as agent:
        prompt = agent.engine.vocabulary.detokenize(agent.context.prompt())
        assert "- weather(city, days?): Tell the weather of a city." in prompt
