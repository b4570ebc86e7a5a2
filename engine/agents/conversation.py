"""A persona's conversation in one phase, checkpointed after each step, so that another process can continue it.

The loop works on the tail of `messages`; every method stores first and changes `messages` only when that is
committed. Messages are only ever appended: each request is a strict extension of the one before it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from engine.agents.base import Message, Reply, ToolCall, ToolResult
from engine.agents.completion import calls_of
from engine.domain.errors import DevflowError
from engine.domain.events import PromptRepaired, PromptSent, SessionFailed, SessionResumed, SessionStarted
from engine.domain.states import SessionState
from engine.metering import Meter, Reservation
from engine.store import events, sessions
from engine.store.database import Database, FencedRun, Lease

INTERRUPTED = (
    "This call was interrupted before its result was stored. Whether it took effect is unknown: "
    "look at the worktree before you repeat it."
)
NOT_RUN = "This call was not run: the attempt it belonged to had ended."


@dataclass(frozen=True)
class Desk:
    """Where a conversation belongs: phase, round, role and persona, the model's name, and the worktree it works in."""

    phase_key: str
    round: int
    role: str
    persona_name: str
    persona_hash: str
    model: str
    worktree_token: str


class Conversation:
    """The stored conversation; made by `find_or_open`."""

    def __init__(
        self, database: Database, lease: Lease, desk: Desk, session_id: UUID, messages: list[Message], *, resumed: bool
    ) -> None:
        self._database = database
        self._lease = lease
        self._desk = desk
        self.session_id = session_id
        self.messages = messages
        self.resumed = resumed
        self._stale = False

    @property
    def turn_count(self) -> int:
        """How many turns the model has taken in this session."""
        return sum(message["role"] == "assistant" for message in self.messages)

    @property
    def last_turn(self) -> Message | None:
        """The model's turn that nothing but its own tool results follows, or None where it is the model's move anew."""
        for message in reversed(self.messages):
            if message["role"] == "assistant":
                return message
            if message["role"] != "tool":
                return None
        return None

    @property
    def unanswered(self) -> tuple[ToolCall, ...]:
        """The calls of the model's last turn that have no result yet, in order."""
        answered: set[str] = set()
        for message in reversed(self.messages):
            if message["role"] == "tool":
                answered.add(message["tool_call_id"])
            elif message["role"] == "assistant":
                return tuple(call for call in calls_of(message) if call.id not in answered)
            else:
                return ()
        return ()

    async def prompt(
        self, messages: list[Message], dedup_key: str, attempt: int, *, repair_code: str | None = None
    ) -> UUID:
        """Send a prompt with its event and return its id; a `dedup_key` known in this session sends nothing again.

        Calls that an earlier attempt left without result are answered first. `repair_code` makes it a repair.
        """
        key = f"{dedup_key}@{self.session_id}"
        async with self._writing() as tx:
            known = await sessions.find_prompt(tx, key)
            if known is not None:
                return known
            leftover = await self._answer_leftovers(tx)
            prompt_id = await sessions.add_prompt(tx, self.session_id, key)
            new = events.clean_json([*leftover, *messages])
            await sessions.append_messages(tx, self.session_id, new)
            await events.append(tx, self._prompt_event(attempt, prompt_id, repair_code))
        self.messages.extend(new)
        return prompt_id

    async def begin(self) -> None:
        """Mark the session as worked on and close what an earlier process left half done."""
        async with self._writing() as tx:
            await sessions.set_state(tx, self.session_id, SessionState.BUSY)
            started = await sessions.started_calls(tx, self.session_id, self.turn_count - 1)
            broken = [call for call in self.unanswered if call.id in started]
            new = [await self._interrupt(tx, call) for call in broken]
            if new:
                await sessions.append_messages(tx, self.session_id, new)
        self.messages.extend(new)

    async def rest(self) -> None:
        """Mark the session as waiting for its next prompt."""
        async with self._writing() as tx:
            await sessions.set_state(tx, self.session_id, SessionState.READY)

    async def record(
        self, reply: Reply, meter: Meter, reservation: Reservation, notes: tuple[Message, ...] = ()
    ) -> None:
        """Store a reply, settle its ledger row and append `notes` to the model, all in one transaction."""
        new = events.clean_json([reply.message, *notes])
        async with self._writing() as tx:
            await sessions.append_messages(tx, self.session_id, new)
            await meter.settle(tx, reservation, reply)
        self.messages.extend(new)

    async def start_call(self, call: ToolCall) -> None:
        """Audit that a tool call begins."""
        async with self._writing() as tx:
            name, arguments = events.clean_json([call.name, call.arguments])
            await sessions.start_tool_call(tx, self.session_id, self.turn_count - 1, call.id, name, arguments)

    async def end_call(self, call: ToolCall, result: ToolResult) -> None:
        """Store a tool call's result for the model and for the audit."""
        status = "ok" if result.ok else "error"
        message = events.clean_json(_tool_message(call, result.text))
        async with self._writing() as tx:
            await sessions.end_tool_call(
                tx, self.session_id, self.turn_count - 1, call.id, status, str(message["content"])
            )
            await sessions.append_messages(tx, self.session_id, [message])
        self.messages.append(message)

    async def close(self) -> None:
        """End the session; the next one of this phase starts anew."""
        async with self._writing() as tx:
            await sessions.set_state(tx, self.session_id, SessionState.CLOSED)

    async def fail(self, error: DevflowError) -> None:
        """End the session because it cannot go on, with an event that says why."""
        async with self._writing() as tx:
            await _fail(tx, self._desk, self.session_id, error)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[FencedRun]:
        stale, self._stale = self._stale, True
        async with self._database.fenced(self._lease) as tx:
            if stale:  # a write that broke or was cancelled left open whether it was committed
                self.messages = await _load(tx, self.session_id)
            yield tx
        self._stale = False

    async def _answer_leftovers(self, tx: FencedRun) -> list[Message]:
        started = await sessions.started_calls(tx, self.session_id, self.turn_count - 1)
        return [
            await self._interrupt(tx, call) if call.id in started else _tool_message(call, NOT_RUN)
            for call in self.unanswered
        ]

    async def _interrupt(self, tx: FencedRun, call: ToolCall) -> Message:
        await sessions.end_tool_call(tx, self.session_id, self.turn_count - 1, call.id, "interrupted", INTERRUPTED)
        return _tool_message(call, INTERRUPTED)

    def _prompt_event(self, attempt: int, prompt_id: UUID, repair_code: str | None) -> PromptSent | PromptRepaired:
        if repair_code is None:
            return PromptSent(
                phase_key=self._desk.phase_key,
                round=self._desk.round,
                attempt=attempt,
                session_id=str(self.session_id),
                prompt_id=str(prompt_id),
            )
        return PromptRepaired(
            phase_key=self._desk.phase_key,
            round=self._desk.round,
            attempt=attempt,
            session_id=str(self.session_id),
            prompt_id=str(prompt_id),
            code=repair_code,
        )


async def find_or_open(database: Database, lease: Lease, desk: Desk, *, reason: str = "phase started") -> Conversation:
    """Continue the live session of this phase, round and worktree, or start one; each with its event.

    Raises `session_recovery_required`, and fails the session, where its stored messages have a gap.
    """
    async with database.fenced(lease) as tx:
        found = await sessions.find_session(tx, desk.phase_key, desk.round, desk.worktree_token)
        if found is None:
            session_id = await sessions.create_session(
                tx,
                phase_key=desk.phase_key,
                round_=desk.round,
                role=desk.role,
                persona_hash=desk.persona_hash,
                worktree_token=desk.worktree_token,
            )
            await events.append(
                tx,
                SessionStarted(
                    phase_key=desk.phase_key,
                    session_id=str(session_id),
                    persona=desk.persona_name,
                    model=desk.model,
                    reason=reason,
                ),
            )
            return Conversation(database, lease, desk, session_id, [], resumed=False)
        session_id = found["session_id"]
        try:
            messages = await _load(tx, session_id)
        except DevflowError as error:
            damage = error
            await _fail(tx, desk, session_id, error)
        else:
            await events.append(
                tx,
                SessionResumed(
                    phase_key=desk.phase_key, session_id=str(session_id), messages=len(messages), number=lease.epoch
                ),
            )
            return Conversation(database, lease, desk, session_id, messages, resumed=True)
    raise damage


async def _load(tx: FencedRun, session_id: UUID) -> list[Message]:
    messages = await sessions.load_messages(tx, tx.repository_id, session_id)
    if messages is None:
        raise DevflowError("session_recovery_required", f"the messages of session {session_id} have a gap")
    return messages


async def _fail(tx: FencedRun, desk: Desk, session_id: UUID, error: DevflowError) -> None:
    await sessions.set_state(tx, session_id, SessionState.FAILED_NEEDS_HUMAN)
    await events.append(
        tx,
        SessionFailed(phase_key=desk.phase_key, session_id=str(session_id), code=error.code, message=error.message),
    )


def _tool_message(call: ToolCall, text: str) -> Message:
    return {"role": "tool", "tool_call_id": call.id, "content": text}
