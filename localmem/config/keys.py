"""Which keys models.yaml has, and which check belongs to each.

Knows one file at a time: what holds between keys, and between files, is `load`'s business.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from localmem.config import checks
from localmem.config.checks import Check, Where
from localmem.config.entries import MERGED_TYPES, Adapter, HubSource, PathSource, PypiSource, Quantisation, Source
from localmem.config.paths import packaged_adapter

PRESETS = ("compact", "fewshot")
UNQUANTISED = ("f32", "f16", "bf16")
KV_TYPES = (*UNQUANTISED, "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def _check_source(value: Any, where: Where) -> Source:
    given = _SOURCE(value, where)
    keys = set(given)
    if keys == {"path"}:
        return PathSource(given["path"])
    if keys == {"pypi", "file"}:
        return PypiSource(given["pypi"], given["file"])
    if keys in ({"hf"}, {"hf", "file"}):
        return HubSource(given["hf"], given.get("file", ""))
    raise where.error("must be one of {path: FILE}, {pypi: NAME==VERSION, file: MEMBER}, {hf: OWNER/REPO, file: FILE}")


def _check_adapter(value: Any, where: Where) -> Adapter:
    if isinstance(value, str):
        return Adapter(checks.file_path(value, where))
    given = _ADAPTER(value, where)
    if ("path" in given) == ("package" in given):
        raise where.error(
            "needs a path: FILE or {path: FILE, scale: 1.0}, or {package: FILE} for one of localmem's own"
        )
    path = given.pop("path", None) or packaged_adapter(given.pop("package"))
    return Adapter(path, **given)


def _check_merge(value: Any, where: Where) -> Quantisation:
    """One type for all weights, or a mapping with a default."""
    if isinstance(value, str):
        kind = _MERGED_TYPE(value, where)
        return Quantisation(kind, kind, kind, kind)
    given = _MERGE(value, where)
    if "default" not in given:
        raise where.error("needs a type: q8_0 or {default: q8_0, ffn: q4_0}")
    ffn = given.get("ffn", given["default"])
    return Quantisation(**({"embedding": given["default"], "ffn": ffn, "ffn_down": ffn} | given))


def _check_layers(value: Any, where: Where) -> int | str:
    layers: int | str = value if value in ("auto", "all") else checks.whole(0)(value, where)
    return layers


def _check_thinking(value: Any, where: Where) -> int | str:
    tokens: int | str = value if value == "auto" else checks.whole(0)(value, where)
    return tokens


def _check_switch(value: Any, where: Where) -> str:
    """auto, on or off; YAML reads a bare on and off as booleans."""
    spelled = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    switch: str = checks.one_of("auto", "on", "off")(spelled, where)
    return switch


def _check_on(value: Any, where: Where) -> bool:
    """on or off, bare or in quotes."""
    spelled = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    return bool(checks.one_of("on", "off")(spelled, where) == "on")


def _check_template(value: Any, where: Where) -> Path | str:
    return "gguf" if value == "gguf" else checks.file_path(value, where)


_SOURCE = checks.fields(
    {
        "path": checks.file_path,
        "pypi": checks.matching(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+", "NAME==VERSION"),
        "hf": checks.matching(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", "OWNER/REPO"),
        "file": checks.member,
    }
)
_MERGED_TYPE = checks.one_of(*MERGED_TYPES)
_MERGE = checks.fields(dict.fromkeys(("default", "embedding", "ffn", "ffn_down"), _MERGED_TYPE))
_ADAPTER = checks.fields(
    {
        "path": checks.file_path,
        "package": checks.matching(r"[\w-][\w.-]*\.gguf", "the name of a file in localmem/adapters: NAME.gguf"),
        "scale": checks.number(-math.inf, math.inf),
        "sha256": checks.optional(checks.sha256),
        "merge": checks.optional(_check_merge),
    }
)
_SETTINGS: dict[str, Check] = {
    "n_ctx": checks.whole(0),
    "n_gpu_layers": _check_layers,
    "threads": checks.whole(0),
    "n_batch": checks.whole(1),
    "flash_attn": _check_switch,
    "type_k": checks.one_of(*KV_TYPES),
    "type_v": checks.one_of(*KV_TYPES),
    "idle_rebase": _check_on,
    "chat_template": _check_template,
    "prompt": checks.one_of(*PRESETS),
    "quoting": _check_on,
    "call_format": checks.one_of("auto", "json", "native"),
    "thinking": _check_thinking,
    "sampling": checks.fields(
        {
            "temperature": checks.number(0, math.inf),
            "top_k": checks.whole(0),
            "top_p": checks.number(0, 1),
            "min_p": checks.number(0, 1),
            "seed": checks.optional(checks.whole(0)),
        }
    ),
}
_ABOUT: dict[str, Check] = {
    "source": _check_source,
    "sha256": checks.optional(checks.sha256),
    "aliases": checks.names,
    "licence": checks.text,
    "notes": checks.text,
}
#: The whole file.
FILE = checks.fields(
    {
        "version": checks.whole(1),
        "default_model": checks.text,
        "default_embedder": checks.text,
        "kv_disk_budget": checks.size,
        "defaults": checks.fields(_SETTINGS),
        "models": checks.named(checks.fields(_ABOUT | _SETTINGS | {"adapter": checks.optional(_check_adapter)})),
        "embedders": checks.named(checks.fields(_ABOUT)),
    }
)
