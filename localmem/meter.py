"""The meter: what the model was asked to read and to write, and how much of it the KV cache spared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from localmem.protocols import Generation


@dataclass(slots=True)
class Meter:
    """Totals since the agent was opened. Tokens and seconds."""

    generations: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    forced_tokens: int = 0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    #: Generations whose prompt did not simply extend the KV cache, by the cause of that; and where the last left it.
    divergences: dict[str, int] = field(default_factory=dict)
    diverged_in: str | None = None
    last: Generation | None = None

    def add(self, generation: Generation, diverged_in: str | None = None, cause: str = "") -> None:
        """Count one generation; `diverged_in` names where its prompt left the cache, and `cause` why."""
        self.generations += 1
        self.prompt_tokens += generation.prompt_tokens
        self.reused_tokens += generation.reused_tokens
        self.generated_tokens += len(generation.tokens)
        self.forced_tokens += generation.forced_tokens
        self.ttft_s += generation.ttft_s
        self.decode_s += generation.decode_s
        self.last = generation
        if diverged_in is not None:
            self.divergences[cause] = self.divergences.get(cause, 0) + 1
            self.diverged_in = f"{diverged_in} ({cause})"

    @property
    def prefix_hit(self) -> float | None:
        """The share of all prompt tokens that the KV cache already held; None before the first generation."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def tokens_a_second(self) -> float | None:
        """Generated tokens a second of decoding, the last generation's."""
        if self.last is None or len(self.last.tokens) < 2 or self.last.decode_s <= 0:
            return None
        return len(self.last.tokens) / self.last.decode_s

    def report(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        hit = self.prefix_hit
        return {
            "generations": self.generations,
            "prompt_tokens": self.prompt_tokens,
            "reused_tokens": self.reused_tokens,
            "prefilled_tokens": self.prompt_tokens - self.reused_tokens,
            "generated_tokens": self.generated_tokens,
            "forced_tokens": self.forced_tokens,
            "prefix_hit": None if hit is None else round(hit, 4),
            "ttft_s": round(self.ttft_s, 4),
            "decode_s": round(self.decode_s, 4),
            "tokens_a_second": None if self.tokens_a_second is None else round(self.tokens_a_second, 1),
            "divergences": dict(self.divergences),
            "diverged_in": self.diverged_in,
        }
