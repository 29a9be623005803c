"""The error tree.

    LocalmemError            the operator can act; the CLI prints it in one line and exits with 1
    ├── ConfigError          models.yaml, a flag, or a window that cannot hold what it must
    ├── ModelError           a model's file is missing, broken, too large, or failed to run
    ├── GrammarError         a constraint that cannot be enforced exactly; names its JSON path
    ├── ContextError         main context cannot take what it was given
    └── StoreError           an agent's file is in use, newer than this program, or damaged
    FunctionError            the model can act; becomes a function result with status "failed"

Every message is one line that says what is wrong, followed by what to do about it.
"""


class LocalmemError(Exception):
    """Something that the operator can act on. `str(error)` is one line with a next step."""


class ConfigError(LocalmemError):
    """The configuration, or a value given in its place, is wrong."""


class ModelError(LocalmemError):
    """A model cannot be fetched, read, loaded or run."""


class GrammarError(LocalmemError):
    """A schema or grammar cannot be enforced exactly. `path` is the JSON path of the cause."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class ContextError(LocalmemError):
    """Main context cannot hold what it was asked to hold."""


class StoreError(LocalmemError):
    """An agent's file cannot be opened, read or written."""


class FunctionError(Exception):
    """Raised by a function to tell the model what went wrong; the chain continues."""
