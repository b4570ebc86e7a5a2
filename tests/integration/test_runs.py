"""Runs as rows: found by either end of their id, moved by the table of states alone, one row at a time."""

from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from engine.domain.errors import DevflowError
from engine.domain.states import RunState
from engine.store.database import Database
from engine.store.runs import find_run, set_state, update_run
from tests.rows import add_run, run_row

ONE = UUID("01900000-0000-7000-8000-00000000aaaa")
TWO = UUID("01900000-0000-7000-8000-00000000bbbb")


async def test_a_run_is_found_by_a_unique_end_of_its_id(database: Database) -> None:
    for run_id in (ONE, TWO):
        await add_run(database, run_id=run_id)

    async with database.transaction() as tx:
        for reference in ("aaaa", "0000AAAA", str(ONE), ONE.hex, "  aaaa "):
            assert await find_run(tx, reference) == ONE


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("0190", "run_id_ambiguous"),
        ("01900000-0000", "run_id_ambiguous"),
        ("cccc", "run_not_found"),
        ("aaa", "run_not_found"),
        ("%%%%", "run_not_found"),
        ("", "run_not_found"),
    ],
)
async def test_what_names_no_run_or_several_is_refused(database: Database, reference: str, code: str) -> None:
    for run_id in (ONE, TWO):
        await add_run(database, run_id=run_id)

    with pytest.raises(DevflowError) as caught:
        async with database.transaction() as tx:
            await find_run(tx, reference)

    assert caught.value.code == code


async def test_a_paused_run_remembers_its_state_and_an_ended_one_its_time(database: Database) -> None:
    run_id = await add_run(database, RunState.AWAITING_APPROVAL, requested_action="pause")

    async with database.locked(run_id) as tx:
        await set_state(tx, RunState.PAUSED)
    paused = await run_row(database, run_id)
    async with database.locked(run_id) as tx:
        await set_state(tx, RunState.ABORTED)
    ended = await run_row(database, run_id)

    assert (paused["paused_from_state"], paused["requested_action"]) == ("awaiting_approval", None)
    assert (ended["paused_from_state"], ended["ended_at"] is None) == (None, False)


async def test_an_illegal_step_raises_and_changes_nothing(database: Database) -> None:
    run_id = await add_run(database, RunState.COMPLETED)

    with pytest.raises(DevflowError) as caught:
        async with database.locked(run_id) as tx:
            await update_run(tx, title="changed")
            await set_state(tx, RunState.EXECUTING)

    assert caught.value.code == "illegal_transition"
    assert (await run_row(database, run_id))["title"] == "a run"


async def test_the_database_itself_refuses_a_state_that_there_is_not(database: Database) -> None:
    run_id = await add_run(database)

    with pytest.raises(DBAPIError, match="state"):
        async with database.locked(run_id) as tx:
            await update_run(tx, state="resting")
