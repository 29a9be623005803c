"""What models.yaml comes to: one frozen dataclass for each kind of entry, and the catalogue of all of them.

Every value is checked before it gets here; nothing in this file reads a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from localmem.config.checks import did_you_mean
from localmem.errors import ConfigError
from localmem.protocols import Sampling


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file (for an embedder: a folder) on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PypiSource:
    """`file`, a member of the wheel that the requirement `pypi` names; for an embedder a folder in it."""

    pypi: str
    file: str

    def __str__(self) -> str:
        return f"the wheel {self.pypi}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """`file` of the Hugging Face repository `hf`; for an embedder the repository itself (`file` is "")."""

    hf: str
    file: str

    def __str__(self) -> str:
        return f"hf:{self.hf}/{self.file}".rstrip("/")


Source = PathSource | PypiSource | HubSource


#: What the weights of a merged model may be written as.
MERGED_TYPES = ("f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


@dataclass(frozen=True, slots=True)
class Quantisation:
    """The type of a merged model's weights; those of the token embedding and of feed-forward layers may differ, and
    among these the ones that lead back down."""

    default: str
    embedding: str
    ffn: str
    ffn_down: str

    def __str__(self) -> str:
        parts = (("embedding", self.embedding, self.default), ("ffn", self.ffn, self.default))
        others = (*parts, ("ffn_down", self.ffn_down, self.ffn))
        return ", ".join([self.default, *(f"{part} {kind}" for part, kind, usual in others if kind != usual)])


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA in GGUF format: applied as the model runs, or with `merge` once, into a file of its own."""

    path: Path
    scale: float = 1.0
    sha256: str | None = None
    merge: Quantisation | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One language model and how to run it. Field by field as the comments of the bundled models.yaml say.

    `n_ctx` 0 means "what fits", `threads` 0 "the physical cores". A quantised `type_v` comes with `flash_attn` "on".
    """

    name: str
    source: Source
    sha256: str | None = None
    n_ctx: int = 0
    n_gpu_layers: int | Literal["auto", "all"] = "auto"
    threads: int = 0
    n_batch: int = 512
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: str = "f16"
    type_v: str = "f16"
    idle_rebase: bool = True
    chat_template: Path | Literal["gguf"] = "gguf"
    prompt: str = "compact"
    quoting: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    call_format: Literal["auto", "json", "native"] = "auto"
    thinking: int | Literal["auto"] = "auto"
    adapter: Adapter | None = None
    aliases: tuple[str, ...] = ()
    licence: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """One embedder: a folder in the format of sentence-transformers. `sha256` covers every file in it."""

    name: str
    source: Source
    sha256: str | None = None
    aliases: tuple[str, ...] = ()
    licence: str = ""
    notes: str = ""


#: Bytes that all snapshots of the KV cache may take together.
KV_DISK_BUDGET = 2_000_000_000

Entry = TypeVar("Entry", ModelConfig, EmbedderConfig)


@dataclass(frozen=True, slots=True)
class Config:
    """The catalogue: all of models.yaml, merged. `files` are those it was read from, lowest first.

    `kv_disk_budget` is in bytes, of all snapshots together; 0 means that there are none.
    """

    models: Mapping[str, ModelConfig]
    embedders: Mapping[str, EmbedderConfig]
    default_model: str
    default_embedder: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    kv_disk_budget: int = KV_DISK_BUDGET

    def model(self, name: str | os.PathLike[str] | None = None) -> ModelConfig:
        """The model of that name or alias, or the GGUF file at that path with the defaults; None is the default one."""
        wanted = self.default_model if name is None else os.fspath(name)
        if (found := _find(self.models, wanted)) is not None:
            return found
        if wanted.lower().endswith(".gguf") or os.sep in wanted or "/" in wanted:
            path = Path(wanted).expanduser().absolute()
            return ModelConfig(path.stem, PathSource(path), **self.defaults)
        raise _unknown("model", wanted, self.models)

    def embedder(self, name: str | None = None) -> EmbedderConfig:
        """The embedder of that name or alias; None is the default one."""
        wanted = self.default_embedder if name is None else name
        if (found := _find(self.embedders, wanted)) is not None:
            return found
        raise _unknown("embedder", wanted, self.embedders)


def _find(entries: Mapping[str, Entry], name: str) -> Entry | None:
    if name in entries:
        return entries[name]
    for entry in entries.values():
        if name in entry.aliases:
            return entry
    return None


def _unknown(kind: str, name: str, entries: Mapping[str, ModelConfig] | Mapping[str, EmbedderConfig]) -> ConfigError:
    words = [word for known, entry in entries.items() for word in (known, *entry.aliases)]
    hint = did_you_mean(name, words) or "."
    path = ", or the path of a .gguf file" if kind == "model" else ""
    return ConfigError(f"no {kind} is called {name!r}{hint} Known are {', '.join(entries)}{path}")
