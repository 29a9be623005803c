"""The seams: Engine, Vocabulary, ChatFormat and CallFormat, Grammar, Matcher, Embedder, and what crosses them.

`memory`, `grammar` and `engine` never import each other; they meet here. Nothing in this file does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Finish = Literal["stop", "length", "closed", "interrupted"]
ClosedBy = Literal["budget", "loop"]
Role = Literal["system", "user", "assistant", "tool"]
#: What a message says: a text, or texts and the ids of control tokens that stand among them.
Content = str | Sequence[str | int]
TextCallback = Callable[[str], None]


class Vocabulary(Protocol):
    """A model's tokens. Ids run from 0 to `size` - 1."""

    @property
    def size(self) -> int: ...

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids that end a generation (end of text, end of turn)."""
        ...

    @property
    def control_tokens(self) -> frozenset[int]:
        """Ids that no text may produce: special tokens, whose bytes only look like text."""
        ...

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; with `special=False` no text produces a control token."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a control token's are its name."""
        ...

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, control tokens left out, invalid UTF-8 replaced."""
        ...

    def gbnf(self, source: str) -> TokenRules:
        """llama.cpp's own matcher of a GBNF grammar, at its rule `root`. Raises GrammarError if it is none."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """How an unfinished text is brought to a legal end.

    `pieces` are texts, each to be spelled exactly, and ids of control tokens. `cut` are the JSON paths of the values
    that it cuts or fills. `steady` says that the text stands inside a string that may end here: ordinary characters
    after it leave the end as it is.
    """

    pieces: tuple[str | int, ...] = ()
    cut: tuple[str, ...] = ()
    steady: bool = False

    @property
    def most_tokens(self) -> int:
        """No spelling needs more tokens: one for each byte."""
        return sum(1 if isinstance(piece, int) else len(piece.encode()) for piece in self.pieces)


class TokenRules(Protocol):
    """Which tokens may come next, at one point of one generation."""

    def forced(self) -> list[int]:
        """Tokens that must come next whatever the model says; not yet accepted. Empty if there is a choice."""
        ...

    def accept(self, token: int) -> bool:
        """Take `token` if the grammar allows it here; False (and no change) if not."""
        ...

    def mask(self) -> NDArray[np.bool_]:
        """Shape (size,): True for each token that is allowed here."""
        ...

    @property
    def complete(self) -> bool:
        """The text so far is whole and nothing can follow."""
        ...

    @property
    def can_stop(self) -> bool:
        """The text so far is whole, though more could follow."""
        ...


class Matcher(TokenRules, Protocol):
    """A grammar bound to a vocabulary: token rules that also know how a text can be ended."""

    def end(self, text: str) -> End | None:
        """The shortest legal end of `text`, all that was generated; None if no end can be planned."""
        ...

    @property
    def end_bound(self) -> int | None:
        """No end takes more tokens than this, however it is spelled; None where that cannot be said."""
        ...


class Grammar(Protocol):
    """A compiled constraint, not yet bound to a model."""

    def bind(self, vocabulary: Vocabulary) -> Matcher: ...


@dataclass(frozen=True, slots=True)
class Tag:
    """A control token: its id, and the name that its bytes spell."""

    id: int
    name: str


Marks = tuple[str | Tag, ...]


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How one model writes a function call. Data only: `grammar.calls` writes, constrains and reads it.

    `shape` says what the call proper is: "object", a JSON object whose first two keys are `keys` (the name's and the
    arguments') and which ends with the `constants`; or the name, `middle` and the arguments, these being a JSON object
    ("named"), `key="text", other=3` ("python") or `key:<quote>text<quote>,other:3` ("gemma"). `head` and `tail` stand
    around it. The thought is a key of the object ("inside"), one line before the call that `between` ends ("line"), or
    free text between `think_open` and `think_close` ("thinking"). `lists_functions`: the template has a place for them.
    """

    name: str
    shape: Literal["object", "named", "python", "gemma"] = "object"
    head: Marks = ()
    middle: Marks = ()
    tail: Marks = ()
    keys: tuple[str, str] = ("function", "arguments")
    constants: tuple[tuple[str, str], ...] = ()
    quote: Marks = ()
    thought: Literal["inside", "line", "thinking"] = "line"
    between: str = ""
    think_open: Marks = ()
    think_close: Marks = ()
    lists_functions: bool = False


class ChatFormat(Protocol):
    """How one model writes messages as tokens."""

    def message(self, role: Role, content: Content, *, first: bool = False) -> list[int]:
        """All tokens of one whole message. `first` marks the message that begins the conversation."""
        ...

    def introduction(self, text: str, functions: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """The message that begins a conversation: `text`, and the functions as the template presents them.

        Each is given as OpenAI describes a tool. None if the template has no place for them.
        """
        ...

    @property
    def call_format(self) -> CallFormat | None:
        """The model's native way to write a function call; None if its template shows none that is known."""
        ...

    @property
    def opening(self) -> list[int]:
        """Tokens that begin an assistant message: what a prompt ends with before a generation."""
        ...

    @property
    def ending(self) -> list[int]:
        """Tokens that end an assistant message."""
        ...


@dataclass(frozen=True, slots=True)
class Generation:
    """What one call of `Engine.generate` did. Times are seconds, counts are tokens.

    `prompt_tokens` = `reused_tokens` (already in the KV cache) + what was prefilled. `forced_tokens` are those of
    `tokens` that the grammar dictated. `diverged_at` is the position at which the prompt left the KV cache's tokens,
    None where it only extended them. `decode_s` runs from the first token to the last.
    """

    text: str
    tokens: list[int]
    finish: Finish
    closed_by: ClosedBy | None = None
    closed_paths: tuple[str, ...] = ()
    prompt_tokens: int = 0
    reused_tokens: int = 0
    forced_tokens: int = 0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    diverged_at: int | None = None

    def stats(self) -> dict[str, Any]:
        """Everything but the text and its tokens, JSON-ready."""
        data = asdict(self)
        del data["text"], data["tokens"]
        data["generated_tokens"] = len(self.tokens)
        data["closed_paths"] = list(self.closed_paths)
        return data


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn: temperature 0 is greedy. Penalties do not exist: they break grammars and names alike."""

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None


class Engine(Protocol):
    """A model that turns tokens into tokens. Not thread-safe, but `interrupt` may be called from any thread."""

    @property
    def name(self) -> str: ...

    @property
    def n_ctx(self) -> int: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def chat_format(self) -> ChatFormat: ...

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        constraint: Grammar | None = None,
        max_tokens: int = 256,
        temperature: float | None = None,
        seed: int | None = None,
        on_text: TextCallback | None = None,
    ) -> Generation:
        """Prefill what the KV cache does not hold of `prompt`, then decode.

        `temperature` and `seed` stand in for the model's own `Sampling`. `on_text` gets whole characters only.
        """
        ...

    def interrupt(self) -> None:
        """Stop a running `generate` within 200 ms; it returns with finish "interrupted"."""
        ...

    # -- the KV cache between generations

    @property
    def held(self) -> list[int]:
        """The tokens whose keys and values the current sequence holds."""
        ...

    def missing(self, prompt: Sequence[int]) -> int:
        """Tokens of `prompt` that no sequence holds. Stops what is being read ahead."""
        ...

    def read_ahead(self, prompt: Sequence[int]) -> bool:
        """Begin to prefill `prompt` in the background; `generate` stops that within 150 ms and uses what was read.

        What is held of other prompts stays. False if there is no room beside it.
        """
        ...

    @property
    def reading(self) -> bool:
        """Whether something is being read ahead now."""
        ...

    def wait_idle(self, seconds: float | None = None) -> bool:
        """Until nothing is being read ahead any more, or for so long; whether nothing is."""
        ...

    @property
    def idle_tokens(self) -> int:
        """Tokens that were prefilled in the background so far."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that shapes the KV cache: snapshots hold under the same one only. Empty: there are none."""
        ...

    def keep(self, prefix: Sequence[int], file: Path, *, most: int) -> None:
        """Save `prefix` to a snapshot once it is held, unless that takes more than `most` bytes."""
        ...

    def save(self, file: Path, prompt: Sequence[int], *, agent: str, layout: Mapping[str, Any], most: int) -> bool:
        """Save what is held of `prompt` to a snapshot, with `layout` (JSON-ready) beside it; whether it was written.

        It is not if it would take more than `most` bytes, or if the disk refuses it.
        """
        ...

    def restore(self, file: Path, prompt: Sequence[int]) -> int:
        """Put a snapshot back, if that holds more of `prompt` than is held; how many of its tokens then are.

        0, with a note in the log, if the snapshot is none, or of no use.
        """
        ...

    def close(self) -> None: ...


class Embedder(Protocol):
    """Text to vectors."""

    @property
    def name(self) -> str:
        """Identifies the weights: vectors of different names are never compared."""
        ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimension), rows of unit length."""
        ...
