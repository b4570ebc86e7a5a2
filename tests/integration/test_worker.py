"""Workers: they hear, take, advance and hand back, and get over whatever dies beneath them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from engine.domain.states import RunState
from engine.settings import Settings
from engine.store import deliveries, jobs
from engine.store.cluster import Cluster
from engine.store.database import Database, Lease
from engine.store.deliveries import NewDelivery
from engine.store.tables import runs, workers
from tests.rows import add_run, run_row
from tests.servers import crash
from tests.support.working import ONLY_DOORBELLS, stops_at_gate, until, until_state, working


async def until_queue(database: Database, run_id: UUID, queue: str, seconds: float = 40) -> None:
    """Wait until decisions about the run ring on `queue`."""
    async with asyncio.timeout(seconds):
        while (await run_row(database, run_id))["queue"] != queue:
            await asyncio.sleep(0.02)


async def decide(database: Database, run_id: UUID) -> None:
    """Let the run go on, as an approval does."""
    async with database.locked(run_id) as tx:
        await tx.execute(update(runs).where(runs.c.run_id == run_id).values(state=RunState.EXECUTING))
        await jobs.ring_run(tx)


async def test_a_doorbell_has_the_run_advanced_and_the_lease_handed_back(database: Database) -> None:
    run_id = await add_run(database, RunState.AWAITING_APPROVAL)

    async with working(database, stops_at_gate(database), ONLY_DOORBELLS):
        await asyncio.sleep(0.5)  # past the sweep at the start, so that only the doorbell is left
        await decide(database, run_id)
        await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert (await run_row(database, run_id))["epoch"] == 1


async def test_a_run_that_nobody_rang_for_is_swept_up(database: Database) -> None:
    run_id = await add_run(database)

    async with working(database, stops_at_gate(database)):
        await until_state(database, run_id, RunState.AWAITING_APPROVAL)


async def test_a_late_doorbell_takes_no_lease(database: Database) -> None:
    done, next_one = await add_run(database, RunState.AWAITING_APPROVAL), await add_run(database)
    async with database.transaction() as tx:
        await jobs.ring(tx, jobs.ADVANCE_RUN, str(done).encode())
        await jobs.ring(tx, jobs.ADVANCE_RUN, b"no run at all")

    async with working(database, stops_at_gate(database)):
        await until_state(database, next_one, RunState.AWAITING_APPROVAL)

    assert (await run_row(database, done))["epoch"] == 0


async def test_three_workers_lose_no_decision_and_never_drive_a_run_twice_at_once(database: Database) -> None:
    gates = 4
    run_ids = [await add_run(database, RunState.AWAITING_APPROVAL) for _ in range(8)]
    inside: set[UUID] = set()
    twice: list[UUID] = []
    reach_gate = stops_at_gate(database)

    async def advance(lease: Lease) -> None:
        if lease.run_id in inside:
            twice.append(lease.run_id)
        inside.add(lease.run_id)
        await reach_gate(lease)
        inside.discard(lease.run_id)

    async def decide_all(run_id: UUID) -> None:
        for _ in range(gates):
            async with asyncio.timeout(60):
                while (await run_row(database, run_id))["state"] != RunState.AWAITING_APPROVAL:
                    await asyncio.sleep(0.005)
            await decide(database, run_id)
        await until_state(database, run_id, RunState.AWAITING_APPROVAL, 20)

    async with (
        working(database, advance, ONLY_DOORBELLS),
        working(database, advance, ONLY_DOORBELLS),
        working(database, advance, ONLY_DOORBELLS),
    ):
        await asyncio.sleep(0.5)
        await asyncio.gather(*(decide_all(run_id) for run_id in run_ids))

    assert twice == []


async def test_no_more_runs_at_a_time_than_allowed_and_the_others_follow(database: Database) -> None:
    run_ids = [await add_run(database) for _ in range(5)]
    reach_gate, at_once, most = stops_at_gate(database), 0, 0

    async def advance(lease: Lease) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        await reach_gate(lease)
        at_once -= 1

    settings = Settings(data_dir=Path("/nowhere"), worker_slots=2, sweep_seconds=60)
    async with working(database, advance, settings):
        for run_id in run_ids:
            await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert most == 2


async def test_stopping_lets_a_run_finish_within_the_drain_time(database: Database) -> None:
    run_id = await add_run(database)
    reach_gate, started = stops_at_gate(database), asyncio.Event()

    async def advance(lease: Lease) -> None:
        started.set()
        await asyncio.sleep(0.5)
        await reach_gate(lease)

    async with working(database, advance):
        await started.wait()

    assert (await run_row(database, run_id))["state"] == RunState.AWAITING_APPROVAL


async def test_stopping_cancels_what_takes_too_long_and_hands_it_back_as_it_was(database: Database) -> None:
    run_id = await add_run(database)
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def advance(_: Lease) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    settings = Settings(data_dir=Path("/nowhere"), sweep_seconds=0.2, shutdown_drain_seconds=0.1)
    async with working(database, advance, settings) as worker:
        await started.wait()

    row = await run_row(database, run_id)
    async with database.transaction() as tx:
        stopped = await tx.one(select(workers).where(workers.c.worker_id == worker.identity.worker_id))
    assert cancelled.is_set()
    assert (row["state"], row["lease_worker"]) == (RunState.EXECUTING, None)
    assert stopped["stopped_at"] is not None


async def test_a_run_that_cannot_be_advanced_is_tried_again_but_not_in_a_hot_loop(database: Database) -> None:
    run_id = await add_run(database)
    tries: list[float] = []
    reach_gate = stops_at_gate(database)

    async def advance(lease: Lease) -> None:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise RuntimeError("a bug")
        await reach_gate(lease)

    async with working(database, advance):
        await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert len(tries) == 3
    assert tries[1] - tries[0] >= 1
    assert tries[2] - tries[1] >= 2


async def test_an_advance_that_changes_nothing_is_not_spun(database: Database) -> None:
    await add_run(database)
    tries = 0

    async def advance(_: Lease) -> None:
        nonlocal tries
        tries += 1

    async with working(database, advance):
        await until(lambda: tries)
        await asyncio.sleep(0.7)

    assert tries == 1


async def test_a_worker_deletes_from_time_to_time_what_is_kept_only_for_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.worker._PRUNE_SECONDS", 0.0)
    async with database.transaction() as tx:
        await deliveries.store_many(tx, [NewDelivery("old", "issues", {}, b"{}")])
        await tx.execute(text("UPDATE deliveries SET state = 'ignored', handled_at = now() - interval '31 days'"))

    async with working(database, stops_at_gate(database)), asyncio.timeout(60):
        while await _is_stored(database, "old"):
            await asyncio.sleep(0.02)


async def _is_stored(database: Database, delivery_id: str) -> bool:
    async with database.read() as tx:
        return await deliveries.get(tx, delivery_id) is not None


async def test_a_process_with_one_run_hears_about_that_at_once_takes_no_other_and_gives_its_queue_back(
    database: Database,
) -> None:
    mine, other = await add_run(database, RunState.AWAITING_APPROVAL), await add_run(database)
    advanced: list[UUID] = []

    async with working(database, stops_at_gate(database, advanced), ONLY_DOORBELLS, only_run=mine):
        await until_queue(database, mine, jobs.private_queue(mine))
        await decide(database, mine)
        await until(lambda: advanced)

    assert set(advanced) == {mine}
    assert (await run_row(database, other))["epoch"] == 0
    assert (await run_row(database, mine))["queue"] == jobs.ADVANCE_RUN


async def test_a_killed_workers_run_is_taken_over_at_once_on_the_same_machine(database: Database) -> None:
    run_id = await add_run(database)
    script = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from engine.settings import Settings
        from engine.store.database import Database
        from engine.worker import Worker
        async def advance(lease):
            print("driving", flush=True)
            await asyncio.sleep(600)
        asyncio.run(Worker(Database(sys.argv[1]), advance, settings=Settings(Path("/nowhere"))).run(asyncio.Event()))
    """)
    with subprocess.Popen([sys.executable, "-c", script, database.url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    async with working(database, stops_at_gate(database)):
        await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert (await run_row(database, run_id))["epoch"] == 2


async def test_a_worker_hears_again_after_its_listening_connection_was_cut(database: Database) -> None:
    run_id = await add_run(database, RunState.AWAITING_APPROVAL)

    async with working(database, stops_at_gate(database), ONLY_DOORBELLS):
        await asyncio.sleep(0.5)
        async with database.transaction() as tx:
            await tx.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await decide(database, run_id)
        await until_state(database, run_id, RunState.AWAITING_APPROVAL)


async def test_a_worker_outlives_a_database_that_crashes_and_comes_back(
    own_server: tuple[Cluster, Database],
) -> None:
    cluster, database = own_server
    first = await add_run(database)

    async with working(database, stops_at_gate(database)):
        await until_state(database, first, RunState.AWAITING_APPROVAL)
        crash(cluster)
        await asyncio.sleep(0.5)
        cluster.start()
        second = await added_when_possible(database)
        await until_state(database, second, RunState.AWAITING_APPROVAL)


async def test_a_worker_that_cannot_say_that_it_lives_stops_its_runs_and_takes_them_up_again(
    own_server: tuple[Cluster, Database],
) -> None:
    cluster, database = own_server
    run_id = await add_run(database)
    reach_gate = stops_at_gate(database)
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def advance(lease: Lease) -> None:
        if cancelled.is_set():
            await reach_gate(lease)
            return
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    settings = Settings(
        data_dir=Path("/nowhere"), heartbeat_seconds=0.2, worker_dead_after_seconds=1.5, sweep_seconds=0.2
    )
    async with working(database, advance, settings):
        await started.wait()
        crash(cluster)
        async with asyncio.timeout(60):
            await cancelled.wait()
        cluster.start()
        await until_state(database, run_id, RunState.AWAITING_APPROVAL)


async def added_when_possible(database: Database) -> UUID:
    """Insert a run as soon as the database answers again."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Exception):
                return await add_run(database)
            await asyncio.sleep(0.05)
