"""The recorded agent: a cassette of tool calls, played back turn by turn as if a model had asked for them.

For the demo and for tests without a key. Which turn comes next is read from the conversation alone, so a resumed
session goes on where it was.
"""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from engine.agents.base import ChatModel, Message, Reply, ToolCall, ToolSpec, Usage
from engine.domain.errors import DevflowError
from engine.domain.files import load_model
from engine.domain.yaml_lines import FilesInvalid, show

RECORDED = "recorded"
_ATTEMPT_KEY = re.compile(r"[^/\s]+/[1-9][0-9]*/[1-9][0-9]*")


class RecordedCall(BaseModel):
    """One tool call of a turn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = Field(min_length=1, max_length=64)
    arguments: dict[str, Any] = Field(default_factory=dict)


class Cassette(BaseModel):
    """What the recorded agent does: by `PHASE/ROUND/ATTEMPT` a list of turns, each a list of tool calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1, le=1)
    turns: dict[str, list[list[RecordedCall]]]


def parse_cassette(data: bytes, file: str) -> Cassette:
    """Return the cassette in a YAML file's bytes; raises `config_invalid` with file and line."""
    cassette, document = load_model(Cassette, data, file)
    wrong = [key for key in cassette.turns if not _ATTEMPT_KEY.fullmatch(key)]
    if wrong:
        allowed = "PHASE/ROUND/ATTEMPT, such as spec/1/1"
        raise FilesInvalid([document.problem(("turns", key), f"the key {show(key)}", allowed) for key in wrong])
    return cassette


class ReplayModel:
    """Plays a cassette; `for_attempt` gives the model of one attempt."""

    def __init__(self, cassette: Cassette) -> None:
        self._cassette = cassette

    def for_attempt(self, phase_key: str, round_: int, attempt: int) -> ChatModel:
        """Return the model that plays this attempt; raises `cassette_incomplete` where it was not recorded."""
        key = f"{phase_key}/{round_}/{attempt}"
        turns = self._cassette.turns.get(key)
        if turns is None:
            recorded = ", ".join(self._cassette.turns) or "nothing"
            raise DevflowError("cassette_incomplete", f"the cassette has no {key}; it has {recorded}")
        return _Attempt(key, turns)


@dataclass
class _Attempt:
    key: str
    turns: list[list[RecordedCall]]
    backend: str = "replay"
    name: str = RECORDED

    async def check(self) -> None:
        """A cassette needs nothing that could be missing."""

    async def complete(self, messages: list[Message], tools: list[ToolSpec], max_output_tokens: int) -> Reply:
        """Return the recorded turn that comes next; after the last one a turn that ends the work."""
        index = _turns_since_prompt(messages)
        recorded = self.turns[index] if index < len(self.turns) else []
        calls = tuple(
            ToolCall(f"{self.key.replace('/', '-')}-{index}-{number}", call.tool, json.dumps(call.arguments))
            for number, call in enumerate(recorded)
        )
        text = f"Recorded turn {index + 1} of {len(self.turns)}." if calls else "The recording ends here."
        message: Message = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        usage = Usage(0, 0, 0, 0, Decimal(0))
        return Reply(message, text, calls, usage, "tool_calls" if calls else "stop")


def _turns_since_prompt(messages: list[Message]) -> int:
    turns = 0
    for message in reversed(messages):
        if message["role"] == "user":
            break
        turns += message["role"] == "assistant"
    return turns
