"""Configuration: models.yaml and folders -> frozen, checked dataclasses.

`checks` says what a value may be, `keys` which keys there are, `entries` what they come to; `load` reads and merges the
files, and `paths` knows the folders. Nothing here opens a model's file or knows what an agent is.
"""

from localmem.config.entries import (
    Adapter,
    Config,
    EmbedderConfig,
    HubSource,
    ModelConfig,
    PathSource,
    PypiSource,
    Quantisation,
    Source,
)
from localmem.config.load import load_config
from localmem.config.paths import Paths, bundled, check_agent_name

__all__ = [
    "Adapter",
    "Config",
    "EmbedderConfig",
    "HubSource",
    "ModelConfig",
    "PathSource",
    "Paths",
    "PypiSource",
    "Quantisation",
    "Source",
    "bundled",
    "check_agent_name",
    "load_config",
]
