"""Projections: a change is shown once it is there, by one at a time, and none is lost between two looks."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import RowMapping

from engine.domain.errors import Fenced
from engine.domain.states import RunState
from engine.store import jobs, projections, runs
from engine.store.database import Database
from engine.store.workers import WorkerIdentity
from tests.rows import add_dead_worker, add_run, add_worker, age_worker, queued, run_row

NOW = datetime(2020, 5, 17, 12, tzinfo=UTC)  # long before the database's own time, which must not matter
DEAD_AFTER = 30.0
HOSTED = 7


async def shown_run(database: Database) -> UUID:
    """Add a run of a host, with its projection."""
    run_id = await add_run(database, repository_id=HOSTED)
    async with database.locked(run_id) as tx:
        await projections.create(tx)
    return run_id


async def touch(database: Database, run_id: UUID) -> None:
    async with database.locked(run_id) as tx:
        await projections.touch(tx)


async def claim(database: Database, run_id: UUID, worker: WorkerIdentity, now: datetime = NOW) -> RowMapping | None:
    async with database.transaction() as tx:
        return await projections.claim(tx, run_id, worker.worker_id, now, DEAD_AFTER)


async def release(
    database: Database, run_id: UUID, worker: WorkerIdentity, again_at: datetime | None = None, error: str | None = None
) -> None:
    async with database.transaction() as tx:
        await projections.release(tx, run_id, worker.worker_id, again_at, error)


async def waiting(database: Database, worker: WorkerIdentity, now: datetime = NOW) -> list[UUID]:
    async with database.read() as tx:
        return await projections.waiting(tx, now, worker.worker_id, DEAD_AFTER)


async def row(database: Database, run_id: UUID) -> RowMapping:
    async with database.read() as tx:
        found = await projections.get(tx, run_id)
    assert found is not None
    return found


def bell(run_id: UUID) -> tuple[str, bytes]:
    return jobs.RUN_CHANGED, str(run_id).encode()


async def test_a_run_that_is_to_be_shown_rings_once_whatever_changes_until_somebody_looks(database: Database) -> None:
    run_id = await shown_run(database)

    for _ in range(3):
        await touch(database, run_id)
    async with database.locked(run_id) as tx:
        await projections.create(tx)

    assert await queued(database) == [bell(run_id)]


@pytest.mark.parametrize("repository_id", [-1, HOSTED])
async def test_a_run_that_nobody_shows_rings_for_nothing(database: Database, repository_id: int) -> None:
    run_id = await add_run(database, repository_id=repository_id)

    await touch(database, run_id)

    assert await queued(database) == []


async def test_the_doorbell_comes_with_the_change_or_not_at_all(database: Database) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)
    await claim(database, run_id, worker)
    await release(database, run_id, worker)

    with pytest.raises(ZeroDivisionError):
        async with database.locked(run_id) as tx:
            await projections.touch(tx)
            raise ZeroDivisionError

    assert (await row(database, run_id))["dirty"] is False
    assert await queued(database) == [bell(run_id)]


async def test_what_is_shown_and_has_not_changed_is_not_claimed_again(database: Database) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)
    await claim(database, run_id, worker)
    await release(database, run_id, worker)

    assert await claim(database, run_id, worker) is None
    assert await waiting(database, worker) == []
    done = await row(database, run_id)
    assert (done["error"], done["attempts"], done["projected_at"] is not None) == (None, 0, True)


async def test_a_change_during_a_projection_brings_it_again(database: Database) -> None:
    run_id, worker, other = await shown_run(database), await add_worker(database), await add_worker(database)
    await claim(database, run_id, worker)

    await touch(database, run_id)

    assert await claim(database, run_id, other) is None
    await release(database, run_id, worker)
    assert await waiting(database, other) == [run_id]
    assert await claim(database, run_id, other) is not None


async def test_a_change_whose_doorbell_was_answered_during_the_projection_rings_anew_at_its_end(
    database: Database,
) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)
    await claim(database, run_id, worker)
    await touch(database, run_id)
    async with database.transaction() as tx:
        await tx.connection.exec_driver_sql("DELETE FROM pgqueuer")

    await release(database, run_id, worker)

    assert await queued(database) == [bell(run_id)]


async def test_a_change_that_commits_while_a_claim_is_under_way_is_not_lost(database: Database) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)

    async with database.transaction() as tx:
        await projections.claim(tx, run_id, worker.worker_id, NOW, DEAD_AFTER)
        changing = asyncio.create_task(touch(database, run_id))
        await asyncio.sleep(0.1)  # it waits for the claim; without the lock it would have seen `dirty` and gone home
        assert not changing.done()
    await changing

    assert (await row(database, run_id))["dirty"] is True


async def test_of_ten_who_claim_a_projection_at_once_one_gets_it(database: Database) -> None:
    run_id = await shown_run(database)
    members = [await add_worker(database) for _ in range(10)]

    claims = await asyncio.gather(*(claim(database, run_id, worker) for worker in members))

    assert len([found for found in claims if found]) == 1


async def test_a_projection_that_its_process_did_not_survive_is_begun_again(database: Database) -> None:
    run_id, dead, alive = await shown_run(database), await add_dead_worker(database), await add_worker(database)
    await claim(database, run_id, dead)

    assert await waiting(database, alive) == [run_id]
    assert await claim(database, run_id, alive) is not None


async def test_a_silent_workers_projection_is_free_in_time_and_its_end_is_refused(database: Database) -> None:
    run_id, silent, other = (
        await shown_run(database),
        await add_worker(database, host="another"),
        await add_worker(database),
    )
    await claim(database, run_id, silent)

    assert (await waiting(database, other), await claim(database, run_id, other)) == ([], None)
    await age_worker(database, silent.worker_id, DEAD_AFTER + 1)
    assert await claim(database, run_id, other) is not None
    with pytest.raises(Fenced):
        await release(database, run_id, silent)


async def test_a_second_look_comes_in_time_and_earlier_where_the_run_changes(database: Database) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)
    later = NOW + timedelta(seconds=30)
    await claim(database, run_id, worker)
    await release(database, run_id, worker, again_at=later)

    assert await claim(database, run_id, worker) is None
    assert await waiting(database, worker, later) == [run_id]
    await touch(database, run_id)
    assert await claim(database, run_id, worker) is not None
    await release(database, run_id, worker)
    assert await waiting(database, worker, later) == []


async def test_after_a_failure_nothing_comes_before_its_time_whatever_changes(database: Database) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)
    later = NOW + timedelta(minutes=10)
    await claim(database, run_id, worker)
    await release(database, run_id, worker, again_at=later, error="the host asks for patience")

    await touch(database, run_id)

    early = later - timedelta(microseconds=1)
    assert (await waiting(database, worker, early), await claim(database, run_id, worker, early)) == ([], None)
    claimed = await claim(database, run_id, worker, later)
    assert claimed is not None
    assert (claimed["attempts"], claimed["error"]) == (1, "the host asks for patience")


async def test_a_failure_without_another_time_waits_for_the_next_change(database: Database) -> None:
    run_id, worker = await shown_run(database), await add_worker(database)
    await claim(database, run_id, worker)
    await release(database, run_id, worker, error="the repository is gone")

    assert await waiting(database, worker, NOW + timedelta(days=9)) == []
    await touch(database, run_id)

    assert await waiting(database, worker) == [run_id]


async def test_what_a_worker_forgot_to_give_back_is_its_own_to_take_up_again(database: Database) -> None:
    run_id, worker, other = await shown_run(database), await add_worker(database), await add_worker(database)
    await claim(database, run_id, worker)

    assert (await waiting(database, worker), await waiting(database, other)) == ([run_id], [])
    assert await claim(database, run_id, worker) is not None


async def test_the_end_of_a_run_keeps_the_doorbell_that_has_it_shown(database: Database) -> None:
    run_id = await shown_run(database)
    async with database.locked(run_id) as tx:
        await jobs.ring_run(tx)
        await jobs.forget(tx, run_id)

    assert await queued(database) == [bell(run_id)]


async def test_an_issue_is_unfinished_until_its_run_has_ended_is_closed_and_is_shown(database: Database) -> None:
    async def unfinished() -> bool:
        async with database.read() as tx:
            return (await run_row(database, run_id))["issue_number"] in await projections.unfinished_issues(tx, HOSTED)

    worker, at = await add_worker(database), datetime.now(UTC)
    run_id = await add_run(database, RunState.COMPLETED, repository_id=HOSTED, ended_at=at)
    assert await unfinished(), "its report is missing"
    async with database.locked(run_id) as tx:
        await runs.update_run(tx, final_report_path="/report.md")
    assert not await unfinished()
    async with database.locked(run_id) as tx:
        await projections.create(tx)
    assert await unfinished()
    await claim(database, run_id, worker)
    assert await unfinished(), "somebody may be lost while showing it"
    await release(database, run_id, worker, again_at=NOW)
    assert await unfinished()
    await claim(database, run_id, worker)
    await release(database, run_id, worker)
    assert not await unfinished()
    await add_run(database, repository_id=HOSTED + 1, issue_number=99)
    async with database.read() as tx:
        assert await projections.unfinished_issues(tx, HOSTED) == []
