"""Sessions in the store: one live conversation a phase, round and worktree, appended to by the lease's holder alone."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import delete, text
from sqlalchemy.exc import IntegrityError

from engine.agents.base import ToolCall, ToolResult
from engine.agents.conversation import NOT_RUN, Conversation, find_or_open
from engine.domain.errors import DevflowError
from engine.metering import Meter
from engine.store.agent_tables import agent_sessions, ledger, prompts, session_messages
from engine.store.database import Database, Lease
from engine.store.events import history
from tests.integration.agent_bench import (
    DESK,
    PRICES,
    PROMPT,
    audit,
    context,
    leased_run,
    ledger_rows,
    reply,
    rows,
    run_row,
    stored_messages,
    taken_over,
)

CALL = ToolCall("call-1", "read_file", '{"path": "a"}')


@pytest.fixture
async def lease(database: Database) -> Lease:
    return await leased_run(database)


@pytest.fixture
async def conversation(database: Database, lease: Lease) -> Conversation:
    return await find_or_open(database, lease, DESK)


async def take_turn(conversation: Conversation, database: Database, lease: Lease, answer: Any) -> None:
    meter = Meter(database, lease, context(conversation), PRICES)
    reservation = await meter.reserve(conversation.turn_count, 100, 100)
    await conversation.record(answer, meter, reservation)


async def event_types(database: Database, lease: Lease) -> list[str]:
    async with database.transaction() as tx:
        return [row["type"] for row in await history(tx, lease.run_id)]


async def states(database: Database) -> list[str]:
    return [row["state"] for row in await rows(database, agent_sessions, agent_sessions.c.created_at)]


async def test_a_phase_starts_one_session_and_continues_it(database: Database, lease: Lease) -> None:
    first = await find_or_open(database, lease, DESK)
    await first.prompt(PROMPT, "key", 1)
    second = await find_or_open(database, lease, DESK)

    assert (first.resumed, second.resumed) == (False, True)
    assert second.session_id == first.session_id
    assert second.messages == PROMPT
    assert await event_types(database, lease) == ["session.started", "prompt.sent", "session.resumed"]


@pytest.mark.parametrize("other", [{"round": 2}, {"worktree_token": "tree-2"}])
async def test_another_round_or_worktree_gets_a_session_of_its_own_and_the_old_one_is_closed(
    database: Database, lease: Lease, conversation: Conversation, other: dict[str, Any]
) -> None:
    new = await find_or_open(database, lease, replace(DESK, **other))

    assert new.session_id != conversation.session_id
    assert new.messages == []
    assert await states(database) == ["CLOSED", "READY"]


async def test_a_closed_session_is_not_continued(database: Database, lease: Lease, conversation: Conversation) -> None:
    await conversation.close()

    new = await find_or_open(database, lease, DESK, reason="the context was full")

    assert not new.resumed
    assert await states(database) == ["CLOSED", "READY"]


async def test_sessions_of_two_runs_do_not_mix(database: Database, conversation: Conversation) -> None:
    other = await find_or_open(database, await leased_run(database), DESK)

    assert other.session_id != conversation.session_id
    assert await states(database) == ["READY", "READY"]


async def test_a_prompt_with_a_known_key_sends_nothing_and_has_the_same_id(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    first = await conversation.prompt(PROMPT, "key", 1)
    await take_turn(conversation, database, lease, reply("working"))
    resumed = await find_or_open(database, lease, DESK)

    second = await resumed.prompt(PROMPT, "key", 1)

    assert second == first
    assert resumed.messages == [*PROMPT, reply("working").message]
    assert len(await rows(database, prompts, prompts.c.created_at)) == 1


async def test_a_new_session_is_sent_the_prompt_that_the_old_one_knew(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    moved = await find_or_open(database, lease, replace(DESK, worktree_token="tree-2"))

    await moved.prompt(PROMPT, "key", 1)

    assert moved.messages == PROMPT


async def test_a_repair_is_told_once(database: Database, lease: Lease, conversation: Conversation) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    for _ in range(2):
        await conversation.prompt([{"role": "user", "content": "wrong"}], "repair", 2, repair_code="invalid")

    assert (await event_types(database, lease)).count("prompt.repaired") == 1
    assert conversation.messages == [*PROMPT, {"role": "user", "content": "wrong"}]


async def test_what_postgres_cannot_store_does_not_break_the_session(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt([{"role": "user", "content": "nul \x00 and \ud800"}], "key", 1)
    await take_turn(conversation, database, lease, reply("", CALL))
    await conversation.begin()
    await conversation.start_call(CALL)
    await conversation.end_call(CALL, ToolResult("\x00\udfff", ok=False))

    assert await stored_messages(database) == conversation.messages


async def test_a_reply_and_its_ledger_row_are_stored_together_or_not_at_all(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    meter = Meter(database, lease, context(conversation), PRICES)
    reservation = await meter.reserve(0, 100, 100)
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE ledger ADD CHECK (status <> 'settled')"))

    with pytest.raises(IntegrityError):
        await conversation.record(reply(), meter, reservation)

    assert await stored_messages(database) == conversation.messages == PROMPT
    assert [row["status"] for row in await ledger_rows(database)] == ["reserved"]
    assert (await run_row(database, lease))["llm_call_count"] == 0


async def test_a_reply_that_cannot_be_stored_is_not_paid_as_settled(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE session_messages ADD CHECK (seq < 2)"))

    with pytest.raises(IntegrityError):
        await take_turn(conversation, database, lease, reply())

    assert [row["status"] for row in await ledger_rows(database)] == ["reserved"]
    assert (await run_row(database, lease))["spent_usd"] == 0


async def test_after_a_cancelled_write_the_messages_are_read_again(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    meter = Meter(database, lease, context(conversation), PRICES)
    reservation = await meter.reserve(0, 100, 100)
    async with database.locked(lease.run_id):
        write = asyncio.create_task(conversation.record(reply("lost"), meter, reservation))
        await asyncio.sleep(0.1)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
    await take_turn(await find_or_open(database, lease, DESK), database, lease, reply("stored"))
    assert conversation.messages == PROMPT

    await conversation.prompt([{"role": "user", "content": "next"}], "next", 2)

    assert conversation.messages == [*PROMPT, reply("stored").message, {"role": "user", "content": "next"}]
    assert await stored_messages(database) == conversation.messages


async def test_a_call_that_never_started_is_answered_before_the_next_prompt(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    await take_turn(conversation, database, lease, reply("", CALL))

    await conversation.prompt([{"role": "user", "content": "next"}], "next", 2)

    assert conversation.messages[-2] == {"role": "tool", "tool_call_id": CALL.id, "content": NOT_RUN}
    assert await audit(database) == []


async def test_a_call_is_audited_once(database: Database, lease: Lease, conversation: Conversation) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    await take_turn(conversation, database, lease, reply("", CALL))
    await conversation.start_call(CALL)

    with pytest.raises(IntegrityError):
        await conversation.start_call(CALL)

    assert await audit(database) == [(CALL.id, "started")]


async def test_the_same_call_id_in_two_turns_is_two_calls(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    for _ in range(2):
        await take_turn(conversation, database, lease, reply("", CALL))
        assert conversation.unanswered == (CALL,)
        await conversation.start_call(CALL)
        await conversation.end_call(CALL, ToolResult("done"))

    assert await audit(database) == [(CALL.id, "ok"), (CALL.id, "ok")]


async def test_a_fenced_worker_writes_nothing(database: Database, lease: Lease, conversation: Conversation) -> None:
    await taken_over(database, lease)

    for write in (
        conversation.prompt(PROMPT, "key", 1),
        conversation.begin(),
        conversation.rest(),
        conversation.close(),
        conversation.start_call(CALL),
        find_or_open(database, lease, DESK),
    ):
        with pytest.raises(DevflowError) as caught:
            await write
        assert caught.value.code == "fenced"

    assert await stored_messages(database) == []
    assert await states(database) == ["READY"]


async def test_a_session_with_a_gap_fails_and_asks_for_a_person(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    async with database.transaction() as tx:
        await tx.execute(delete(session_messages).where(session_messages.c.seq == 0))

    with pytest.raises(DevflowError) as caught:
        await find_or_open(database, lease, DESK)

    assert caught.value.code == "session_recovery_required"
    assert await states(database) == ["FAILED_NEEDS_HUMAN"]
    assert "session.failed" in await event_types(database, lease)
    assert (await find_or_open(database, lease, DESK)).messages == []


async def test_a_failed_session_is_not_continued(database: Database, lease: Lease, conversation: Conversation) -> None:
    await conversation.fail(DevflowError("context_overflow", "full"))

    assert not (await find_or_open(database, lease, DESK)).resumed


async def test_the_ledger_knows_turn_persona_and_role(
    database: Database, lease: Lease, conversation: Conversation
) -> None:
    await conversation.prompt(PROMPT, "key", 1)
    for words in ("one", "two"):
        await take_turn(conversation, database, lease, reply(words))

    found = await rows(database, ledger, ledger.c.started_at)
    assert [(row["turn_index"], row["persona_version"], row["role"]) for row in found] == [
        (0, 3, "architect"),
        (1, 3, "architect"),
    ]
    run = await run_row(database, lease)
    assert (run["last_ai_message"], run["llm_call_count"], run["total_tokens"]) == ("two", 2, 240)
    assert run["spent_usd"] == Decimal("0.006")
