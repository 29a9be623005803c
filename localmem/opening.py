"""open_agent: a name -> an Agent, its parts put together and every limit checked before the first word."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from localmem.agent import Agent, Parts
from localmem.config import Config, ModelConfig, Paths, check_agent_name, load_config
from localmem.context import MainContext
from localmem.engine.snapshots import Snapshots
from localmem.errors import ConfigError, ModelError
from localmem.functions import Function, check_names, describe
from localmem.generating import Speech
from localmem.limits import Limits
from localmem.lookups import Lookups
from localmem.memory.archival import Archival
from localmem.memory.comparing import Comparer
from localmem.memory.core import Core
from localmem.memory.embedder import SentenceEmbedder
from localmem.memory.indexing import Indexer
from localmem.memory.recall import Recall
from localmem.memory.store import Store, utc_now
from localmem.memory_functions import NAMES, MemoryFunctions
from localmem.models import locate_embedder
from localmem.nearness import Nearness
from localmem.prefix import BLOCK_LIMIT, QUOTED_LIMIT, block_text, prefix_at_limits, static_prefix
from localmem.protocols import Embedder, Engine
from localmem.reopening import Reopening
from localmem.summaries import overheads
from localmem.user_functions import UserFunctions
from localmem.window import Window

_DESCRIPTIONS = {"persona": "who you are", "human": "who the user is"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What an agent is opened with beside its name and blocks; `engine` and `embedder` replace the configured ones."""

    config: Config
    paths: Paths
    engine: Engine | None = None
    embedder: Embedder | None = None
    use_embedder: bool = True
    #: How calls are written, in place of what models.yaml says of the model; and the tokens of thinking before one.
    call_format: Literal["auto", "json", "native"] | None = None
    thinking: int | None = None
    #: Whether stores and searches quote the message, in place of what models.yaml says of the model.
    quoting: bool | None = None
    clock: Callable[[], datetime] = utc_now


def open_agent(
    name: str,
    *,
    home: str | Path | None = None,
    model: str | Engine | None = None,
    persona: str | None = None,
    human: str | None = None,
    functions: Sequence[Callable[..., Any]] = (),
    n_ctx: int | None = None,
    prompt: str | None = None,
    max_steps: int = 8,
    setting: Setting | None = None,
) -> Agent:
    """Open an agent, or make it, with everything it has ever been told.

    `home` is the folder that holds agents and models (default: the user's folders), `model` a name of models.yaml, a
    GGUF file or a loaded Engine. `persona` and `human` are texts for a new agent's blocks: a shipped name, a file, or
    the text itself. `functions` are typed, documented Python functions that the model may call. `prompt` is the preset.

    Raises ConfigError, ModelError or StoreError; each says what to do.
    """
    described = [describe(function) for function in functions]
    check_names(described, NAMES)
    if setting is None:
        paths = Paths.default() if home is None else Paths.under(Path(home))
        setting = Setting(load_config(paths=paths), paths)
    wish = _Wish(name, setting, described, persona, human, max_steps)
    with ExitStack() as undo:
        store = _new_or_old_store(wish, undo)
        engine, chosen, owned = _engine(model, n_ctx, setting)
        if owned:
            undo.callback(engine.close)
        agent = _assemble(wish, store, engine, _manner(prompt, engine, chosen, setting), undo)
        agent.owns_engine = owned
        undo.pop_all()
    return agent


@dataclass(frozen=True, slots=True)
class _Wish:
    """What `open_agent` was asked for, as far as it is the same for every model."""

    name: str
    setting: Setting
    functions: Sequence[Function]
    persona: str | None
    human: str | None
    max_steps: int


def _new_or_old_store(wish: _Wish, undo: ExitStack) -> Store:
    """The agent's file; should the opening fail, one that was made for it is removed again."""
    store = open_store(wish.name, wish.setting)
    if store.head is None and not Core(store).labels:  # made just now, by us: nobody else can have opened it
        undo.callback(shutil.rmtree, store.path_on_disk.parent, ignore_errors=True)
    undo.callback(store.close)
    return store


def open_store(name: str, setting: Setting) -> Store:
    """An agent's file."""
    folder = setting.paths.agent_folder(check_agent_name(name))
    return Store.open(folder / "agent.duckdb", clock=setting.clock, agent=name)


def open_indexer(store: Store, setting: Setting) -> Indexer:
    """The search indexes beside an agent's file. Without an embedder's files, search is by keyword only."""
    return Indexer.open(store, store.path_on_disk.parent / "index", _embedder(setting))


def _embedder(setting: Setting) -> Embedder | None:
    if setting.embedder is not None or not setting.use_embedder:
        return setting.embedder
    chosen = setting.config.embedder(None)
    try:
        return SentenceEmbedder(locate_embedder(chosen, setting.paths), chosen.name)
    except ModelError:
        return None


def _engine(model: str | Engine | None, n_ctx: int | None, setting: Setting) -> tuple[Engine, ModelConfig | None, bool]:
    """The engine, what models.yaml says of it unless it was handed over, and whether it was loaded here."""
    engine = model if model is not None and not isinstance(model, str) else setting.engine
    if engine is not None:
        return engine, None, False
    from localmem.engine.load import load_engine  # llama.cpp takes a while to import

    chosen = setting.config.model(model if isinstance(model, str) else None)
    loaded = load_engine(chosen, n_ctx=n_ctx, config=setting.config, paths=setting.paths)
    return loaded, chosen, True


def _speech(engine: Engine, chosen: ModelConfig | None, setting: Setting) -> Speech:
    """How the model writes calls. ConfigError if it is to use its own format and has none that is known."""
    own = chosen.call_format if chosen is not None else "auto"
    thinking = chosen.thinking if chosen is not None and chosen.thinking != "auto" else None
    if setting.thinking is not None:
        thinking = setting.thinking
    if (setting.call_format or own) != "native":
        return Speech()
    form = engine.chat_format.call_format
    if form is None:
        raise ConfigError(
            f"The chat template of {engine.name} has no way to write a function call that is known; "
            "set call_format: json in models.yaml."
        )
    return Speech(form, thinking)


@dataclass(frozen=True, slots=True)
class _Manner:
    """How the model is spoken to, how it writes calls, and whether it quotes."""

    preset: str
    speech: Speech
    quoting: bool


def _manner(prompt: str | None, engine: Engine, chosen: ModelConfig | None, setting: Setting) -> _Manner:
    preset = prompt or (chosen.prompt if chosen is not None else "compact")
    quoting = setting.quoting if setting.quoting is not None else chosen is not None and chosen.quoting
    return _Manner(preset, _speech(engine, chosen, setting), quoting)


def _assemble(wish: _Wish, store: Store, engine: Engine, manner: _Manner, undo: ExitStack) -> Agent:
    preset, speech = manner.preset, manner.speech
    core = Core(store)
    _add_blocks(store, core, wish, manner.quoting)
    system = static_prefix(engine.chat_format, wish.functions, preset, speech.format)
    window = Window(engine.n_ctx, overheads(engine, speech.format))
    window.check(prefix_at_limits(engine, core, system, preset))
    context = MainContext(window, engine.chat_format.opening)
    indexer = open_indexer(store, wish.setting)
    undo.callback(indexer.close)
    recall, archival = Recall(store, indexer), Archival(store, indexer)
    limits = Limits(
        message_chars=window.call * 4,
        quoted_tokens=window.call // 2,
        result_tokens=window.result - 16,
        count=lambda text: len(engine.vocabulary.tokenize(text)),
    )
    comparer = Comparer(indexer)
    nearness = Nearness(recall, archival, comparer, lambda: context.events)
    lookups = Lookups(recall, archival, limits, lambda: context.events, nearness)
    quoting: dict[str, Any] = {"quoting": manner.quoting, "likeness": comparer.likeness}
    memory_functions = MemoryFunctions(core, archival, lookups, limits, **quoting)
    parts = Parts(
        store,
        core,
        recall,
        archival,
        indexer,
        engine,
        context,
        memory_functions,
        UserFunctions(wish.functions, limits, **quoting),
        system,
        preset,
        speech,
        Reopening(wish.name, store, core, engine, Snapshots(wish.setting.paths, wish.setting.config.kv_disk_budget)),
    )
    agent = Agent(wish.name, parts, max_steps=wish.max_steps)
    indexer.start()
    return agent


def _add_blocks(store: Store, core: Core, wish: _Wish, quoting: bool) -> None:
    """A new agent's blocks; those of an agent that exists are its own, and stay as they are."""
    room = QUOTED_LIMIT if quoting else BLOCK_LIMIT
    given = {"persona": (wish.persona, "personas", BLOCK_LIMIT), "human": (wish.human, "humans", room)}
    with store.transaction():
        for label, (text, folder, least) in given.items():
            if label in core:
                continue
            value = _block_value(text, folder)
            limit = max(least, len(value) + BLOCK_LIMIT // 2)
            core.add(label, value, limit=limit, description=_DESCRIPTIONS[label])


def _block_value(given: str | None, folder: str) -> str:
    try:
        return block_text(given or "default", folder)
    except ConfigError:
        if given is None or ("\n" not in given and " " not in given.strip()):
            raise
        return given.strip()
