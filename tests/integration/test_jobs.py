"""Doorbells commit with the transaction that calls for them, or not at all."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import text

from engine.store import jobs
from engine.store.database import Database
from tests.rows import add_run, queued


async def test_a_doorbell_as_the_first_statement_goes_with_a_rollback(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await jobs.ring(tx, "bell", b"x")
            raise ZeroDivisionError

    assert await queued(database) == []


async def test_a_doorbell_comes_with_the_commit(database: Database) -> None:
    async with database.transaction() as tx:
        await jobs.ring(tx, "bell", b"x")

    assert await queued(database) == [("bell", b"x")]


async def test_a_run_rings_on_its_own_queue(database: Database) -> None:
    run_id = await add_run(database, queue="some queue")

    async with database.locked(run_id) as tx:
        await jobs.ring_run(tx)

    assert await queued(database) == [("some queue", str(run_id).encode())]


async def test_the_sweepers_doorbell_is_not_doubled_while_one_waits(database: Database) -> None:
    run_id = await add_run(database)

    for _ in range(3):
        async with database.transaction() as tx:
            await jobs.ring_unless_queued(tx, jobs.ADVANCE_RUN, run_id)

    assert await queued(database) == [(jobs.ADVANCE_RUN, str(run_id).encode())]


async def test_forgetting_a_run_deletes_its_doorbells_in_every_queue_and_no_others(database: Database) -> None:
    mine, other = await add_run(database), await add_run(database)
    async with database.transaction() as tx:
        for run_id in (mine, other):
            for queue in (jobs.private_queue(run_id), jobs.ADVANCE_RUN):
                await jobs.ring(tx, queue, str(run_id).encode())

    async with database.transaction() as tx:
        await jobs.forget(tx, mine)

    bell = str(other).encode()
    assert await queued(database) == [(jobs.private_queue(other), bell), (jobs.ADVANCE_RUN, bell)]


async def test_old_log_rows_are_pruned_and_young_ones_kept(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            text(
                "INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint) VALUES"
                " (now() - interval '25 hours', 1, 'successful', 0, 'bell'), (now(), 2, 'successful', 0, 'bell')"
            )
        )

    async with database.transaction() as tx:
        await jobs.prune(tx)
        left = (await tx.execute(text("SELECT job_id FROM pgqueuer_log"))).scalars().all()

    assert left == [2]


def test_the_environment_does_not_rename_the_queues_tables() -> None:
    script = (
        "from engine.store.jobs import QUEUE_SETTINGS as s;"
        " print(s.channel, s.qualified.queue_table, s.qualified.function)"
    )
    environment = os.environ | {"CHANNEL": "other", "FUNCTION": "other", "PGQUEUER_QUEUE_TABLE": "other"}

    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["ch_pgqueuer", "pgqueuer", "fn_pgqueuer_changed"]
