"""Attendants: they hear, handle one thing at a time per key, and get over failures, deaths and lost databases."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from engine.attendant import Attendant, Handle
from engine.domain.states import RunState
from engine.presence import Presence
from engine.settings import Settings
from engine.store import deliveries, jobs
from engine.store.cluster import Cluster
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.tables import workers
from tests.rows import add_run
from tests.servers import crash
from tests.support.clock import SteppedClock
from tests.support.working import FAST, stops_at_gate, until, until_state, working

RARELY = replace(FAST, sweep_seconds=60)


class Inbox:
    """Handles deliveries as an app does: claim, work, finish; and remembers what it saw."""

    def __init__(self, database: Database, presence: Presence, clock: SteppedClock | None = None) -> None:
        self.database = database
        self.presence = presence
        self.clock = clock or SteppedClock()
        self.handled: list[str] = []
        self.inside: list[str] = []
        self.most = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def handle(self, key: str) -> None:
        async with self.database.transaction() as tx:
            claimed = await deliveries.claim(
                tx, key, self.presence.worker_id, self.clock.now(), self.presence.dead_after_seconds
            )
        if claimed is None:
            return
        assert key not in self.inside
        self.inside.append(key)
        self.most = max(self.most, len(self.inside))
        try:
            await self.may_go_on.wait()
            async with self.database.transaction() as tx:
                await deliveries.finish(tx, key, self.presence.worker_id, "handled")
            self.handled.append(key)
        finally:
            self.inside.remove(key)

    async def waiting(self) -> list[str]:
        async with self.database.read() as tx:
            return await deliveries.waiting(
                tx, self.clock.now(), self.presence.worker_id, self.presence.dead_after_seconds
            )


@contextlib.asynccontextmanager
async def attending(inbox: Inbox, settings: Settings = FAST, handle: Handle | None = None) -> AsyncIterator[None]:
    """Run the inbox's attendant for the time of the block, and stop it in order."""
    attendant = Attendant(
        inbox.database,
        jobs.HANDLE_DELIVERY,
        handle or inbox.handle,
        inbox.waiting,
        presence=inbox.presence,
        concurrency=3,
        sweep_seconds=settings.sweep_seconds,
        drain_seconds=settings.shutdown_drain_seconds,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(attendant.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def an_inbox(
    database: Database, settings: Settings = FAST, clock: SteppedClock | None = None
) -> AsyncIterator[Inbox]:
    """Run an inbox with a presence of its own for the time of the block."""
    async with Presence(database, settings) as presence:
        inbox = Inbox(database, presence, clock)
        async with attending(inbox, settings):
            yield inbox


async def store(database: Database, *names: str) -> None:
    async with database.transaction() as tx:
        await deliveries.store_many(tx, [NewDelivery(name, "issues", {}, b"{}") for name in names])


async def deafen(database: Database) -> None:
    """Take all doorbells away."""
    async with database.transaction() as tx:
        await tx.connection.exec_driver_sql("DELETE FROM pgqueuer")


async def test_a_doorbell_has_its_row_handled_at_once(database: Database) -> None:
    async with an_inbox(database, RARELY) as inbox:
        await asyncio.sleep(0.5)  # past the sweep at the start, so that only the doorbell is left
        await store(database, "one")
        await until(lambda: inbox.handled)

    assert inbox.handled == ["one"]


async def test_the_sweeper_brings_what_nobody_rang_for(database: Database) -> None:
    async with an_inbox(database) as inbox:
        await store(database, "one")
        await deafen(database)
        await until(lambda: inbox.handled)


async def test_doorbells_for_one_key_become_one_more_look_while_it_is_in_hand(database: Database) -> None:
    calls: list[str] = []
    may_end = asyncio.Event()

    async def handle(key: str) -> None:
        calls.append(key)
        await may_end.wait()

    async with Presence(database, RARELY) as presence, attending(Inbox(database, presence), RARELY, handle):
        for _ in range(20):
            async with database.transaction() as tx:
                await jobs.ring(tx, jobs.HANDLE_DELIVERY, b"one")
        await until(lambda: calls)
        async with asyncio.timeout(60):
            while await _queued_jobs(database):
                await asyncio.sleep(0.02)
        may_end.set()
        await until(lambda: len(calls) == 2)
        await asyncio.sleep(0.3)

    assert calls == ["one", "one"]


async def _queued_jobs(database: Database) -> int:
    async with database.read() as tx:
        found: int = (await tx.connection.exec_driver_sql("SELECT count(*) FROM pgqueuer")).scalar_one()
    return found


async def test_no_more_at_once_than_allowed_and_each_key_once(database: Database) -> None:
    names = [f"delivery {n}" for n in range(12)]
    async with an_inbox(database) as inbox:
        inbox.may_go_on.clear()
        await store(database, *names)
        await until(lambda: len(inbox.inside) == 3)
        await asyncio.sleep(0.5)  # several sweeps, which bring nothing that is in hand
        inbox.may_go_on.set()
        await until(lambda: len(inbox.handled) == 12)

    assert inbox.most == 3
    assert sorted(inbox.handled) == sorted(names)


async def test_two_processes_share_the_deliveries_and_handle_none_twice(database: Database) -> None:
    names = [f"delivery {n}" for n in range(40)]
    async with an_inbox(database) as one, an_inbox(database) as other:
        await asyncio.gather(*(store(database, *names[n::4]) for n in range(4)))
        await until(lambda: len(one.handled) + len(other.handled) >= 40)

    assert sorted(one.handled + other.handled) == sorted(names)


async def test_what_raises_is_left_alone_for_a_growing_time_and_brought_back_by_the_sweeper(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []
    await store(database, "one")

    async with Presence(database, FAST) as presence:
        inbox = Inbox(database, presence)

        async def handle(key: str) -> None:
            tries.append(time.monotonic())
            async with database.transaction() as tx:  # and never given back
                await deliveries.claim(tx, key, presence.worker_id, inbox.clock.now(), presence.dead_after_seconds)
            if len(tries) < 3:
                raise RuntimeError("a bug")
            await inbox.handle(key)

        async with attending(inbox, handle=handle):
            await until(lambda: inbox.handled)

    assert len(tries) == 3
    assert tries[1] - tries[0] >= 1
    assert tries[2] - tries[1] >= 2
    logged = [record for record in caplog.records if record.exc_info and "one failed" in record.getMessage()]
    assert len(logged) == 2


async def test_a_postponed_row_is_swept_up_when_the_clock_says_so(database: Database) -> None:
    clock = SteppedClock()
    await store(database, "one")
    async with Presence(database, FAST) as presence:
        async with database.transaction() as tx:
            await deliveries.claim(tx, "one", presence.worker_id, clock.now(), 30)
            clock.step(600)
            await deliveries.postpone(tx, "one", presence.worker_id, clock.now(), "later")
            clock.step(-600)
        inbox = Inbox(database, presence, clock)
        async with attending(inbox):
            await asyncio.sleep(0.7)
            before = list(inbox.handled)
            clock.step(600)
            await until(lambda: inbox.handled)

    assert before == []


async def test_stopping_lets_what_is_in_hand_end_within_the_drain_time(database: Database) -> None:
    async with an_inbox(database) as inbox:
        inbox.may_go_on.clear()
        await store(database, "one")
        await until(lambda: inbox.inside)
        asyncio.get_running_loop().call_later(0.4, inbox.may_go_on.set)

    assert inbox.handled == ["one"]


async def test_stopping_cancels_what_takes_too_long_and_the_next_process_does_it_at_once(database: Database) -> None:
    async with an_inbox(database, replace(FAST, shutdown_drain_seconds=0.1)) as inbox:
        inbox.may_go_on.clear()
        await store(database, "one")
        await until(lambda: inbox.inside)

    assert inbox.inside == []
    async with an_inbox(database) as other:
        await until(lambda: other.handled)


async def test_a_killed_processs_claim_is_taken_over_at_once_on_the_same_machine(database: Database) -> None:
    script = textwrap.dedent("""
        import asyncio, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from engine.presence import Presence
        from engine.settings import Settings
        from engine.store import deliveries
        from engine.store.database import Database
        async def main():
            database = Database(sys.argv[1])
            async with Presence(database, Settings(Path("/nowhere"))) as presence:
                async with database.transaction() as tx:
                    assert await deliveries.claim(tx, "one", presence.worker_id, datetime.now(UTC), 30)
                print("in hand", flush=True)
                await asyncio.sleep(600)
        asyncio.run(main())
    """)
    await store(database, "one")
    with subprocess.Popen([sys.executable, "-c", script, database.url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    async with an_inbox(database) as inbox:
        await until(lambda: inbox.handled)


async def test_a_worker_and_two_attendants_share_one_presence(database: Database) -> None:
    run_id = await add_run(database)
    await store(database, "one")
    shown: list[str] = []

    async def show(key: str) -> None:
        shown.append(key)

    async def nothing() -> list[str]:
        return []

    async with Presence(database, FAST) as presence:
        inbox = Inbox(database, presence)
        projector = Attendant(
            database,
            jobs.RUN_CHANGED,
            show,
            nothing,
            presence=presence,
            concurrency=1,
            sweep_seconds=1,
            drain_seconds=1,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(projector.run(stop))
        async with working(database, stops_at_gate(database), presence=presence), attending(inbox):
            async with database.transaction() as tx:
                await jobs.ring(tx, jobs.RUN_CHANGED, b"a run")
            await until_state(database, run_id, RunState.AWAITING_APPROVAL)
            await until(lambda: inbox.handled and shown)
        stop.set()
        await task
        alive = await _workers(database)

    assert [(row["worker_id"], row["stopped_at"]) for row in alive] == [(presence.worker_id, None)]
    assert [row["stopped_at"] is not None for row in await _workers(database)] == [True]


async def _workers(database: Database) -> list[Any]:
    async with database.read() as tx:
        return await tx.all(select(workers))


async def test_an_attendant_outlives_a_database_that_crashes_and_comes_back(
    own_server: tuple[Cluster, Database],
) -> None:
    cluster, database = own_server

    async with an_inbox(database) as inbox:
        await store(database, "one")
        await until(lambda: inbox.handled)
        crash(cluster)
        await asyncio.sleep(0.5)
        cluster.start()
        async with asyncio.timeout(60):
            while "two" not in inbox.handled:
                with contextlib.suppress(Exception):
                    await store(database, "two")
                await asyncio.sleep(0.1)

    assert inbox.handled == ["one", "two"]


async def test_work_is_stopped_while_no_heartbeat_comes_through_and_taken_up_again(
    own_server: tuple[Cluster, Database],
) -> None:
    cluster, database = own_server
    settings = replace(FAST, worker_dead_after_seconds=6)

    async with an_inbox(database, settings) as inbox:
        inbox.may_go_on.clear()
        await store(database, "one")
        await until(lambda: inbox.inside)
        crashed_at = time.monotonic()
        crash(cluster)
        await until(lambda: not inbox.inside)
        stopped_after = time.monotonic() - crashed_at
        inbox.may_go_on.set()
        cluster.start()
        await until(lambda: inbox.handled)

    assert stopped_after < settings.worker_dead_after_seconds


async def test_a_database_that_is_not_there_at_the_start_is_told(postgres_server: Any) -> None:
    database = Database(postgres_server.url("no_such_database"))

    with pytest.raises(Exception, match="does not answer"):
        async with Presence(database, FAST):
            pass
    await database.close()


async def test_a_service_that_fails_is_told_and_not_hidden(database: Database) -> None:
    async with Presence(database, FAST) as presence:
        inbox = Inbox(database, presence)

        async def broken() -> list[str]:
            raise ZeroDivisionError("a bug in the sweep")

        inbox.waiting = broken  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            async with attending(inbox):
                await asyncio.sleep(1)
