"""load_engine: a model's name (or a GGUF file) -> a LlamaEngine, with every doubt about the file cleared beforehand.

llama.cpp is never shown a file that is missing, truncated or corrupt, or asked for a window that RAM cannot hold.
"""

from __future__ import annotations

from pathlib import Path

from localmem.config import Config, ModelConfig, Paths, load_config
from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions, build_info
from localmem.errors import ConfigError
from localmem.models import choose_n_ctx, locate, merges, read_gguf
from localmem.models.hashes import HASHES

_ALL_LAYERS = 9999


def load_engine(
    model: str | Path | ModelConfig,
    *,
    n_ctx: int | None = None,
    config: Config | None = None,
    paths: Paths | None = None,
) -> LlamaEngine:
    """A model by its name in models.yaml, its alias, or the path of a GGUF file, loaded and ready to generate.

    `n_ctx` is in tokens; None takes what models.yaml says, and 0 there means what fits. Raises ConfigError for an
    unknown name, ModelError for a file that is missing or broken or a window that does not fit into RAM.
    """
    if not isinstance(model, ModelConfig):
        model = (config or load_config()).model(str(model))
    paths = paths or Paths.default()
    path = locate(model, paths)
    info = read_gguf(path)
    adapter = None if merges(model) else model.adapter  # merged, it is in the file already
    options = LlamaOptions(
        n_ctx=choose_n_ctx(model, info, n_ctx),
        n_batch=model.n_batch,
        threads=model.threads,
        n_gpu_layers=_gpu_layers(model),
        flash_attn=model.flash_attn,
        type_k=model.type_k,
        type_v=model.type_v,
        chat_template=_template(model),
        adapter=adapter.path if adapter is not None else None,
        adapter_scale=adapter.scale if adapter is not None else 1.0,
        sampling=model.sampling,
        reads_ahead=model.idle_rebase,
        hashes=paths.cache / HASHES,
    )
    return LlamaEngine(path, options, name=model.name)


def _gpu_layers(model: ModelConfig) -> int:
    if model.n_gpu_layers == "auto":
        return _ALL_LAYERS if build_info()["gpu_offload"] else 0
    return _ALL_LAYERS if model.n_gpu_layers == "all" else int(model.n_gpu_layers)


def _template(model: ModelConfig) -> str | None:
    if model.chat_template == "gguf":
        return None
    path = Path(model.chat_template)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The chat template {path} cannot be read ({error.strerror}); correct models.yaml."
        ) from error
