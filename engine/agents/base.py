"""What the agent loop, the models behind it and its tools agree on.

Messages are Chat Completions messages, as plain JSON objects: they are what is stored, sent and shown.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

Message = dict[str, Any]
ToolSpec = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """One call that a model asks for; `arguments` is the JSON text as the model wrote it, not yet parsed."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Usage:
    """What one model call used; None is unknown, never zero. `cost_usd` is the server's own figure, if it gave one."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True)
class Reply:
    """One model turn. `message` is appended to the conversation as it is."""

    message: Message
    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: str
    request_id: str | None = None


class ChatModel(Protocol):
    """A model that continues a conversation; `openai` and `replay` implement it."""

    backend: str
    name: str

    async def check(self) -> None:
        """Raise `backend_unavailable` where the model cannot be used at all."""

    async def complete(self, messages: list[Message], tools: list[ToolSpec], max_output_tokens: int) -> Reply:
        """Return the next turn; raises a `DevflowError` with a code of its own for whatever the server does wrong."""


@dataclass(frozen=True)
class ToolResult:
    """What a tool answers to the model; `submission` is the parsed artifact where the tool was `submit_artifact`."""

    text: str
    ok: bool = True
    submission: dict[str, Any] | None = None


class Tools(Protocol):
    """The tools that one persona may use in one phase."""

    @property
    def specs(self) -> list[ToolSpec]:
        """Return the tools as the Chat Completions API wants them."""

    async def call(self, name: str, arguments: str) -> ToolResult:
        """Run one tool; a mistake of the model is an answer with `ok=False`, never an exception."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one attempt; reaching one ends the attempt, not the process."""

    max_turns: int = 50
    max_output_tokens: int = 8192


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: with an artifact submitted, or with the reason why there is none."""

    submission: dict[str, Any] | None
    reason: str
    details: dict[str, Any] = field(default_factory=dict)
