"""Agent sessions as rows: their states, the append-only messages, the prompts sent and the audit of tool calls.

`engine/agents/conversation.py` is the one user. Whatever writes takes a `FencedRun`, so a conversation is only ever
continued by the holder of the run's lease.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.ids import uuid7
from engine.domain.states import SessionState, check_transition
from engine.store.agent_tables import agent_sessions, prompts, session_messages, tool_calls
from engine.store.database import FencedRun, LockedRun, Transaction

EXCERPT = 2000
ENDED = (SessionState.CLOSED, SessionState.FAILED_NEEDS_HUMAN)


async def find_session(tx: LockedRun, phase_key: str, round_: int, worktree_token: str) -> RowMapping | None:
    """Return the live session of this phase and round that worked in this worktree, or None."""
    return (
        (
            await tx.execute(
                _live_sessions(tx, phase_key)
                .where(agent_sessions.c.round == round_, agent_sessions.c.worktree_token == worktree_token)
                .order_by(agent_sessions.c.created_at.desc(), agent_sessions.c.session_id.desc())
                .limit(1)
            )
        )
        .mappings()
        .first()
    )


async def create_session(
    tx: FencedRun, *, phase_key: str, round_: int, role: str, persona_hash: str, worktree_token: str
) -> UUID:
    """Insert a session in state READY and close those that it replaces; returns its id."""
    for old in await tx.all(_live_sessions(tx, phase_key)):
        await set_state(tx, old["session_id"], SessionState.CLOSED)
    session_id = uuid7()
    await tx.execute(
        insert(agent_sessions).values(
            repository_id=tx.repository_id,
            session_id=session_id,
            run_id=tx.run_id,
            phase_key=phase_key,
            round=round_,
            role=role,
            persona_hash=persona_hash,
            worktree_token=worktree_token,
            state=SessionState.CREATED,
        )
    )
    await set_state(tx, session_id, SessionState.READY)
    return session_id


async def close_sessions(tx: LockedRun) -> None:
    """Close every session of a run that ends; those that failed stay as they are."""
    of_run = (agent_sessions.c.repository_id == tx.repository_id, agent_sessions.c.run_id == tx.run_id)
    await tx.execute(
        update(agent_sessions)
        .where(*of_run, agent_sessions.c.state.not_in(ENDED))
        .values(state=SessionState.CLOSED, updated_at=func.clock_timestamp())
    )


async def count_sessions(tx: Transaction, run_id: UUID, phase_key: str, round_: int) -> int:
    """Return how many sessions a round of a phase has had."""
    counted = await tx.execute(
        select(func.count()).where(
            agent_sessions.c.run_id == run_id,
            agent_sessions.c.phase_key == phase_key,
            agent_sessions.c.round == round_,
        )
    )
    return int(counted.scalar_one())


async def set_state(tx: FencedRun, session_id: UUID, state: SessionState) -> None:
    """Move a session to `state`, as the table of transitions allows; being there already is no step."""
    row = await tx.one(select(agent_sessions.c.state).where(*_session(tx, session_id)).with_for_update())
    old = SessionState(row["state"])
    if old is state:
        return
    check_transition(old, state)
    await tx.execute(
        update(agent_sessions).where(*_session(tx, session_id)).values(state=state, updated_at=func.clock_timestamp())
    )


async def append_messages(tx: FencedRun, session_id: UUID, messages: list[dict[str, Any]]) -> None:
    """Append messages to a session, in order; assistant messages count as turns."""
    turns = sum(message["role"] == "assistant" for message in messages)
    row: Row[Any] = (
        await tx.execute(
            update(agent_sessions)
            .where(*_session(tx, session_id))
            .values(
                message_count=agent_sessions.c.message_count + len(messages),
                turn_count=agent_sessions.c.turn_count + turns,
                updated_at=func.clock_timestamp(),
            )
            .returning(agent_sessions.c.message_count)
        )
    ).one()
    first = int(row[0]) - len(messages)
    await tx.execute(
        insert(session_messages).values(
            [
                {
                    "repository_id": tx.repository_id,
                    "session_id": session_id,
                    "seq": first + offset,
                    "message": message,
                }
                for offset, message in enumerate(messages)
            ]
        )
    )


async def load_messages(tx: Transaction, repository_id: int, session_id: UUID) -> list[dict[str, Any]] | None:
    """Return all messages of a session in order, or None where the stored ones have a gap."""
    key = (agent_sessions.c.repository_id == repository_id, agent_sessions.c.session_id == session_id)
    session = await tx.one(select(agent_sessions.c.message_count).where(*key))
    rows = await tx.all(
        select(session_messages.c.seq, session_messages.c.message)
        .where(session_messages.c.repository_id == repository_id, session_messages.c.session_id == session_id)
        .order_by(session_messages.c.seq)
    )
    if [row["seq"] for row in rows] != list(range(session["message_count"])):
        return None
    return [row["message"] for row in rows]


async def find_prompt(tx: LockedRun, dedup_key: str) -> UUID | None:
    """Return the id of the prompt that was sent under this key in this run, or None."""
    row = await tx.maybe(
        select(prompts.c.prompt_id).where(
            prompts.c.repository_id == tx.repository_id,
            prompts.c.run_id == tx.run_id,
            prompts.c.dedup_key == dedup_key,
        )
    )
    return row["prompt_id"] if row else None


async def add_prompt(tx: FencedRun, session_id: UUID, dedup_key: str) -> UUID:
    """Note that a prompt is sent under this key; returns its new id."""
    prompt_id = uuid7()
    await tx.execute(
        insert(prompts).values(
            repository_id=tx.repository_id,
            prompt_id=prompt_id,
            run_id=tx.run_id,
            session_id=session_id,
            dedup_key=dedup_key,
        )
    )
    return prompt_id


async def start_tool_call(
    tx: FencedRun, session_id: UUID, turn_index: int, call_key: str, tool: str, arguments: str
) -> None:
    """Audit that a tool call begins; the same call a second time raises."""
    await tx.execute(
        insert(tool_calls).values(
            repository_id=tx.repository_id,
            tool_call_id=uuid7(),
            run_id=tx.run_id,
            session_id=session_id,
            turn_index=turn_index,
            call_key=call_key,
            tool=tool,
            arguments=arguments,
            status="started",
        )
    )


async def end_tool_call(
    tx: FencedRun, session_id: UUID, turn_index: int, call_key: str, status: str, result: str
) -> None:
    """Audit how a started tool call ended: `ok`, `error` or `interrupted`, with the beginning of its result."""
    await tx.one(
        update(tool_calls)
        .where(
            tool_calls.c.repository_id == tx.repository_id,
            tool_calls.c.session_id == session_id,
            tool_calls.c.turn_index == turn_index,
            tool_calls.c.call_key == call_key,
            tool_calls.c.status == "started",
        )
        .values(status=status, result_excerpt=result[:EXCERPT], ended_at=func.clock_timestamp())
        .returning(tool_calls.c.tool_call_id)
    )


async def started_calls(tx: LockedRun, session_id: UUID, turn_index: int) -> set[str]:
    """Return the keys of a turn's calls that began and never ended."""
    rows = await tx.all(
        select(tool_calls.c.call_key).where(
            tool_calls.c.repository_id == tx.repository_id,
            tool_calls.c.session_id == session_id,
            tool_calls.c.turn_index == turn_index,
            tool_calls.c.status == "started",
        )
    )
    return {row["call_key"] for row in rows}


def _session(tx: LockedRun, session_id: UUID) -> tuple[Any, ...]:
    return (agent_sessions.c.repository_id == tx.repository_id, agent_sessions.c.session_id == session_id)


def _live_sessions(tx: LockedRun, phase_key: str) -> Any:
    return select(agent_sessions).where(
        agent_sessions.c.repository_id == tx.repository_id,
        agent_sessions.c.run_id == tx.run_id,
        agent_sessions.c.phase_key == phase_key,
        agent_sessions.c.state.not_in(ENDED),
    )
