"""The history of a run: no gap, no loss, a chain that shows tampering, and the same cost however long it is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.exc import DBAPIError

from engine.domain.events import PhaseCompleted, RunPaused, RunResumed, SessionFailed
from engine.store import events, tables
from engine.store.database import Database
from engine.store.runs import update_run
from tests.rows import add_run, run_row


def resumed(number: int) -> RunResumed:
    return RunResumed(number=number, reason="again")


async def stored(database: Database, run_id: Any) -> list[Any]:
    async with database.transaction() as tx:
        return await events.history(tx, run_id)


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """Collect the statements that the database is sent."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_fifty_appends_at_once_are_all_kept_without_a_gap(database: Database) -> None:
    run_id = await add_run(database)

    async def one(number: int) -> None:
        async with database.locked(run_id) as tx:
            assert await events.append(tx, resumed(number))

    await asyncio.gather(*(one(number) for number in range(50)))

    rows = await stored(database, run_id)
    assert [row["seq"] for row in rows] == list(range(1, 51))
    assert {row["payload"]["number"] for row in rows} == set(range(50))
    assert events.first_broken_link(rows) is None
    run = await run_row(database, run_id)
    assert (run["event_seq"], run["event_hash"]) == (50, rows[-1]["hash"])


async def test_an_append_takes_the_same_statements_at_the_first_event_and_after_many(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        with counted(database) as first:
            await events.append(tx, resumed(0))
        for number in range(1, 300):
            await events.append(tx, resumed(number))
        with counted(database) as last:
            await events.append(tx, resumed(300))

    assert first == last
    assert len(first) <= 3
    assert not any("count(" in statement.lower() or "max(" in statement.lower() for statement in first)


async def test_the_same_step_twice_is_one_event_and_phases_do_not_share_a_key(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        added = [
            await events.append(tx, PhaseCompleted(phase_key=key, round=round_, attempts=1))
            for key, round_ in [("plan", 1), ("build", 1), ("plan", 1), ("plan", 2)]
        ]

    rows = await stored(database, run_id)
    assert added == [True, True, False, True]
    assert [(row["seq"], row["phase_key"], row["payload"]["round"]) for row in rows] == [
        (1, "plan", 1),
        (2, "build", 1),
        (3, "plan", 2),
    ]
    assert events.first_broken_link(rows) is None


async def test_an_event_that_cannot_be_inserted_fails_its_step_and_leaves_nothing_of_it(database: Database) -> None:
    run_id = await add_run(database)
    async with database.transaction() as tx:
        await tx.execute(text("ALTER TABLE events ADD CONSTRAINT no_pause CHECK (type <> 'run.paused')"))

    with pytest.raises(DBAPIError, match="no_pause"):
        async with database.locked(run_id) as tx:
            await update_run(tx, error_code="x")
            await events.append(tx, RunPaused(number=1, code="x", message="y"))

    run = await run_row(database, run_id)
    assert (run["error_code"], run["event_seq"]) == (None, 0)
    assert await stored(database, run_id) == []


@pytest.mark.parametrize(
    "change",
    [{"payload": {"number": 1, "reason": "never", "dropped_commits": []}}, {"type": "run.paused"}, {"hash": "0" * 64}],
    ids=["payload", "type", "hash"],
)
async def test_a_changed_event_breaks_the_chain_where_it_stands(database: Database, change: dict[str, Any]) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        for number in range(3):
            await events.append(tx, resumed(number))
    async with database.transaction() as tx:
        await tx.execute(update(tables.events).where(tables.events.c.seq == 2).values(change))

    assert events.first_broken_link(await stored(database, run_id)) == 2


async def test_a_removed_event_breaks_the_chain(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        for number in range(3):
            await events.append(tx, resumed(number))
    async with database.transaction() as tx:
        await tx.execute(tables.events.delete().where(tables.events.c.seq == 2))

    assert events.first_broken_link(await stored(database, run_id)) == 2


async def test_what_postgres_cannot_keep_is_replaced_before_the_hash_is_taken(database: Database) -> None:
    run_id = await add_run(database)
    odd = SessionFailed(phase_key="plan", session_id="s", code="c", message="nul \x00, half a pair \ud800, snow \u2603")
    async with database.locked(run_id) as tx:
        await events.append(tx, odd)

    (row,) = rows = await stored(database, run_id)
    assert row["payload"]["message"] == "nul \ufffd, half a pair ?, snow \u2603"
    assert events.first_broken_link(rows) is None


async def test_the_last_events_come_in_order(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        for number in range(7):
            await events.append(tx, resumed(number))
    async with database.transaction() as tx:
        last = await events.latest(tx, run_id, 3)
        after = await events.history(tx, run_id, after=4)

    assert [row["seq"] for row in last] == [row["seq"] for row in after] == [5, 6, 7]
