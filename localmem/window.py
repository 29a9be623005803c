"""The window of a model and how it is shared out: what is reserved, what can be used, and the largest of each part.

Pure arithmetic: it knows no message and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from localmem.errors import ConfigError

WARN_AT = 0.70
EVICT_AT = 0.85
PREFIX_SHARE = 0.60
SUMMARY_SHARE = 0.15
SLACK = 256
#: So many summaries of one level are merged into one of the next; on the highest level two are.
MERGE_AT = 3
LEVELS = 2
#: The most summaries that stand at once: full lower levels, one on top, and the one being written.
MOST_SUMMARIES = (MERGE_AT - 1) * LEVELS + 2

_LEAST_SUMMARY = 24
_LEAST_CALL = 160
_LEAST_RESULT = 112
_TURN_MARKERS = 16  # what a chat template puts around a turn
_LEAST_MESSAGE = 96


@dataclass(frozen=True, slots=True)
class Overheads:
    """What the texts around the contents take in one model's vocabulary. All in tokens.

    `request` is the largest page-out request, `page_out` the JSON around a summary, a short thought included, and
    `summary` what stands before a summary's text.
    """

    request: int
    page_out: int
    summary: int


@dataclass(frozen=True, slots=True)
class Window:
    """How a window of `n_ctx` tokens is shared out. All in tokens.

    `reserve` holds the largest call, the page-out request and 256 more; `usable` is the rest. `ceiling` is the fullest
    that the context may be before a step: after it, a call, its result, a page-out request and its call still fit.
    """

    n_ctx: int
    overheads: Overheads

    @property
    def call(self) -> int:
        """The largest call."""
        return min(1024, max(_LEAST_CALL, self.n_ctx // 10))

    @property
    def result(self) -> int:
        """The largest function result."""
        return min(800, max(_LEAST_RESULT, self.n_ctx // 14))

    @property
    def summary(self) -> int:
        """The largest summary's text."""
        return self.summaries // MOST_SUMMARIES - self.overheads.summary

    @property
    def reserve(self) -> int:
        return self.call + self.overheads.request + SLACK

    @property
    def usable(self) -> int:
        return self.n_ctx - self.reserve

    @property
    def page_out_call(self) -> int:
        """The largest call of page_out: a summary and the JSON around it."""
        return min(self.call, self.summary + self.overheads.page_out)

    @property
    def ceiling(self) -> int:
        step = self.call + self.result + _TURN_MARKERS
        return min(self.usable, self.n_ctx - step - self.page_out_room)

    @property
    def page_out_room(self) -> int:
        """What a page-out takes on top of the context."""
        return self.overheads.request + self.page_out_call

    @property
    def summaries(self) -> int:
        """The most that all summaries together may take."""
        return int(self.usable * SUMMARY_SHARE)

    @property
    def message(self) -> int:
        """The largest message: with a prefix at its limit it fits, and so does a step after it."""
        return (self.ceiling - int(self.usable * PREFIX_SHARE)) * 2 // 3

    def holds(self, prefix: int) -> bool:
        """Whether a prefix of so many tokens, summaries left out, leaves room to work in."""
        fits = prefix + self.summaries <= PREFIX_SHARE * self.usable
        return fits and self.message >= _LEAST_MESSAGE and self.summary >= _LEAST_SUMMARY

    def check(self, prefix: int) -> None:
        """ConfigError, naming the smallest n_ctx that works, if the window cannot hold a prefix."""
        if self.holds(prefix):
            return
        raise ConfigError(
            f"n_ctx {self.n_ctx} is too small: the system text, the functions and the blocks at their limits take "
            f"{prefix} tokens. Use --n-ctx {self.smallest(prefix)} or more, smaller blocks, or the compact prompt."
        )

    def smallest(self, prefix: int) -> int:
        """The smallest n_ctx, in steps of 64, that holds a prefix."""
        n_ctx = 512
        while not replace(self, n_ctx=n_ctx).holds(prefix):
            n_ctx += 64
        return n_ctx
