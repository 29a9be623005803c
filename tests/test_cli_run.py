"""localmem run: what it prints where, its exit codes, and the issue's own example on the bundled model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from scripted_cli import Line, call, kinds, line, send

from localmem import Kind
from localmem.config import Paths

__all__ = ["line"]

SMALL = ["--n-ctx", "3072", "--prompt", "compact", "--temp", "0"]


def localmem(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, "-m", "localmem", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=environment, timeout=280, check=False
    )


def test_the_reply_is_on_stdout_and_all_else_on_stderr(line: Line) -> None:
    answers = [
        call("core_memory_append", "Save it.", block="human", content="Name: Ada."),
        send("Hello, Ada.", "Greet."),
    ]
    done = line.run("run", "-a", "t", "I am", "Ada.", stdin="", answers=answers)
    assert (done.exit_code, done.stdout) == (0, "Hello, Ada.\n")
    assert "· Save it.\n→ core_memory_append(" in done.stderr
    assert "\x1b" not in done.output
    assert "I am Ada." in line.engines[0].prompts[0]


def test_quiet_and_debug(line: Line) -> None:
    assert line.run("run", "-q", "Hi", stdin="", answers=[send("Hello.", "Greet.")]).stderr == ""
    debug = line.run("run", "--debug", "Hi", stdin="", answers=[send("Hello.", "Greet.")])
    assert "reused; first after" in debug.stderr


@pytest.mark.parametrize(
    ("text", "stdin", "said"),
    [
        (["Sum up:"], "one\ntwo\n", "Sum up:\n\none\ntwo"),
        (["-"], "only this\n", "only this"),
        ([], "only this", "only this"),
        (["only", "that"], "", "only that"),
        (["caf\u00e9 \U0001f409"], "", "caf\u00e9 \U0001f409"),
    ],
)
def test_stdin_is_put_behind_the_text(line: Line, paths: Paths, text: list[str], stdin: str, said: str) -> None:
    done = line.run("run", "-a", "t", "--json", *text, stdin=stdin, answers=[send("ok")])
    assert json.loads(done.stdout)["events"][0]["text"] == said


@pytest.mark.parametrize(
    "arguments", [["-"], [], [" "], ["--json"], ["--n-ctx", "x", "Hi"], ["--temp", "-1", "Hi"], ["--nope", "Hi"]]
)
def test_wrong_usage_is_2(line: Line, paths: Paths, arguments: list[str]) -> None:
    done = line.run("run", "-a", "t", *arguments, stdin="\n")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert not paths.agents.exists()


def test_json_is_one_document_with_every_event(line: Line) -> None:
    answers = [call("archival_memory_insert", "Keep.", content="Ada sails."), send("Noted.", "Done.")]
    done = line.run("run", "-a", "t", "--json", "I sail.", stdin="", answers=answers)
    data = json.loads(done.stdout)
    assert done.stderr == ""
    assert (data["agent"], data["model"], data["reply"], data["interrupted"]) == ("t", "scripted", "Noted.", False)
    assert [event["kind"] for event in data["events"]] == [
        "user_message", "thought", "function_call", "function_result", "thought", "function_call", "assistant_message",
    ]  # fmt: skip
    assert data["events"][2]["call"] == {"function": "archival_memory_insert", "arguments": {"content": "Ada sails."}}
    assert data["events"][2]["stats"]["finish"] == "stop"
    assert data["stats"]["generations"] == 2


def test_ctrl_c_is_130_and_what_was_committed_stays(line: Line, paths: Paths) -> None:
    def script(_: str) -> dict[str, object]:
        signal.raise_signal(signal.SIGINT)
        return send("never said")

    line.script = script
    done = line.run("run", "-a", "t", "Hi", stdin="")
    assert done.exit_code == 130
    assert "never" not in done.stdout
    assert kinds(paths) == [Kind.USER, Kind.ASSISTANT, Kind.ALERT]
    data = json.loads(line.run("run", "-a", "t", "--json", "Hi", stdin="").stdout)
    assert data["interrupted"] is True


def test_ctrl_c_between_two_generations_is_heeded(line: Line, paths: Paths) -> None:
    """An interrupt that comes while nothing is generated would be lost."""
    real = line.load_engine

    def load(*arguments: object, **options: object) -> object:
        engine = real(*arguments, **options)
        generate, count = engine.generate, 0

        def slow(*a: object, **b: object) -> object:
            nonlocal count
            count += 1
            out = generate(*a, **b)
            if count == 1:
                signal.raise_signal(signal.SIGINT)
            return out

        engine.generate = slow
        return engine

    line.answers = []

    def script(_: str) -> dict[str, object]:
        time.sleep(0.3)
        return send("never said")

    line.script = script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localmem.engine.load.load_engine", load)
        done = line.run(
            "run", "-a", "t", "Hi", stdin="", answers=[call("core_memory_append", block="human", content="x")]
        )
    assert done.exit_code == 130
    assert "never" not in done.stdout


def test_an_unanswered_message_is_named(line: Line, paths: Paths) -> None:
    from localmem.memory.store import Store

    line.run("run", "-a", "t", "Hi", stdin="", answers=[send("Hello.")])
    store = Store.open(paths.agent_folder("t") / "agent.duckdb")
    store.append(Kind.USER, "Are you there?")
    store.close()
    assert "left unanswered before: Are you there?" in line.run("run", "-a", "t", "Hi", stdin="").stderr


# -- text of a wanted form

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ADA = '{"name": "Ada", "age": 36}'


@pytest.fixture
def forms(tmp_path: Path) -> dict[str, str]:
    """Files to name on the command line, by what is in them."""
    texts = {
        "schema": json.dumps(PERSON),
        "list": "[]",
        "broken": "{",
        "unenforceable": '{"properties": {"a": {"not": {}}}}',
        "answers": 'root ::= "yes" | "no" [a-z]*',
        "gbnf_broken": "root ::= (",
        "gbnf_undefined": "root ::= foo",
    }
    files = {name: tmp_path / f"{name}.txt" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe{")
    return {name: str(file) for name, file in files.items()} | {"latin": str(tmp_path / "latin.txt")}


@pytest.mark.parametrize(
    ("arguments", "answer", "printed"),
    [
        (["--schema", "{schema}"], ADA, ADA),
        (["--schema", json.dumps(PERSON)], ADA, ADA),
        (["--schema", '{"type": "string"}'], '"a\x9b31mb"', '"a\\u009b31mb"'),
        (["--regex", "[0-9]{4}"], "1815", "1815"),
        (["--regex", "(.|\n)*"], "red\x1b[31m", "red"),
        (["--choice", "yes, no,maybe"], "maybe", "maybe"),
    ],
)
def test_a_form_is_printed_and_nothing_is_stored(
    line: Line, paths: Paths, forms: dict[str, str], arguments: list[str], answer: str, printed: str
) -> None:
    given = [forms.get(word.strip("{}"), word) for word in arguments]
    done = line.run("run", *given, "How old", "is Ada?", stdin="She is 36.", answers=[answer])
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{printed}\n", "")
    assert "How old is Ada?\n\nShe is 36." in line.engines[0].prompts[0]
    assert not paths.data.exists()
    assert "\x1b" not in done.output


def test_json_of_a_form_has_its_finish_and_its_cuts(line: Line) -> None:
    whole = line.run("run", "--schema", json.dumps(PERSON), "--json", "Hi", stdin="", answers=[ADA])
    data = json.loads(whole.stdout)
    assert (data["result"], data["finish"], data["closed_paths"]) == ({"name": "Ada", "age": 36}, "stop", [])
    assert data["stats"]["generated_tokens"] == len(ADA)
    vast = line.run("run", "--schema", '{"type": "number"}', "--json", "Hi", stdin="", answers=["1e999"])
    assert '"result": "1e999"' in vast.stdout  # JSON has no infinity
    text = line.run("run", "--choice", "yes,no", "--json", "Hi", stdin="", answers=["no"])
    assert json.loads(text.stdout)["result"] == "no"


def test_a_cut_form_is_whole_and_says_where_it_was_cut(line: Line) -> None:
    long = '{"name": "Augusta Ada King, Countess of Lovelac", "age": 36}'
    flags = ["--schema", json.dumps(PERSON), "--max-tokens", "30"]
    done = line.run("run", *flags, "Hi", stdin="", answers=[long])
    assert done.exit_code == 0
    assert set(json.loads(done.stdout)) == {"name", "age"}
    assert done.stderr.splitlines() == ["cut at $.name, $.age: --max-tokens 30 was not enough"]
    data = json.loads(line.run("run", *flags, "--json", "Hi", stdin="", answers=[long]).stdout)
    assert (data["finish"], data["closed_by"], data["closed_paths"]) == ("closed", "budget", ["$.name", "$.age"])


def test_an_unfinished_form_is_printed_and_is_1(line: Line) -> None:
    flags = ["--regex", "[a-z]+!", "--max-tokens", "4"]
    done = line.run("run", *flags, "Hi", stdin="", answers=["abcdefgh"])
    assert (done.exit_code, done.stdout) == (1, "abcd\n")
    assert len(done.stderr.splitlines()) == 1
    assert "unfinished" in done.stderr
    assert "--max-tokens" in done.stderr
    as_json = line.run("run", *flags, "--json", "Hi", stdin="", answers=["abcdefgh"])
    assert as_json.exit_code == 1
    assert (json.loads(as_json.stdout)["result"], json.loads(as_json.stdout)["finish"]) == ("abcd", "length")


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["--schema", "no-such-file.json"], "no-such-file.json cannot be read"),
        (["--schema", "~no-such-user/x.json"], "cannot be read"),
        (["--schema", '{"not":' * 100_000], "is not JSON"),
        (["--schema", "{list}"], "is no JSON Schema"),
        (["--schema", "{broken}"], "is not JSON"),
        (["--schema", "{latin}"], "is not text"),
        (["--schema", '{"type": }'], "is not JSON"),
        (["--schema", "[]"], "is no JSON Schema"),
        (["--schema", "{unenforceable}"], "$.properties.a"),
        (["--schema", '{"type": "string", "format": "no-such"}', "--backend", "gbnf"], "format"),
        (["--schema", json.dumps(PERSON), "--max-tokens", "5"], "shortest document"),
        (["--grammar", "no-such-file.gbnf"], "no-such-file.gbnf cannot be read"),
        (["--grammar", "{answers}", "--backend", "outlines"], "is not run by backend outlines"),
        (["--regex", "("], "regular expression"),
        (["--choice", ""], "empty choice"),
        (["--choice", "yes,,no"], "empty choice"),
        (["--regex", "a", "--backend", "gbnf"], "is not run by backend gbnf"),
    ],
)
def test_what_is_wrong_with_a_form_is_one_line(
    line: Line, paths: Paths, forms: dict[str, str], arguments: list[str], about: str
) -> None:
    done = line.run("run", *(forms.get(word.strip("{}"), word) for word in arguments), "Hi", stdin="", answers=[ADA])
    assert (done.exit_code, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert about in done.stderr
    assert not paths.data.exists()


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["--regex", "a", "--choice", "b"], "--regex and --choice exclude each other"),
        (["--schema", "{}", "--regex", "a", "--grammar", "b"], "exclude each other"),
        (["--choice", "a", "-a", "ada"], "leave --agent out"),
        (["--choice", "a", "--persona", "x"], "leave --persona out"),
        (["--max-tokens", "9"], "go with one of"),
        (["--backend", "gbnf"], "go with one of"),
        (["--choice", "a", "--max-tokens", "0"], "0 is not in the range"),
        (["--choice", "a", "--backend", "nope"], "'nope' is not one of"),
    ],
)
def test_forms_that_contradict_are_wrong_usage(line: Line, arguments: list[str], about: str) -> None:
    done = line.run("run", *arguments, "Hi", stdin="")
    assert (done.exit_code, done.stdout) == (2, "")
    assert about in done.stderr
    assert line.engines == []


def test_ctrl_c_during_a_form_is_130(line: Line) -> None:
    def script(_: str) -> str:
        signal.raise_signal(signal.SIGINT)
        return ADA

    line.script = script
    done = line.run("run", "--schema", json.dumps(PERSON), "Hi", stdin="")
    assert (done.exit_code, done.stdout) == (130, "")


def test_the_model_flags_reach_the_engine(line: Line) -> None:
    line.run("run", "--choice", "a,b", "--n-ctx", "512", "--seed", "7", "--temperature", "1.5", "Hi", stdin="")
    model, options = line.loaded[0]
    assert options == {"n_ctx": 512}
    assert (model.sampling.seed, model.sampling.temperature) == (7, 1.5)


@pytest.mark.parametrize("backend", ["llguidance", "gbnf", "outlines"])
def test_the_bundled_model_writes_a_form_on_each_backend(with_models: Path, backend: str, paths: Paths) -> None:
    flags = ["--backend", backend, "--n-ctx", "1024", "--max-tokens", "40"]
    done = localmem("run", "--schema", json.dumps(PERSON), *flags, "Who is Ada?", stdin="Ada is 36 years old.")
    assert done.returncode == 0, done.stderr
    person = json.loads(done.stdout)
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)
    assert not paths.agents.exists()


def test_the_bundled_model_follows_a_gbnf_file(with_models: Path, forms: dict[str, str]) -> None:
    done = localmem("run", "--grammar", forms["answers"], "--n-ctx", "512", "--max-tokens", "40", "Is water wet?")
    assert done.stdout.strip().startswith(("yes", "no"))
    for broken in ("gbnf_broken", "gbnf_undefined"):
        failed = localmem("run", "--grammar", forms[broken], "--n-ctx", "512", "--max-tokens", "40", "Hi")
        assert (failed.returncode, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1), failed.stderr


# -- the program itself


@pytest.mark.parametrize("command", [["run", "Hi"], ["chat"]])
def test_without_a_model_it_says_how_to_get_one(command: list[str], paths: Paths) -> None:
    done = localmem(*command)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == ("Error: smollm2-135m is not on this machine: run: localmem models pull smollm2-135m\n")
    assert not paths.agents.exists()


def test_a_broken_gguf_is_one_line_and_makes_no_agent(tmp_path: Path, paths: Paths) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\3" * 100)
    for model in (broken, tmp_path / "none.gguf", tmp_path):
        done = localmem("run", "-m", str(model), "Hi")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ")
        assert len(done.stderr.splitlines()) == 1
    assert not paths.agent_folder("default").exists()


def test_a_window_that_is_too_small_makes_no_agent(with_models: Path, paths: Paths) -> None:
    done = localmem("run", "-a", "small", "--n-ctx", "600", "Hi")
    assert done.returncode == 1
    assert "--n-ctx" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not paths.agent_folder("small").exists()


def test_ada_lives_in_lisbon(with_models: Path) -> None:
    """The issue's example: say it in one process, find it in the next, list it in a third."""
    said = localmem("run", "-a", "t", *SMALL, "-", stdin="My name is Ada and I live in Lisbon.")
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()
    found = localmem("search", "-a", "t", "Lisbon")
    assert found.returncode == 0, found.stderr
    assert "My name is Ada and I live in Lisbon." in found.stdout
    shown = json.loads(localmem("agents", "show", "t", "--json").stdout)
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"]
    assert shown["messages"][0]["text"] == "My name is Ada and I live in Lisbon."
    assert shown["messages"][1]["text"].strip() == said.stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_sigint_from_outside(with_models: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "localmem",
        "run",
        "-a",
        "t",
        "--n-ctx",
        "8192",
        "--prompt",
        "fewshot",
        "Tell a story.",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with subprocess.Popen(command, **start) as process:  # type: ignore[call-overload]
        log = Paths.default().agent_folder("t") / "agent.duckdb"
        while not log.exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr
