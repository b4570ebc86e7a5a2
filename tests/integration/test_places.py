"""Places: runs of one issue one after the other, caps over all workers, and a fair share for each repository."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, update

from engine.domain.states import RunState
from engine.settings import Settings
from engine.store import jobs, leases, places
from engine.store.database import Database, Lease
from engine.store.places import Caps, MustWait
from engine.store.tables import runs
from engine.worker import Advance
from tests.rows import add_dead_worker, add_run, add_worker, age_worker, run_row
from tests.support.working import FAST, ONLY_DOORBELLS, stops_at_gate, until, until_state, working

DEAD_AFTER = 30.0
BUSY, QUIET = 7, 8
CAPS = Caps(in_all=4, per_repository=2)
ENDED = {"state": RunState.ABORTED, "final_report_path": "/report.md"}


async def hosted(database: Database, repository_id: int = BUSY, **values: Any) -> UUID:
    return await add_run(database, **{"repository_id": repository_id, "state": RunState.CREATED, **values})


async def change(database: Database, run_id: UUID, **values: Any) -> None:
    async with database.transaction() as tx:
        await tx.execute(update(runs).where(runs.c.run_id == run_id).values(**values))


async def take(database: Database, run_id: UUID, caps: Caps | None = CAPS, worker: Any = None) -> Lease | None:
    worker = worker or await add_worker(database)
    try:
        return await leases.take(database, run_id, worker.worker_id, DEAD_AFTER, caps=caps)
    except MustWait:
        return None


async def runnable(database: Database, **options: Any) -> list[UUID]:
    async with database.read() as tx:
        return await leases.runnable(tx, DEAD_AFTER, **options)


# Runs of one issue


@pytest.mark.parametrize(
    ("earlier", "free"),
    [
        ({"state": RunState.CREATED}, False),
        ({"state": RunState.EXECUTING}, False),
        ({"state": RunState.AWAITING_APPROVAL}, False),
        ({"state": RunState.PAUSED, "paused_from_state": RunState.EXECUTING}, False),
        ({"state": RunState.ABORTED}, False),
        (ENDED, True),
    ],
)
async def test_a_run_waits_until_the_earlier_one_of_its_issue_has_ended_and_is_closed(
    database: Database, earlier: dict[str, Any], free: bool
) -> None:
    await hosted(database, issue_number=3, **earlier)
    run_id = await hosted(database, issue_number=3)

    found = run_id in await runnable(database)
    lease = await take(database, run_id)

    assert (found, lease is not None) == (free, free)


async def test_the_same_number_in_another_repository_is_another_issue(database: Database) -> None:
    await hosted(database, BUSY, issue_number=3)
    run_id = await hosted(database, QUIET, issue_number=3)

    assert run_id in await runnable(database)
    assert await take(database, run_id) is not None


async def test_three_runs_of_an_issue_come_in_the_order_of_their_numbers(database: Database) -> None:
    ids = [await hosted(database, issue_number=3) for _ in range(3)]

    order = []
    for _ in ids:
        (next_one,) = await runnable(database)
        order.append(next_one)
        await change(database, next_one, **ENDED)

    assert order == ids


async def test_an_earlier_run_that_a_living_worker_still_holds_is_in_the_way_and_one_that_a_dead_one_holds_is_not(
    database: Database,
) -> None:
    earlier = await hosted(database, issue_number=3)
    holder = await add_worker(database, host="another")
    assert await take(database, earlier, worker=holder) is not None
    await change(database, earlier, **ENDED)
    run_id = await hosted(database, issue_number=3)

    held = await runnable(database), await take(database, run_id)
    await age_worker(database, holder.worker_id, DEAD_AFTER + 1)
    found = await runnable(database)

    assert held == ([], None)
    assert found == [run_id]
    assert await take(database, run_id) is not None


async def test_a_run_that_was_ended_while_it_waited_is_closed_without_waiting(database: Database) -> None:
    await hosted(database, issue_number=3, state=RunState.AWAITING_APPROVAL)
    run_id = await hosted(database, issue_number=3, state=RunState.ABORTED)

    assert await runnable(database) == [run_id]
    assert await take(database, run_id) is not None


async def test_the_next_run_of_an_issue_begins_when_the_one_before_is_handed_back(database: Database) -> None:
    first = await hosted(database, issue_number=3)
    second = await hosted(database, issue_number=3)
    order: list[UUID] = []

    async def advance(lease: Lease) -> None:
        order.append(lease.run_id)
        async with database.fenced(lease) as tx:
            mine = runs.c.run_id == lease.run_id
            await tx.execute(update(runs).where(mine).values(ENDED | {"updated_at": func.clock_timestamp()}))

    async with working(database, advance, ONLY_DOORBELLS):
        await until_state(database, second, RunState.ABORTED)

    assert order == [first, second]


# Caps


async def test_of_ten_taken_at_once_a_repository_gets_as_many_as_it_may_have(database: Database) -> None:
    ids = [await hosted(database) for _ in range(10)]

    taken = await asyncio.gather(*(take(database, run_id) for run_id in ids))

    assert len([lease for lease in taken if lease]) == CAPS.per_repository


async def test_all_repositories_together_get_as_many_as_there_may_be(database: Database) -> None:
    ids = [await hosted(database, repository) for repository in range(1, 11)]

    taken = await asyncio.gather(*(take(database, run_id) for run_id in ids))

    assert len([lease for lease in taken if lease]) == CAPS.in_all


async def test_a_handed_back_lease_and_a_dead_workers_one_are_free_places(database: Database) -> None:
    caps = Caps(in_all=9, per_repository=1)
    first, second, third = [await hosted(database) for _ in range(3)]
    lease = await take(database, first, caps)
    assert lease is not None
    assert await take(database, second, caps) is None

    await change(database, first, state=RunState.AWAITING_APPROVAL)
    assert await leases.hand_back(database, lease)
    assert await take(database, second, caps, await add_dead_worker(database)) is not None

    assert await take(database, third, caps) is not None


async def test_runs_of_local_repositories_take_no_place_and_need_none(database: Database) -> None:
    caps = Caps(in_all=1, per_repository=1)
    local = [await add_run(database) for _ in range(3)]

    assert all([await take(database, run_id, caps) for run_id in local])
    assert await take(database, await hosted(database), caps) is not None
    assert await take(database, await add_run(database), caps) is not None


async def test_whoever_drives_one_run_by_hand_is_never_refused(database: Database) -> None:
    for _ in range(3):
        assert await take(database, await hosted(database), caps=None) is not None


async def test_what_only_has_to_be_stopped_or_closed_needs_no_place(database: Database) -> None:
    full = Caps(in_all=1, per_repository=1)
    assert await take(database, await hosted(database), full) is not None
    waits = await hosted(database)
    ended = await hosted(database, state=RunState.ABORTED)
    stopping = await hosted(database, state=RunState.EXECUTING, requested_action="abort")

    assert await runnable(database, caps=full) == [ended, stopping]
    assert await take(database, ended, full) is not None
    assert await take(database, stopping, full) is not None
    assert await take(database, waits, full) is None


# Fairness


async def test_a_free_place_goes_to_the_repository_that_has_the_fewest_then_to_the_oldest(database: Database) -> None:
    busy = [await hosted(database, BUSY) for _ in range(4)]
    quiet = [await hosted(database, QUIET) for _ in range(2)]

    assert await runnable(database) == [busy[0], quiet[0], busy[1], quiet[1], busy[2], busy[3]]
    assert await take(database, busy[0]) is not None
    assert await runnable(database, limit=3) == [quiet[0], busy[1], quiet[1]]
    assert await runnable(database, caps=CAPS) == [quiet[0], busy[1], quiet[1]]


async def test_the_look_and_the_taking_agree_on_the_caps(database: Database) -> None:
    for repository in (1, 2, 3, 1, 2, 3, 1, 2, 3):
        await hosted(database, repository)

    steps = 0
    while found := await runnable(database, caps=CAPS):
        assert await take(database, found[0]) is not None
        steps += 1

    assert steps == CAPS.in_all


class Counting:
    """An `advance` that takes runs to their gate, slowly, and counts how many are driven at once.

    Nothing goes on before `at_least` have been driven at once, however slow the machine is.
    """

    def __init__(self, database: Database, seconds: float = 0.1, at_least: int = 1) -> None:
        self.reach_gate: Advance = stops_at_gate(database)
        self.database = database
        self.seconds = seconds
        self.now: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.most_in_all = 0
        self.order: list[int] = []
        self.at_least = at_least
        self.enough = asyncio.Event()

    async def __call__(self, lease: Lease) -> None:
        repository_id = lease.repository_id
        self.order.append(repository_id)
        self.now[repository_id] += 1
        self.most[repository_id] = max(self.most[repository_id], self.now[repository_id])
        self.most_in_all = max(self.most_in_all, self.now.total())
        if self.most_in_all >= self.at_least:
            self.enough.set()
        await self.enough.wait()
        await asyncio.sleep(self.seconds)
        self.now[repository_id] -= 1
        await self.reach_gate(lease)


async def test_many_runs_of_two_repositories_on_three_workers_keep_the_caps_and_all_get_done(
    database: Database,
) -> None:
    settings = replace(FAST, max_concurrent_runs=3, max_concurrent_runs_per_repository=2)
    ids = [await hosted(database, repository) for repository in (BUSY,) * 12 + (QUIET,) * 6]
    counting = Counting(database, at_least=3)

    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(working(database, counting, settings))
        for run_id in ids:
            await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert max(counting.most.values()) == 2
    assert counting.most_in_all == 3
    first = Counter(counting.order[:12])
    assert first[QUIET] >= 3, "the quiet repository does not wait for the end of the busy one's queue"


async def test_a_worker_with_one_slot_goes_by_age(database: Database) -> None:
    settings = Settings(data_dir=Path("/nowhere"), worker_slots=1, sweep_seconds=60)
    busy = [await hosted(database, BUSY) for _ in range(3)]
    quiet = await hosted(database, QUIET)
    late = await hosted(database, BUSY)
    counting = Counting(database, seconds=0.02)

    async with working(database, counting, settings):
        for run_id in (*busy, quiet, late):
            await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert counting.order == [BUSY, BUSY, BUSY, QUIET, BUSY]
    assert counting.most_in_all == 1


async def test_a_place_that_becomes_free_is_taken_at_once_without_a_sweep(database: Database) -> None:
    settings = replace(FAST, sweep_seconds=60, max_concurrent_runs_per_repository=1)
    ids = [await hosted(database) for _ in range(6)]
    counting = Counting(database, seconds=0.01)

    async with working(database, counting, settings):
        for run_id in ids:
            await until_state(database, run_id, RunState.AWAITING_APPROVAL)

    assert counting.most == {BUSY: 1}


async def test_a_worker_that_has_no_place_for_a_run_hears_about_the_next_one(database: Database) -> None:
    settings = replace(FAST, sweep_seconds=60, max_concurrent_runs_per_repository=1)
    driving, may_end = asyncio.Event(), asyncio.Event()
    reach_gate = stops_at_gate(database)

    async def advance(lease: Lease) -> None:
        if lease.repository_id == BUSY:
            driving.set()
            await may_end.wait()
        await reach_gate(lease)

    await hosted(database, BUSY)
    async with working(database, advance, settings):
        await driving.wait()
        waits, other = await hosted(database, BUSY), await hosted(database, QUIET)
        for run_id in (waits, other):
            async with database.locked(run_id) as tx:
                await jobs.ring_run(tx)
        await until_state(database, other, RunState.AWAITING_APPROVAL)
        refused = (await run_row(database, waits))["lease_worker"]
        may_end.set()
        await until_state(database, waits, RunState.AWAITING_APPROVAL)

    assert refused is None


async def test_a_worker_asks_for_nothing_while_all_its_slots_are_taken(database: Database) -> None:
    settings = replace(FAST, worker_slots=1)
    may_end = asyncio.Event()
    driven: list[UUID] = []
    reach_gate = stops_at_gate(database)

    async def advance(lease: Lease) -> None:
        driven.append(lease.run_id)
        await may_end.wait()
        await reach_gate(lease)

    first, second = await add_run(database), await add_run(database)
    async with working(database, advance, settings):
        await until(lambda: driven)
        await asyncio.sleep(0.5)
        held = (await run_row(database, second))["lease_worker"]
        may_end.set()
        await until_state(database, second, RunState.AWAITING_APPROVAL)

    assert driven == [first, second]
    assert held is None


def test_the_caps_are_the_operators_settings() -> None:
    settings = Settings(data_dir=Path("/nowhere"), max_concurrent_runs=9, max_concurrent_runs_per_repository=3)

    assert places.Caps.of(settings) == Caps(in_all=9, per_repository=3)
