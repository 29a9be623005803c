"""localmem bench: runs from end to end on real engines, finds what is invalid, and counts right."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import ROOT

from localmem import ConfigError, ModelError, ScriptedEngine
from localmem.bench import validity
from localmem.bench.first_call import document_of, first_request, shorter
from localmem.bench.random_life import Clock
from localmem.bench.rounds import Rounds, Run, Tally, interleaved
from localmem.bench.user_functions import bound_only, functions_of
from localmem.bench.validity import Call, Plan, judge, run_validity
from localmem.bench.verdicts import verdict
from localmem.cli import main
from localmem.functions import describe
from localmem.grammar.compile import BACKENDS, compile_grammar
from localmem.grammar.sources import Json, Regex
from localmem.protocols import Generation

FUNCTIONS = '''
import pathlib
import localmem

MARK = pathlib.Path({mark!r})


@localmem.function
def celsius(fahrenheit: float, places: int = 1) -> float:
    """Convert a temperature."""
    MARK.write_text("ran")
    return round((fahrenheit - 32) * 5 / 9, places)


@localmem.function
def fail(words: list[str]) -> str:
    """Always fails."""
    raise RuntimeError("on purpose")


def not_offered(x: int) -> int:
    """Is not decorated."""
    return x
'''


@pytest.fixture
def functions_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(FUNCTIONS.format(mark=str(tmp_path / "mark")))
    return file


def bench(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# -- throughput


def test_throughput_on_a_model_of_ones_own(tiny_model_path: Path, functions_file: Path, home: Path) -> None:
    flags = ["-m", str(tiny_model_path), "--threads", "1", "--n-ctx", "4096", "--prompt", "compact"]
    done = bench("throughput", *flags, "--rounds", "2", "--tokens", "8", "--json", "--functions", str(functions_file))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    figures = json.loads(done.stdout)
    names = [name for name in BACKENDS if name not in figures["left_out"]]
    assert list(figures["decode"]) == ["free", *names]
    assert {"llguidance", "gbnf"} <= set(names)
    small = {*figures["shorter_strings"], *figures["left_out"]}
    assert small == {"outlines"}, "the only one that has a size cap"
    assert set(figures["ratios"]) == {f"{name}/free" for name in names}
    assert (figures["benchmark"], figures["rounds"], figures["tokens"], figures["threads"]) == ("throughput", 2, 8, 1)
    for name in names:
        inside = figures["inside_us"][name]
        assert {"sampler", "validate", "forced"} <= set(inside), name
        assert all(0 < part["p50_us"] <= part["p99_us"] and part["calls_a_token"] > 0 for part in inside.values())
        assert figures["one_token_step_ms"][name] > 0
    assert set(figures["inside_us"]["free"]) == {"sampler"}
    assert not list(home.rglob("agent.duckdb")), "the agent that was asked lives in a temporary folder"


def test_the_table_of_throughput_is_readable(tiny_model_path: Path) -> None:
    flags = ["-m", str(tiny_model_path), "--threads", "1", "--n-ctx", "4096", "--prompt", "compact"]
    done = bench("throughput", *flags, "--rounds", "1", "--tokens", "4", "--backend", "llguidance")
    lines = done.stdout.splitlines()
    assert lines[0].endswith("1 rounds of 4 tokens")
    assert lines[2].startswith("WRITING")
    assert [line.split()[0] for line in lines[3:5]] == ["free", "llguidance"]
    assert any(line.startswith("reading: ") for line in lines)
    assert "gbnf" not in done.stdout


def _run(tallies: Sequence[Tally], log: list[tuple[str, int, int]], name: str) -> Run:
    queue = list(tallies)

    def run(left: int, seed: int) -> Tally:
        log.append((name, left, seed))
        return queue.pop(0)

    return run


def test_rounds_are_interleaved_and_ratios_are_taken_within_one() -> None:
    """The machine is half as fast in the second round: both are, and the ratio is not touched."""
    log: list[tuple[str, int, int]] = []
    fast = [Tally(), Tally(10, 10, 1.0, 4, 0.2, 1), Tally(10, 10, 2.0, 4, 0.4, 1)]
    slow = [Tally(), Tally(6, 3, 1.2), Tally(4, 2, 0.8), Tally(10, 5, 4.0)]
    seen: list[tuple[int, int]] = []
    runs = {"fast": _run(fast, log, "fast"), "slow": _run(slow, log, "slow")}
    result = interleaved(runs, 2, 10, lambda done, total: seen.append((done, total)))
    assert [name for name, _, _ in log] == ["fast", "slow", "fast", "slow", "slow", "fast", "slow"]
    assert log[4] == ("slow", 4, 2), "what is left, and another seed"
    assert seen[-1] == (6, 6)
    assert result.ratio("fast", "slow") == 2.0
    assert result.rate("fast") == 7.5
    assert result.span("fast") == (5.0, 10.0)
    assert result.sampled_ms("slow") == pytest.approx((400 + 800) / 2)
    assert result.forced_share("slow") == 0.5
    assert result.step_ms("fast") == pytest.approx(75.0)
    assert result.step_ms("slow") is None
    assert result.step_ratio("fast", "slow") is None
    assert result.sampled_ratio("slow", "fast") == pytest.approx(4.0)


def test_a_model_that_writes_nothing_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(ModelError, match="cannot be measured"):
        interleaved({"mute": lambda _left, _seed: Tally(seconds=0.1)}, 1, 8)


def test_the_first_request_is_an_agents_own() -> None:
    engine = ScriptedEngine(n_ctx=16384)
    request = first_request(engine, "compact", 99, [_greet])
    assert request.max_tokens == 99
    text = engine.vocabulary.detokenize(request.prompt)
    assert "cello" in text
    assert "greet" in json.dumps(request.source.schema)
    assert engine.prompts == [], "nothing was generated"
    cut = json.dumps(shorter(request.source, 60).schema)
    assert '"maxLength": 200' not in cut
    assert '"maxLength": 60' in cut
    assert shorter(Json({"const": "type", "maxLength": 99}), 60).schema["maxLength"] == 99


def _greet(who: str) -> str:
    """Greet somebody."""
    return who


def test_only_documents_are_measured() -> None:
    with pytest.raises(ConfigError, match="call_format"):
        document_of(compile_grammar(Regex("a")))


# -- validity


def test_validity_on_a_model_of_ones_own(tiny_gguf: Callable[..., Path], functions_file: Path, tmp_path: Path) -> None:
    path = tiny_gguf(n_ctx=8192)
    flags = ["-m", str(path), "--threads", "1", "--n-ctx", "6144", "--functions", str(functions_file)]
    done = bench("validity", *flags, "--calls", "20", "--json")
    assert (done.exit_code, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("\n") == 1
    figures = json.loads(done.stdout)
    assert figures["calls"] == figures["parsed"] == figures["fits"] == figures["complete"] == figures["valid"] == 20
    assert figures["executed"] + figures["handed_back"] == 20
    assert figures["wrong"] == []
    assert len(figures["by_function"]) >= 4
    assert "not_offered" not in figures["by_function"]
    assert sum(row["calls"] for row in figures["by_budget"]) == 20
    assert figures["by_budget"][0]["budget"] == "shortest legal"
    assert not (tmp_path / "mark").exists(), "arguments are bound, functions not run"


@pytest.mark.parametrize("backend", ["llguidance", "gbnf", pytest.param("outlines", marks=pytest.mark.slow)])
def test_validity_of_each_backend_and_its_table(tiny_model_path: Path, backend: str) -> None:
    flags = ["-m", str(tiny_model_path), "--threads", "1", "--n-ctx", "4096", "--temp", "1.5", "--seed", "4"]
    done = bench("validity", *flags, "--calls", "6", "--backend", backend)
    assert done.exit_code == 0, done.output
    assert f"{backend}, temperature 1.5, seed 4: 6 of 6 calls are valid" in done.stdout
    heads = [line.split()[:5] for line in done.stdout.splitlines() if line.startswith(("FUNCTION", "BUDGET"))]
    assert heads == [[head, "CALLS", "PARSED", "FITS", "COMPLETE"] for head in ("FUNCTION", "BUDGET")]


def test_user_functions_run_only_when_told_to(functions_file: Path, tmp_path: Path) -> None:
    own = functions_of(functions_file)
    assert [run.__name__ for run in own] == ["celsius", "fail"]
    calls = run_validity(ScriptedEngine(n_ctx=16384), Plan(calls=80, functions=own, execute=True))
    fates = {call.fate for call in calls if call.function == "fail"}
    assert "raised" in fates
    assert fates <= {"raised", "handed back"}
    assert (tmp_path / "mark").read_text() == "ran"
    assert all(call.valid for call in calls), "an exception of one's own makes no call invalid"


def test_budgets_are_spread_and_functions_take_turns() -> None:
    calls = run_validity(ScriptedEngine(n_ctx=16384), Plan(calls=60, seed=3))
    assert len(calls) == 60
    assert all(call.valid for call in calls), [call for call in calls if not call.valid]
    assert all(call.shortest <= call.budget <= 512 for call in calls)
    assert any(call.budget == call.shortest for call in calls)
    assert any(call.budget > 256 for call in calls)
    assert len({call.function for call in calls}) >= 6
    assert {call.generation.finish for call in calls if call.generation is not None} == {"stop", "closed"}


class Lying(ScriptedEngine):
    """Writes what it likes, now and then."""

    def __init__(self, text: str, finish: Any = "stop") -> None:
        super().__init__(n_ctx=16384)
        self.left = 5
        self.lie = Generation(text, [1] * len(text), finish)

    def generate(self, *args: Any, **options: Any) -> Generation:
        self.left -= 1
        return super().generate(*args, **options) if self.left > 0 else self.lie


@pytest.mark.parametrize(
    ("text", "finish", "wrong"),
    [
        ("{", "stop", "does not parse"),
        ("{}", "stop", "does not fit"),
        ('{"thought": "", "function": "no_such", "arguments": {}}', "stop", "does not fit"),
        ("{", "length", "does not parse"),
        ("x" * 600, "stop", "does not parse"),
    ],
)
def test_what_is_not_valid_is_found_and_never_reaches_the_agent(text: str, finish: str, wrong: str) -> None:
    calls = run_validity(Lying(text, finish), Plan(calls=20))
    assert len(calls) == 5, "the first wrong call ends the run"
    assert wrong in calls[-1].wrong
    assert not calls[-1].valid
    figures = verdict(calls)
    assert (figures["calls"], figures["valid"]) == (5, 4)
    assert wrong in figures["wrong"][0]["wrong"]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("text", "tokens", "finish", "verdicts", "wrong"),
    [
        ('{"a": 1}', 8, "stop", (True, True, True), ""),
        ('{"a": 1}', 8, "closed", (True, True, True), ""),
        ('{"a": 1}', 8, "length", (True, True, False), "ended with length"),
        ('{"a": 1}', 9, "stop", (True, True, True), "9 tokens were written, 8 allowed"),
        ('{"a": "1"}', 8, "stop", (True, False, True), "does not fit its schema: $.a: "),
        ('{"a": 1', 8, "stop", (False, False, False), "does not parse"),
        ("", 0, "closed", (False, False, False), "does not parse"),
    ],
)
def test_judging(text: str, tokens: int, finish: Any, verdicts: tuple[bool, ...], wrong: str) -> None:
    call = Call("f", 5, 8)
    judge(call, Generation(text, [0] * tokens, finish), SCHEMA)
    assert (call.parsed, call.fits, call.complete) == verdicts
    assert call.wrong.startswith(wrong)
    assert bool(call.wrong) == bool(wrong)


def test_an_invalid_call_is_exit_code_1(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call("send_message", 20, 40, Generation("\x1b[31m{", [1], "stop"), wrong="does not parse: here")
    monkeypatch.setattr(validity, "run_validity", lambda *_: [call])
    done = bench("validity", "-m", str(tiny_model_path), "--threads", "1", "--n-ctx", "512")
    assert done.exit_code == 1
    assert "0 of 1 calls are valid" in done.stdout
    assert "send_message in 40 tokens: does not parse: here: {" in done.stdout
    assert "\x1b" not in done.output


def test_a_built_in_that_fails_is_not_valid() -> None:
    assert Call("f", 1, 1, fate="executed").valid
    assert Call("f", 1, 1, fate="handed back").valid
    assert not Call("f", 1, 1, fate="failed").valid
    assert not Call("f", 1, 1).valid, "the agent never executed it"


# -- functions of a file


@pytest.mark.parametrize(
    ("text", "about"),
    [
        (None, "is no Python file"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("def f(x: int) -> int:\n    'Doc.'\n    return x", "no function decorated"),
        ("import localmem\n@localmem.function\ndef f(x):\n    'Doc.'", "parameter x has no type"),
    ],
)
def test_a_file_without_usable_functions_is_one_line(tmp_path: Path, text: str | None, about: str) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    done = bench("validity", "--functions", str(file))
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert about in done.stderr


def test_a_file_of_functions_may_have_dataclasses(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nimport dataclasses\nimport localmem\n"
        "@dataclasses.dataclass\nclass Item:\n    size: int\n"
        "@localmem.function\ndef f(x: int) -> int:\n    '''Double.\n\n    Args:\n        x: Any.\n    '''\n"
        "    return 2 * Item(x).size\n"
    )
    assert [run(2) for run in functions_of(file)] == [4]


def test_execute_needs_functions() -> None:
    assert bench("validity", "--execute").exit_code == 2


def test_a_stand_in_looks_the_same_and_binds(functions_file: Path) -> None:
    celsius = functions_of(functions_file)[0]
    real, stand_in = describe(celsius), describe(bound_only(celsius))
    assert (stand_in.name, stand_in.description, stand_in.parameters, stand_in.optional) == (
        real.name, real.description, real.parameters, real.optional,
    )  # fmt: skip
    assert stand_in.call({"fahrenheit": 86.0}).text == "bound"
    bind: Callable[..., Any] = stand_in.run
    with pytest.raises(TypeError):
        bind(places=1)


def test_a_bad_model_is_one_line(tmp_path: Path) -> None:
    for command in ("throughput", "validity"):
        done = bench(command, "-m", str(tmp_path / "none.gguf"))
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_ctrl_c_is_130_and_no_traceback(tiny_gguf: Callable[..., Path]) -> None:
    flags = ["-m", str(tiny_gguf(n_ctx=8192)), "--threads", "1", "--n-ctx", "8192"]
    start: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    lengths = {"throughput": ["--rounds", "500"], "validity": ["--calls", "5000"]}
    lines = [[sys.executable, "-m", "localmem", "bench", name, *flags, *length] for name, length in lengths.items()]
    with subprocess.Popen(lines[0], **start) as first, subprocess.Popen(lines[1], **start) as second:
        time.sleep(6)  # both at once: each of them loads for seconds
        for process in (first, second):
            assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
            assert (process.returncode, stdout, stderr) == (130, b"", b"")


def test_rounds_know_no_name_that_did_not_run() -> None:
    with pytest.raises(KeyError):
        Rounds({"free": [Tally(1, 1, 1.0)]}).rate("raw")


def test_days_pass_for_a_random_agent() -> None:
    clock = Clock(random.Random(5))
    times = []
    for _ in range(20):
        clock.pass_time()
        times.append(clock())
    assert times == sorted(times)
    assert len({time.date() for time in times}) > 2
