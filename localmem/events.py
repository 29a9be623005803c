"""Event and FunctionCall: the one record from which recall, the prompt and the display are derived.

Knows nothing of models, storage or rendering.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What happened."""

    USER = "user_message"
    LOGIN = "login"
    HEARTBEAT = "heartbeat"
    TIMER = "timer"
    ALERT = "system_alert"
    THOUGHT = "thought"
    CALL = "function_call"
    RESULT = "function_result"
    ASSISTANT = "assistant_message"
    SUMMARY = "summary"


#: Kinds that begin a turn: the agent answers each of them.
TRIGGERS = frozenset({Kind.USER, Kind.LOGIN, Kind.HEARTBEAT, Kind.TIMER})


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call as the model wrote it: the function's name and its arguments."""

    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as committed to the agent's file.

    `id` grows with every event of one agent. `parent` is the event before it on its branch (None for the first).
    `time` is timezone-aware, UTC. A CALL carries `call`, every other kind `text`. `stats` describes the generation that
    wrote the event. `details` holds what only one kind has:

    - LOGIN: `who`, `away_s`
    - RESULT: `function`, `status` ("ok", "failed" or "unknown"), `shown` (the sources a search put before the model)
    - ASSISTANT: `interrupted`, `cut`, `shown` (the sources behind the reply)
    - SUMMARY: `level`, `first`, `last` (the ids that it covers), `since`, `until` (ISO times), `cut`, `merged` (ids)
    - USER: `document` when the message was too long for the window and became a document
    """

    id: int
    time: datetime
    kind: Kind
    parent: int | None = None
    text: str = ""
    call: FunctionCall | None = None
    stats: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON-ready data; absent parts are left out."""
        data: dict[str, Any] = {"id": self.id, "time": self.time.isoformat(), "kind": str(self.kind)}
        data["parent"] = self.parent
        if self.call is not None:
            data["call"] = {"function": self.call.function, "arguments": dict(self.call.arguments)}
        else:
            data["text"] = self.text
        if self.stats:
            data["stats"] = dict(self.stats)
        if self.details:
            data["details"] = dict(self.details)
        return data


def write_call(thought: str, function: str, arguments: Mapping[str, Any]) -> str:
    """A call as the model writes it: exactly as the grammar lays it out."""
    return json.dumps({"thought": thought, "function": function, "arguments": dict(arguments)}, ensure_ascii=False)
