"""Reads models.yaml: the bundled file, the user's, and one given by hand, each merged over the one before.

Every file is checked by itself first, so that a mistake is reported with the file and key that hold it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from localmem.config import checks
from localmem.config.checks import Where
from localmem.config.entries import KV_DISK_BUDGET, Config, EmbedderConfig, HubSource, ModelConfig, Source
from localmem.config.keys import FILE, UNQUANTISED
from localmem.config.paths import Paths, bundled
from localmem.errors import ConfigError
from localmem.protocols import Sampling

VERSION = 1

Layer = dict[str, Any]


def load_config(extra: Path | None = None, paths: Paths | None = None) -> Config:
    """The bundled models.yaml, under the user's (in `paths`) where there is one, under `extra`. Raises ConfigError."""
    files = [bundled("models.yaml")]
    if (own := (paths or Paths.default()).models_file).exists():
        files.append(own)
    if extra is not None:
        files.append(extra.expanduser().absolute())
    merged: Layer = {}
    origin: dict[tuple[str, str], Path] = {}
    for file in files:
        layer = read_layer(file)
        origin |= {(kind, name): file for kind in ("models", "embedders") for name in layer.get(kind, {})}
        merged = _merge(merged, layer)
    return _build(merged, origin, files)


def read_layer(file: Path) -> Layer:
    """One file, checked by itself and not yet merged."""
    where = Where(file)
    data = checks.mapping(_read_yaml(file), where)
    version = data.get("version", VERSION)
    if version != VERSION:
        raise where.at("version").error(f"this localmem reads version {VERSION}, not {version!r}: upgrade localmem")
    layer: Layer = FILE(data, where)
    return layer


def _read_yaml(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{file}: {line}this is not YAML: {problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: this is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except ValueError as error:  # such as a date in month 13, or a number of 5,000 digits
        raise ConfigError(f"{file}: this is not YAML: {str(error)[:100]}") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deeply") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # which is refused below
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _merge(lower: Layer, upper: Layer) -> Layer:
    """`upper` over `lower`, mapping by mapping. A new source drops the old one's sha256 and adapter."""
    merged = dict(lower)
    if "source" in upper and upper["source"] != lower.get("source"):
        merged.pop("sha256", None)
        merged.pop("adapter", None)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _build(merged: Layer, origin: Mapping[tuple[str, str], Path], files: list[Path]) -> Config:
    defaults = merged.get("defaults", {})
    models, embedders = {}, {}
    for name, entry in merged.get("models", {}).items():
        where = Where(origin["models", name], ("models", name))
        models[name] = ModelConfig(name, _source(entry, where), **_settings(_merge(defaults, entry), where))
    for name, entry in merged.get("embedders", {}).items():
        where = Where(origin["embedders", name], ("embedders", name))
        rest = {key: value for key, value in entry.items() if key != "source"}
        embedders[name] = EmbedderConfig(name, _source(entry, where), **rest)
    config = Config(
        models,
        embedders,
        merged.get("default_model", ""),
        merged.get("default_embedder", ""),
        _settings(defaults, Where(files[-1], ("defaults",))),
        tuple(files),
        merged.get("kv_disk_budget", KV_DISK_BUDGET),
    )
    _check_names(config, files[-1])
    return config


def _source(entry: Layer, where: Where) -> Source:
    if "source" not in entry:
        raise where.error("needs a source: {path: FILE}, {pypi: NAME==VERSION, file: MEMBER} or {hf: REPO, file: FILE}")
    source: Source = entry["source"]
    if isinstance(source, HubSource) and not source.file and where.keys[0] == "models":
        raise where.at("source").error("a model needs the name of its file: {hf: OWNER/REPO, file: FILE.gguf}")
    return source


def _settings(entry: Layer, where: Where) -> dict[str, Any]:
    """The keyword arguments of ModelConfig, with the rules that bind more than one key."""
    settings = {key: value for key, value in entry.items() if key != "source"}
    settings["sampling"] = Sampling(**entry.get("sampling", {}))
    if settings.get("type_v", "f16") not in UNQUANTISED:
        if settings.get("flash_attn") == "off":
            raise where.error(f"type_v: {settings['type_v']} needs flash attention: set flash_attn: on, or type_v: f16")
        settings["flash_attn"] = "on"
    return settings


def _check_names(config: Config, file: Path) -> None:
    """Defaults exist, and a name means one thing."""
    config.model(config.default_model)
    config.embedder(config.default_embedder)
    for kind, entries in (("models", config.models), ("embedders", config.embedders)):
        taken: dict[str, str] = {name: name for name in entries}
        for name, entry in entries.items():
            for alias in entry.aliases:
                if taken.setdefault(alias, name) != name:
                    where = Where(file, (kind, name, "aliases"))
                    raise where.error(f"{alias!r} already names {taken[alias]!r}: choose another")
