"""The lease protocol: one holder at a time, no lost wake-up, and no write by whoever lost the lease."""

import asyncio
import dataclasses
import os
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from engine.domain.errors import DevflowError, Fenced
from engine.domain.ids import uuid7
from engine.domain.states import RunState
from engine.store import leases, workers
from engine.store.database import Database, Lease
from engine.store.tables import runs
from engine.store.workers import WorkerIdentity
from tests.rows import add_run, age_worker, run_row

DEAD_AFTER = 30.0


async def _worker(database: Database, **values: Any) -> WorkerIdentity:
    worker = dataclasses.replace(WorkerIdentity.of_this_process(), **values)
    async with database.transaction() as tx:
        await workers.register(tx, worker)
    return worker


async def _refusal(database: Database, run_id: Any, worker: WorkerIdentity) -> DevflowError | None:
    try:
        await leases.take(database, run_id, worker.worker_id, DEAD_AFTER)
    except DevflowError as error:
        return error
    return None


class Protocol:
    """Takes every step twice: on the real rows, and on a model of what the design promises."""

    def __init__(self, database: Database, run_id: Any, members: list[WorkerIdentity]) -> None:
        self.database = database
        self.run_id = run_id
        self.members = members
        self.believed: dict[int, Lease] = {}
        self.dead: set[int] = set()
        self.holder: int | None = None
        self.epoch = 0
        self.work = True

    async def take(self, who: int) -> None:
        free = self.holder is None or self.holder == who or self.holder in self.dead
        try:
            lease = await leases.take(self.database, self.run_id, self.members[who].worker_id, DEAD_AFTER)
        except DevflowError as error:
            assert error.code == "worker_already_running"
            assert not free
            return
        assert free
        assert lease.epoch > self.epoch
        self.epoch, self.holder, self.believed[who] = lease.epoch, who, lease

    async def finish_work(self, who: int) -> None:
        if who not in self.believed:
            return
        current = self.holder == who and self.believed[who].epoch == self.epoch
        try:
            async with self.database.fenced(self.believed[who]) as tx:
                await tx.execute(
                    update(runs).where(runs.c.run_id == self.run_id).values(state=RunState.AWAITING_APPROVAL)
                )
        except Fenced:
            assert not current
            del self.believed[who]
            return
        assert current
        self.work = False

    async def hand_back(self, who: int) -> None:
        if who not in self.believed:
            return
        current = self.holder == who and self.believed[who].epoch == self.epoch
        try:
            given_up = await leases.hand_back(self.database, self.believed[who])
        except Fenced:
            assert not current
            del self.believed[who]
            return
        assert current
        assert given_up is not self.work
        if given_up:
            self.holder = None
            del self.believed[who]

    async def decide(self, _: int) -> None:
        async with self.database.locked(self.run_id):
            pass
        async with self.database.locked(self.run_id) as tx:
            await tx.execute(update(runs).where(runs.c.run_id == self.run_id).values(state=RunState.EXECUTING))
        self.work = True

    async def fall_silent(self, who: int) -> None:
        await age_worker(self.database, self.members[who].worker_id, DEAD_AFTER * 2)
        self.dead.add(who)

    async def beat(self, who: int) -> None:
        async with self.database.transaction() as tx:
            await workers.register(tx, self.members[who])
        self.dead.discard(who)

    async def end(self, who: int) -> None:
        async with self.database.transaction() as tx:
            await workers.stop(tx, self.members[who].worker_id)
        self.dead.add(who)

    async def check(self) -> None:
        row = await run_row(self.database, self.run_id)
        assert row["epoch"] == self.epoch
        assert row["lease_worker"] == (None if self.holder is None else self.members[self.holder].worker_id)
        async with self.database.transaction() as tx:
            swept = self.run_id in await leases.runnable(tx, DEAD_AFTER, only_run=self.run_id)
        driven = self.holder is not None and self.holder not in self.dead
        assert swept == (self.work and not driven), "undone work has a live holder or is rung for, never neither"


STEPS = ["take", "finish_work", "hand_back", "decide", "fall_silent", "beat", "end"]


@pytest.mark.parametrize("count", [2, 3])
@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_any_order_of_steps_keeps_one_writer_and_loses_no_wake_up(
    count: int, database: Database, data: st.DataObject
) -> None:
    steps = data.draw(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, count - 1)), max_size=25))
    members = [await _worker(database) for _ in range(count)]
    protocol = Protocol(database, await add_run(database), members)

    for step, who in steps:
        await getattr(protocol, step)(who)
        await protocol.check()


async def test_of_ten_takers_at_once_one_gets_the_lease(database: Database) -> None:
    run_id = await add_run(database)
    members = [await _worker(database) for _ in range(10)]

    refusals = await asyncio.gather(*(_refusal(database, run_id, worker) for worker in members))

    assert [error.code for error in refusals if error] == ["worker_already_running"] * 9
    assert (await run_row(database, run_id))["epoch"] == 1


async def test_the_refusal_says_who_holds_the_run(database: Database) -> None:
    run_id = await add_run(database)
    holder, other = await _worker(database), await _worker(database)
    await leases.take(database, run_id, holder.worker_id, DEAD_AFTER)

    error = await _refusal(database, run_id, other)

    assert error is not None
    assert f"process {holder.pid} on {holder.host}, last heard of 0 s ago" in error.message


async def test_a_holder_whose_process_is_gone_frees_at_once(database: Database) -> None:
    run_id = await add_run(database)
    ended = subprocess.Popen(["true"])
    ended.wait()
    holder = await _worker(database, worker_id=uuid7(), pid=ended.pid)
    await leases.take(database, run_id, holder.worker_id, DEAD_AFTER)

    assert await _refusal(database, run_id, await _worker(database)) is None


async def test_a_process_id_used_again_is_not_the_holder(database: Database) -> None:
    run_id = await add_run(database)
    holder = await _worker(database, worker_id=uuid7(), pid=os.getpid(), pid_started="1")
    await leases.take(database, run_id, holder.worker_id, DEAD_AFTER)

    assert await _refusal(database, run_id, await _worker(database)) is None


async def test_a_holder_that_is_a_zombie_frees_at_once(database: Database) -> None:
    run_id = await add_run(database)
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        holder = await _worker(database, worker_id=uuid7(), pid=zombie.pid)
        await leases.take(database, run_id, holder.worker_id, DEAD_AFTER)

        refusal = await _refusal(database, run_id, await _worker(database))

    assert refusal is None


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"boot_id": "another"}])
async def test_another_machines_holder_is_judged_by_its_heartbeat_alone(
    database: Database, elsewhere: dict[str, str]
) -> None:
    run_id = await add_run(database)
    holder = await _worker(database, worker_id=uuid7(), pid=2**22, **elsewhere)
    await leases.take(database, run_id, holder.worker_id, DEAD_AFTER)
    other = await _worker(database)

    before = await _refusal(database, run_id, other)
    await age_worker(database, holder.worker_id, DEAD_AFTER + 1)
    after = await _refusal(database, run_id, other)

    assert before is not None
    assert after is None


async def test_a_decision_before_the_hand_back_keeps_the_lease(database: Database) -> None:
    run_id = await add_run(database, RunState.AWAITING_APPROVAL)
    worker = await _worker(database)
    lease = await leases.take(database, run_id, worker.worker_id, DEAD_AFTER)

    async with database.locked(run_id) as tx:
        handing_back = asyncio.create_task(leases.hand_back(database, lease))
        await asyncio.sleep(0.1)  # it waits for the row; without the lock it would be through by now
        assert not handing_back.done()
        await tx.execute(update(runs).where(runs.c.run_id == run_id).values(state=RunState.EXECUTING))

    assert await handing_back is False


async def test_a_fenced_writer_writes_nothing(database: Database) -> None:
    run_id = await add_run(database)
    first, second = await _worker(database), await _worker(database)
    stale = await leases.take(database, run_id, first.worker_id, DEAD_AFTER)
    await age_worker(database, first.worker_id, DEAD_AFTER * 2)
    await leases.take(database, run_id, second.worker_id, DEAD_AFTER)

    with pytest.raises(Fenced):
        async with database.fenced(stale) as tx:
            await tx.execute(update(runs).where(runs.c.run_id == run_id).values(title="stale"))

    assert (await run_row(database, run_id))["title"] == "a run"


async def test_taking_a_run_that_does_not_exist_says_so(database: Database) -> None:
    error = await _refusal(database, uuid7(), await _worker(database))

    assert error is not None
    assert error.code == "run_not_found"


@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("requested", [None, "pause"])
@pytest.mark.parametrize("report", [None, "/report.md"])
async def test_the_row_and_the_query_agree_on_what_needs_a_worker(
    database: Database, state: RunState, requested: str | None, report: str | None
) -> None:
    run_id = await add_run(database, state, requested_action=requested, final_report_path=report)

    async with database.transaction() as tx:
        found = await leases.runnable(tx, DEAD_AFTER)

    assert (run_id in found) == leases.needs_worker(await run_row(database, run_id))


async def test_a_run_of_a_private_queue_is_left_to_its_own_process_for_a_while(database: Database) -> None:
    run_id = await add_run(database, queue="advance_run:mine")
    async with database.transaction() as tx:
        young = await leases.runnable(tx, DEAD_AFTER, shared_queue="advance_run")
        old = await leases.runnable(tx, 0.0, shared_queue="advance_run")

    assert (young, old) == ([], [run_id])


async def test_a_lease_of_an_idle_worker_is_swept(database: Database) -> None:
    run_id = await add_run(database)
    worker = await _worker(database)
    await leases.take(database, run_id, worker.worker_id, DEAD_AFTER)

    async with database.transaction() as tx:
        by_others = await leases.runnable(tx, DEAD_AFTER)
        by_itself = await leases.runnable(tx, DEAD_AFTER, idle_worker=worker.worker_id)
        driving = await leases.runnable(tx, DEAD_AFTER, idle_worker=worker.worker_id, driven=[run_id])

    assert (by_others, by_itself, driving) == ([], [run_id], [])
