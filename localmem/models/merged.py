"""The file into which a model's adapter is merged: its place, whether it is right, and making it.

It lies in `merged/MODEL/` under the models folder. Its name holds a hash of all that it is made of, so that another
adapter, model or quantisation is another file; the ones before it go once it is there. `merging` does the arithmetic.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from localmem.config import Adapter, ModelConfig, Paths, PathSource, Quantisation
from localmem.errors import ModelError
from localmem.models.disk import digest, note, noted, plain_errors, put, staging
from localmem.models.gguf import read_gguf
from localmem.models.hashes import HASHES, file_hash, remember

#: Of the arithmetic: when it changes, so must this, and every merged file is made again.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that the bytes of a merged file follow from."""

    model_sha256: str
    adapter_sha256: str
    scale: float
    quantisation: Quantisation
    version: int = VERSION

    @property
    def key(self) -> str:
        """A short name for it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def merges(model: ModelConfig) -> bool:
    """Whether what is run is not the model's own file, but the merged one."""
    return model.adapter is not None and model.adapter.merge is not None


def place_merged(model: ModelConfig, original: Path, paths: Paths) -> Path:
    """Where the merged file lies, or would lie. Raises ModelError if the adapter is not there."""
    return _place(model, _recipe(model, original, paths), paths)


def locate_merged(model: ModelConfig, original: Path, paths: Paths) -> Path:
    """The merged file. Raises ModelError if it is not there."""
    path = place_merged(model, original, paths)
    if not path.is_file():
        raise ModelError(f"the adapter of {model.name} is not merged yet: run: localmem models pull {model.name}")
    return path


def check_adapter(model: ModelConfig) -> None:
    """Raises ModelError if the model has an adapter that is missing, or not what models.yaml says."""
    if (adapter := model.adapter) is None:
        return
    _there(model, adapter)
    with plain_errors(adapter.path):
        found = digest(adapter.path)
    if adapter.sha256 is not None and found != adapter.sha256:
        raise ModelError(
            f"{model.name}: its adapter {adapter.path} has sha256 {found}, not {adapter.sha256}: put the right file "
            "there, or correct the sha256 in models.yaml"
        )


def check_merged(model: ModelConfig, original: Path, paths: Paths) -> str:
    """The sha256 of the merged file. Raises ModelError if it is missing, or not as it was made."""
    path = locate_merged(model, original, paths)
    read_gguf(path)
    with plain_errors(path):
        found, expected = digest(path), noted(path)
    if found != expected:
        raise ModelError(
            f"{model.name}: {path} has sha256 {found}, not {expected}: run: localmem models pull {model.name}"
        )
    return found


def make_merged(model: ModelConfig, original: Path, paths: Paths) -> Path:
    """Merge the adapter into the model and put the file in its place. `original` and adapter have been checked."""
    from localmem.models import merging  # which takes 0.2 s to load

    recipe = _recipe(model, original, paths)
    target = _place(model, recipe, paths)
    assert model.adapter is not None
    with plain_errors(paths.models), staging(paths.models) as folder:
        fresh = folder / target.name
        merging.merge(original, model.adapter.path, fresh, recipe)
        read_gguf(fresh)
        found = digest(fresh)
        put(fresh, target, found)
        remember(target, found, paths.cache / HASHES)
    for old in target.parent.iterdir():
        if old not in (target, note(target)):
            with contextlib.suppress(OSError):  # it is in use, on a system that minds
                old.unlink()
    return target


def _recipe(model: ModelConfig, original: Path, paths: Paths) -> Recipe:
    adapter = model.adapter
    assert adapter is not None
    assert adapter.merge is not None
    _there(model, adapter)
    remembered = paths.cache / HASHES
    with plain_errors(original):
        stated = model.sha256 or (None if isinstance(model.source, PathSource) else noted(original))
        return Recipe(
            stated or file_hash(original, remembered),
            file_hash(adapter.path, remembered),
            adapter.scale,
            adapter.merge,
        )


def _place(model: ModelConfig, recipe: Recipe, paths: Paths) -> Path:
    return paths.models / "merged" / model.name / f"{model.name}-{recipe.key}.gguf"


def _there(model: ModelConfig, adapter: Adapter) -> None:
    if not adapter.path.is_file():
        raise ModelError(
            f"{model.name}: its adapter {adapter.path} does not exist: correct `adapter` in models.yaml, or install "
            "localmem again if it came with it"
        )
