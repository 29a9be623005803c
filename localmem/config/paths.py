"""The folders that localmem uses, and the files that ship with it.

Knows names only: nothing here creates, reads or writes a file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs

from localmem.errors import ConfigError

_AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders; none of them needs to exist. `state` holds what is only convenient, `cache` what can be made again."""

    config: Path
    data: Path
    models: Path
    cache: Path
    state: Path

    @classmethod
    def default(cls) -> Paths:
        """The platform's folders for this user, or those under `LOCALMEM_HOME` where that is set."""
        if home := os.environ.get("LOCALMEM_HOME"):
            return cls.under(Path(home))
        data = platformdirs.user_data_path("localmem", appauthor=False)
        return cls(
            config=platformdirs.user_config_path("localmem", appauthor=False),
            data=data,
            models=data / "models",
            cache=platformdirs.user_cache_path("localmem", appauthor=False),
            state=platformdirs.user_state_path("localmem", appauthor=False),
        )

    @classmethod
    def under(cls, home: Path) -> Paths:
        """All folders inside `home`."""
        home = home.expanduser().absolute()
        return cls(home / "config", home / "data", home / "models", home / "cache", home / "state")

    @property
    def models_file(self) -> Path:
        """The user's own models.yaml."""
        return self.config / "models.yaml"

    @property
    def agents(self) -> Path:
        """The folder that holds one folder for each agent."""
        return self.data / "agents"

    def agent_folder(self, name: str) -> Path:
        """Where the agent `name` lives. Raises ConfigError for a name that is no safe file name."""
        return self.agents / check_agent_name(name)


def check_agent_name(name: str) -> str:
    """`name` itself; ConfigError if it may not name an agent."""
    if not _AGENT_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name an agent: use 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        )
    return name


def bundled(name: str) -> Path:
    """A file or folder that ships with localmem: "models.yaml" or "grammars".

    A wheel holds them in localmem/data, a source checkout at its top.
    """
    packaged = _PACKAGE / "data" / name
    path = packaged if packaged.exists() else _PACKAGE.parent / name
    if not path.exists():
        raise ConfigError(f"localmem was installed without its {name}: install it again")
    return path


def packaged_adapter(name: str) -> Path:
    """Where the adapter of that file name lies in the package; it need not be there."""
    return Path(str(resources.files("localmem") / "adapters" / name))
