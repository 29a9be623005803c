"""Every slash command through `localmem chat`, its lines piped in; the model is scripted, all else is real."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from scripted_cli import Line, call, kinds, line, send

from localmem import Kind
from localmem.cli.chat_commands import COMMANDS
from localmem.config import Paths

__all__ = ["line"]

GREETED = [send("Hello, Ada.", "She greets me.")]


def test_help_lists_every_command(line: Line) -> None:
    done = line.chat("/help")
    assert done.exit_code == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^/{name}\b.*{re.escape(command.about)}$", done.stdout, re.M)


def test_every_command_has_a_test() -> None:
    tested = set(re.findall(r'"/([a-z]+)', Path(__file__).read_text(encoding="utf-8")))
    assert set(COMMANDS) <= tested


def test_a_reply_is_all_of_stdout(line: Line) -> None:
    done = line.chat("Hi, I am Ada.", answers=GREETED)
    assert (done.exit_code, done.stdout) == (0, "Hello, Ada.\n")
    assert "· She greets me.\n" in done.stderr
    assert "t · scripted · window 16384 tokens · nothing remembered yet · offline" in done.stderr
    assert "3 messages" not in done.stderr
    again = line.chat("/exit")
    assert "2 messages remembered" in again.stderr


def test_quiet_hides_thoughts_and_calls(line: Line) -> None:
    answers = [call("core_memory_append", "Save it.", block="human", content="Name: Ada."), send("Hello.", "Greet.")]
    shown = line.chat("I am Ada.", answers=answers)
    assert "→ core_memory_append(block='human', content='Name: Ada.')" in shown.stderr
    assert "← ok: human is now: Name: Ada." in shown.stderr
    hidden = line.chat(
        "I am Ada.", answers=[call("archival_memory_insert", "x", content="y"), send("Hi.", "z")], flags=["-q"]
    )
    assert hidden.stdout == "Hi.\n"
    assert not re.search("[→←·] (?!scripted|window|2 mess|offline)", hidden.stderr)


def test_debug_shows_what_a_generation_took(line: Line) -> None:
    done = line.chat("Hi", answers=GREETED, flags=["--debug"])
    assert re.search(r"\d+ tokens \(\d+ forced\).*; prompt \d+, \d+ reused; first after .*; stop", done.stderr)


@pytest.mark.parametrize(("command", "exits"), [("/exit", 0), ("/quit", 0)])
def test_exit_leaves_the_rest_unsaid(line: Line, command: str, exits: int) -> None:
    done = line.chat(command, "never said", "/nonsense")
    assert done.exit_code == exits
    assert line.engines[0].prompts == []


@pytest.mark.parametrize(("typed", "said"), [("/memroy", "did you mean /memory?"), ("/xyzzy", "/help lists them")])
def test_an_unknown_command_never_reaches_the_model(line: Line, typed: str, said: str) -> None:
    done = line.chat(typed, "/memory")
    assert done.exit_code == 1
    assert f"Error: there is no command {typed}" in done.stderr
    assert said in done.stderr
    assert "persona" in done.stdout  # the chat went on
    assert line.engines[0].prompts == []


def test_two_slashes_say_one(line: Line) -> None:
    done = line.chat("//etc/hosts is a file", answers=[send("It is.")])
    assert done.stdout == "It is.\n"
    assert "/etc/hosts is a file" in line.engines[0].prompts[0]
    assert "//etc" not in line.engines[0].prompts[0]


def test_memory_block_and_undo(line: Line, paths: Paths) -> None:
    done = line.chat(
        "/block hobbies chess", "/block hobbies go", "/block hobbies", "/undo hobbies", "/block human Name: Ada.",
        "/memory", "/undo hobbies", "/block", "/block Bad-Label x", "/undo", "/undo nope", f"/block human {'x' * 601}",
    )  # fmt: skip
    assert "new block hobbies (5 of 600 characters)" in done.stdout
    assert "hobbies is set (2 of 600 characters); /undo hobbies takes it back" in done.stdout
    assert "hobbies (2 of 600 characters)\ngo" in done.stdout
    assert "hobbies is now:\nchess" in done.stdout
    assert "human (10 of 600 characters)\n  Name: Ada.\nhobbies (5 of 600 characters)\n  chess" in done.stdout
    assert "archival: 0 passages, 0 documents" in done.stdout
    for wrong in (
        "no edit to undo",
        "which block? write /block",
        "'Bad-Label' cannot name",
        "no block 'nope'",
        "this has 601",
    ):
        assert wrong in done.stderr
    assert done.exit_code == 1
    assert kinds(paths) == [Kind.LOGIN, *[Kind.ALERT] * 5]


def test_the_model_is_told_of_blocks(line: Line) -> None:
    line.chat("/block hobbies chess", "/block hobbies go", "/undo hobbies", "Hi", answers=GREETED)
    prompt = line.engines[0].prompts[0]
    assert "The user added a block to core memory. hobbies is:\nchess" in prompt
    assert "The user changed core memory. hobbies is now:\ngo" in prompt
    assert re.search(r"took back the last change of core memory. hobbies is now:.*\bchess", prompt, re.S)


def test_save_load_pop_and_dump(line: Line) -> None:
    done = line.chat(
        "/load", "one", "/save first", "two", "/pop", "/dump 1", "/load first", "/load", "/load nope", "three",
        "/save", "/pop 9", "/pop", "/dump", "/pop none", "/dump 0",
        answers=[send("1"), send("2"), send("3")],
    )  # fmt: skip
    out = done.stdout
    assert "saved: nothing yet; /save does it" in out
    assert "saved as first; /load first comes back here" in out
    assert re.search(r"back before #\d+: two\n#\d+ \S+ \S+ assistant_message: 1\n", out)
    assert "back at first: 2 messages remembered\nsaved: first\n" in out
    assert re.search(r"saved as \d{4}-\d\d-\d\d_", out)
    assert re.search(r"back before #\d+: one\nThere is no exchange to take back.\n#1 \S+ \S+ login: ", out)
    assert "Nothing is saved as 'nope'; saved are: first." in done.stderr
    assert "'none' is no count" in done.stderr
    assert "'0' is no count" in done.stderr
    assert "two" not in line.engines[0].prompts[2]


def test_pop_takes_memory_edits_back(line: Line) -> None:
    answers = [call("core_memory_append", block="human", content="Name: Ada."), send("Noted.")]
    done = line.chat("I am Ada.", "/pop", "/memory", answers=answers)
    assert "human (0 of 600 characters)" in done.stdout


def test_retry_answers_the_same_message_anew(line: Line) -> None:
    done = line.chat("Guess.", "/retry", "/dump", answers=[send("Heads."), send("Tails.")])
    assert done.stdout.startswith("Heads.\nTails.\n")
    dumped = done.stdout.partition("Tails.\n")[2]
    assert "Heads." not in dumped
    assert dumped.count("user_message: Guess.") == 1
    nothing = line.run("chat", "-a", "new", lines=["/retry"])
    assert "There is no message to answer again" in nothing.stderr


def test_heartbeat_and_timer(line: Line) -> None:
    done = line.chat(
        "/timer", "/timer 1h tea", "/timer 30m", "/timer soon tea", "/timer", "/timer off", "/timer", "/heartbeat",
        "/timer 0.001s wake up", "/search x", "/stats", "/timer", answers=[send("I am here."), send("Wake up!")],
    )  # fmt: skip
    assert "no timer is set; write /timer 10m TEXT\nin 1h: tea\nin 1h: tea\n1 timers forgotten\nno timer" in done.stdout
    assert "what is the timer for?" in done.stderr
    assert "'soon' is no length of time" in done.stderr
    assert "I am here.\n" in done.stdout
    assert "Wake up!\n" in done.stdout
    assert "timer: wake up" in line.engines[0].prompts[1]


def test_a_timer_that_is_not_due_is_named_when_the_chat_ends(line: Line) -> None:
    assert "forgotten: the timer that was due in 1h: tea" in line.chat("/timer 1h tea").stderr


def test_heartbeats_come_by_themselves(line: Line, paths: Paths) -> None:
    line.chat("/help", "/help", flags=["--heartbeat-every", "0.001s"], answers=[send(str(i)) for i in range(9)])
    assert Kind.HEARTBEAT in kinds(paths)


def test_memorywarning_summarize_and_context(line: Line) -> None:
    answers = [send("1"), send("2"), send("3")]
    line.script = lambda prompt: call(
        "page_out", "Old.", through=int(re.findall(r"through #(\d+)", prompt)[-1]), summary="Ada."
    )
    done = line.chat("/summarize", "one", "two", "three", "/memorywarning", "/context", "/summarize", answers=answers)
    assert "There is nothing to summarize yet." in done.stdout
    assert re.search(r"told: Memory pressure: main context is \d+ % full", done.stdout)
    assert re.search(r"^system +\d+ tokens  █", done.stdout, re.M)
    assert re.search(r"^in use +\d+ of \d+ usable: pressure \d+%", done.stdout, re.M)
    assert re.search(r"summarized: \d+ tokens before, \d+ now", done.stdout)
    assert re.search(r"≡ summary of #\d+ to #\d+: ", done.stderr)


def test_stats(line: Line) -> None:
    done = line.chat("Hi", "/stats", answers=GREETED)
    assert re.search(r"^messages +2$", done.stdout, re.M)
    assert re.search(r"^generations +1$", done.stdout, re.M)
    assert re.search(r"^model +scripted, n_ctx 16384$", done.stdout, re.M)


def test_attach_search_and_why(line: Line, tmp_path: Path) -> None:
    notes = tmp_path / "my notes"
    notes.mkdir()
    (notes / "boat.md").write_text("# Boat\n\nThe boat is moored at pier seven.\n")
    (notes / "image.png").write_bytes(b"\0\1\2")
    (notes / ".secret").write_text("no")
    answers = [call("archival_memory_search", query="boat", page=1), send("At pier seven.")]
    done = line.chat(
        "/why", "/attach", "/attach /nowhere", f"/attach {notes}", f"/attach '{notes}'", "/search pier", "/search",
        "/search zebra", "Where is it?", "/why", "/pop", answers=answers,
    )  # fmt: skip
    assert "There is no reply yet." in done.stdout
    assert "my notes/boat.md: 1 new passages\nmy notes/boat.md: unchanged\n" in done.stdout
    assert f"skipped {notes / 'image.png'}: binary" in done.stderr
    assert "skipped 1 hidden files" in done.stderr
    assert "there is no /nowhere" in done.stderr
    assert "nothing to attach" in done.stderr
    assert "nothing to search for" in done.stderr
    assert re.search(rf"archival: 1 found\n  {re.escape(str(notes))}/boat.md:\d.*\n    # Boat", done.stdout)
    assert "recall: 0 found\narchival: 0 found" in done.stdout
    why = done.stdout.rpartition("At pier seven.\n#")[2]
    assert re.search(
        rf"called archival_memory_search\(query='boat', page=1\)\nshown {re.escape(str(notes))}/boat.md", why
    )
    assert "  The boat is moored at pier seven." in why
    assert "The user gave you documents: my notes/boat.md." in line.engines[0].prompts[0]


def test_why_without_a_search(line: Line) -> None:
    done = line.chat("Hi", "/why", answers=GREETED)
    assert "It was shown no search results" in done.stdout


def test_why_shows_what_was_said_and_noted(line: Line) -> None:
    line.chat(
        "My boat is called Ondine.", answers=[call("archival_memory_insert", content="Boat: Ondine."), send("Nice.")]
    )
    line.script = None
    answers = [call("archival_memory_search", query="Ondine", page=1), send("Ondine.")]
    done = line.chat("What is its name?", "/why", answers=answers)
    assert re.search(r"shown #\d+ .*function_call\n  Boat: Ondine.", done.stdout)


def test_model_goes_on_with_another_one(line: Line) -> None:
    def load(model: object, **options: object) -> object:
        if getattr(model, "name", "") == "qwen3-0.6b":
            from localmem import ModelError

            raise ModelError("it is broken: pull it again")
        return line.load_engine(model, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localmem.engine.load.load_engine", load)
        done = line.chat(
            "/model", "/block human Ada", "/model smollm2-1.7b", "/memory", "/model qwen3-0.6b", "/model nope",
            "/memory", flags=["--n-ctx", "5000", "--temp", "0.2", "--seed", "7"],
        )  # fmt: skip
    assert done.stdout.startswith("now scripted; there are: smollm2-135m, ")
    assert "now scripted, n_ctx 16384; 0 messages remembered" in done.stdout
    assert "Error: it is broken: pull it again" in done.stderr
    assert "no model is called 'nope'" in done.stderr
    assert done.stdout.count("  Ada\n") == 2
    names = [model.name for model, _ in line.loaded]
    assert names[:3] == ["smollm2-135m", "smollm2-1.7b", "smollm2-1.7b"]
    for model, options in line.loaded:
        assert options["n_ctx"] == 5000
        assert (model.sampling.temperature, model.sampling.seed) == (0.2, 7)


# -- arriving


def test_the_login_is_recorded_and_the_opener_speaks_first(line: Line, paths: Paths) -> None:
    line.chat("Hi", answers=GREETED)
    assert line.chat("/exit", flags=["--opener"]).stdout == ""  # away for less than 4 hours
    done = line.chat("/exit", flags=["--opener", "0"], answers=[send("Welcome back!")])
    assert done.stdout == "Welcome back!\n"
    assert "login: the user is back after less than a minute. Earlier messages: 2" in line.engines[-1].prompts[0]
    assert kinds(paths).count(Kind.LOGIN) == 3


@pytest.mark.parametrize(
    "flags",
    [
        ["--opener", "x"],
        ["--heartbeat-every", "soon"],
        ["--n-ctx", "many"],
        ["--temp", "-1"],
        ["--prompt", "x"],
        ["text"],
    ],
)
def test_wrong_flags_are_usage_errors(line: Line, flags: list[str]) -> None:
    assert line.chat(flags=flags).exit_code == 2


def test_ctrl_c_stops_the_reply_and_a_piped_chat(line: Line, paths: Paths) -> None:
    def script(_: str) -> dict[str, object]:
        signal.raise_signal(signal.SIGINT)
        return send("never said")

    line.script = script
    done = line.chat("Hi", "/nonsense")
    assert done.exit_code == 130
    assert "nonsense" not in done.stderr
    assert "! stopped" in done.stderr
    assert kinds(paths) == [Kind.LOGIN, Kind.USER, Kind.ASSISTANT, Kind.ALERT]


def test_a_message_left_unanswered_is_shown(line: Line, paths: Paths) -> None:
    from localmem.memory.store import Store

    line.chat("Hi", answers=GREETED)
    store = Store.open(paths.agent_folder("t") / "agent.duckdb")
    store.append(Kind.USER, "Are you there?")
    store.close()
    done = line.chat("/retry", answers=[send("I am.")])
    assert "left unanswered: Are you there?" in done.stderr
    assert "/retry answers it" in done.stderr
    assert done.stdout == "I am.\n"


def test_control_characters_do_not_reach_the_terminal(line: Line) -> None:
    hostile = "a\x9b31mb\x1b]0;title\x07c"
    done = line.chat(f"/block human {hostile}", "/memory", hostile, "/dump", "/search title", answers=[send("Hi.")])
    assert "  abc\n" in done.stdout
    assert not re.search(r"[\x1b\x9b\x07]", done.output)


def test_a_message_that_is_too_long_becomes_a_document(line: Line) -> None:
    done = line.chat("word " * 5000, answers=[send("Long.")])
    assert "kept whole as the document message-2" in done.stderr
    assert done.stdout == "Long.\n"


def test_personas_are_for_new_agents(line: Line, tmp_path: Path) -> None:
    (tmp_path / "pirate.txt").write_text("I am a pirate.")
    flags = ["--persona", str(tmp_path / "pirate.txt"), "--human", "Ada, a sailor."]
    done = line.chat("/memory", flags=flags)
    assert "  I am a pirate.\n" in done.stdout
    assert "  Ada, a sailor.\n" in done.stdout
    assert "has its blocks already" in line.chat("/exit", flags=flags).stderr
    unknown = line.run("chat", "-a", "u", "--persona", "nobody")
    assert unknown.exit_code == 1
    assert not Paths.default().agent_folder("u").exists()


def test_an_agent_in_use_is_refused(line: Line, paths: Paths) -> None:
    from localmem.memory.store import Store

    line.chat("Hi", answers=GREETED)
    store = Store.open(paths.agent_folder("t") / "agent.duckdb")
    try:
        done = line.chat("/exit")
    finally:
        store.close()
    assert done.exit_code == 1
    assert "already open" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_stats_are_the_same_by_run(line: Line) -> None:
    done = line.run("run", "-a", "t", "--json", "Hi", stdin="", answers=GREETED)
    assert json.loads(done.stdout)["stats"]["generations"] == 1
