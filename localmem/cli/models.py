"""localmem models: list, inspect, fetch and add models.

Knows no engine: all that is shown comes from models.yaml, the file's own metadata and the machine.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from localmem import models as files
from localmem.cli import console
from localmem.cli.models_file import add_entry
from localmem.config import Adapter, Config, EmbedderConfig, ModelConfig, Paths, PathSource
from localmem.errors import ConfigError, ModelError

Entry = ModelConfig | EmbedderConfig


@click.group()
def models() -> None:
    """List, inspect, fetch and add models."""


@models.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ls(as_json: bool) -> None:
    """List the models and embedders that models.yaml names; * marks the default."""
    config, paths = console.configuration(), Paths.default()
    entries: list[Entry] = [*config.models.values(), *config.embedders.values()]
    listed = [_listed(entry, config, paths) for entry in entries]
    if as_json:
        return console.print_json(listed)
    rows = [("NAME", "KIND", "HERE", "LICENCE", "SOURCE")]
    for item in listed:
        here = files.human(item["size"]) if item["here"] else "-"
        rows.append((item["name"] + " *" * item["default"], item["kind"], here, item["licence"], item["source"]))
    return console.print_table(rows)


def _listed(entry: Entry, config: Config, paths: Paths) -> dict[str, Any]:
    path = own = files.place(entry.source, paths)
    here = own.exists()
    if isinstance(entry, ModelConfig) and files.merges(entry) and here:
        try:
            path = files.locate(entry, paths)
        except ModelError:  # not merged yet, or without its adapter
            here = False
    default = (config.model(), config.embedder())
    return {
        "name": entry.name,
        "kind": "model" if isinstance(entry, ModelConfig) else "embedder",
        "default": entry in default,
        "here": here,
        "path": str(path),
        "size": sum(map(_size, {own, path})),
        "licence": entry.licence,
        "aliases": list(entry.aliases),
        "source": str(entry.source),
        "notes": entry.notes,
    }


def _size(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


@models.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the chat template.")
def show(name: str | None, as_json: bool) -> None:
    """Show the settings of NAME (a model, an embedder or a .gguf file) and what its file says about itself."""
    config, paths = console.configuration(), Paths.default()
    entry = _find(config, name)
    shown = _listed(entry, config, paths) | {"settings": _settings(entry)}
    missing = isinstance(entry.source, PathSource) and not shown["size"]
    if isinstance(entry, ModelConfig) and (shown["here"] or missing):  # which is said as an error
        shown["file"] = _file_facts(entry, paths)
    if as_json:
        return console.print_json(shown)
    if isinstance(entry, ModelConfig) and entry.adapter is not None:
        shown["settings"]["adapter"] = _adapter(entry.adapter)
    return _print_shown(shown)


def _adapter(adapter: Adapter) -> str:
    how = "applied as the model runs" if adapter.merge is None else f"merged: {adapter.merge}"
    return f"{adapter.path} (scale {adapter.scale:g}, {how})"


def _print_shown(shown: dict[str, Any]) -> None:
    """Three parts: the entry, its settings in the words of models.yaml, and the file's own facts."""
    settings, facts = shown.pop("settings"), shown.pop("file", {})
    if facts:
        template = facts["chat_template"]
        facts["chat_template"] = f"{len(template)} characters" if template else "none"
    for part in (shown, settings, facts):
        for key, value in part.items():
            click.echo(f"{key:18}  {_plain(key, value)}")
        click.echo()
    if not shown["here"]:
        pull = f"localmem models pull {shown['name']}"
        if shown["size"]:
            click.echo(f"Its adapter is not merged into it; to do so: {pull}")
        else:
            click.echo(f"Its file is not here; to fetch it: {pull}")


def _find(config: Config, name: str | None) -> Entry:
    """A model, else an embedder; the complaint is about models, of which there are more."""
    try:
        return config.model(name)
    except ConfigError:
        known = {alias for entry in config.embedders.values() for alias in (entry.name, *entry.aliases)}
        if name in known:
            return config.embedder(name)
        raise


def _settings(entry: Entry) -> dict[str, Any]:
    about = {"name", "source", "aliases", "licence", "notes"}
    return {key: value for key, value in asdict(entry).items() if key not in about}


def _file_facts(model: ModelConfig, paths: Paths) -> dict[str, Any]:
    """What the file says, and what that means on this machine."""
    info = files.read_gguf(files.locate(model, paths))
    ram = files.available_ram()
    n_ctx = min(model.n_ctx, info.context_length) or files.fitting_context(info, model, ram)
    return {
        "architecture": info.architecture,
        "model_name": info.name,
        "parameters": info.parameters,
        "quantisation": info.quantisation,
        "file_size": info.file_size,
        "layers": info.n_layer,
        "vocabulary": info.n_vocab,
        "context_length": info.context_length,
        "sliding_window": info.sliding_window,
        "kv_bytes_per_token": files.kv_bytes_per_token(info, model.type_k, model.type_v),
        "memory_needed": files.memory_estimate(info, model, n_ctx),
        "memory_free": ram,
        "context_that_fits": files.fitting_context(info, model, ram),
        "chat_template": info.chat_template,
    }


def _plain(key: str, value: Any) -> str:
    """A value as a person reads it."""
    if key in ("size", "file_size", "memory_needed", "memory_free"):
        return files.human(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return console.strip_control(str(value)) if value not in (None, "") else "-"


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def pull(names: tuple[str, ...]) -> None:
    """Fetch models or embedders; without a NAME the default ones. What is here and right is not fetched again."""
    config, paths = console.configuration(), Paths.default()
    entries = [_find(config, name) for name in names] or [config.model(), config.embedder()]
    for entry in entries:
        path = _pull(entry, paths)
        about = f", {entry.licence}" if entry.licence else ""
        click.echo(f"{entry.name}: {path} ({files.human(_size(path))}{about})")


def _pull(entry: Entry, paths: Paths) -> Path:
    try:
        files.check(entry, paths)
    except ModelError:
        return console.pull(entry, paths)
    return files.locate(entry, paths) if isinstance(entry, ModelConfig) else files.place(entry.source, paths)


@models.command()
@click.argument("name", required=False)
def path(name: str | None) -> None:
    """Print where the file of NAME is; without a NAME, your models.yaml and the folders in use."""
    paths = Paths.default()
    if name is not None:
        entry = _find(console.configuration(), name)
        is_model = isinstance(entry, ModelConfig)
        click.echo(files.locate(entry, paths) if is_model else files.locate_embedder(entry, paths))  # type: ignore[arg-type]
        return
    rows = [("models.yaml", paths.models_file), ("models", paths.models), ("agents", paths.agents)]
    for label, folder in [*rows, ("cache", paths.cache), ("state", paths.state)]:
        click.echo(f"{label:12}  {folder}")


@models.command()
@click.argument("name")
@click.argument("source")
@click.option("--prompt", type=click.Choice(["compact", "fewshot"]), help="The prompt preset.")
@click.option("--n-ctx", type=click.IntRange(0), help="Tokens of main context; 0 is what fits.")
@click.option("--licence", help="Its licence.")
def add(name: str, source: str, **options: str | int | None) -> None:
    """Add the model NAME to your models.yaml. SOURCE is the path of a .gguf file, or hf:OWNER/REPO/FILE."""
    config, paths = console.configuration(), Paths.default()
    if name in config.models:
        raise ConfigError(f"{name!r} is known already: choose another name, or edit {paths.models_file}")
    entry: dict[str, Any] = {"source": _source(source)}
    entry |= {key: value for key, value in options.items() if value is not None}
    add_entry(paths.models_file, name, entry)
    click.echo(f"{name} is in {paths.models_file}. Talk to it with: localmem chat -m {name}")


def _source(text: str) -> dict[str, str]:
    """The `source` that `text` stands for; a local file is opened and checked."""
    if text.startswith("hf:"):
        parts = text.removeprefix("hf:").split("/", 2)
        if len(parts) < 3 or not all(parts):
            raise ConfigError(f"{text} is incomplete: write hf:OWNER/REPO/FILE.gguf")
        return {"hf": f"{parts[0]}/{parts[1]}", "file": parts[2]}
    if "://" in text:
        raise ConfigError(f"{text} is a URL: write hf:OWNER/REPO/FILE.gguf, or download the file and give its path")
    file = Path(text).expanduser().absolute()
    files.read_gguf(file)
    return {"path": str(file)}
