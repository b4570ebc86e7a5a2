"""Deliveries: each is new once, rings once, and is in one pair of hands at a time until it is finished."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import RowMapping, func, update

from engine.domain.errors import Fenced
from engine.store import deliveries, jobs
from engine.store.database import Database
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import deliveries as table
from engine.store.workers import WorkerIdentity
from tests.rows import add_dead_worker, add_worker, age_worker, queued

NOW = datetime(2020, 5, 17, 12, tzinfo=UTC)  # long before the database's own time, which must not matter
DEAD_AFTER = 30.0


def delivery(name: str, body: bytes = b'{"a": 1}') -> NewDelivery:
    return NewDelivery(name, "issues", {"X-GitHub-Event": "issues"}, body)


async def store(database: Database, *names: str) -> set[str]:
    async with database.transaction() as tx:
        return await deliveries.store_many(tx, [delivery(name) for name in names])


async def claim(database: Database, name: str, worker: WorkerIdentity, now: datetime = NOW) -> RowMapping | None:
    async with database.transaction() as tx:
        return await deliveries.claim(tx, name, worker.worker_id, now, DEAD_AFTER)


async def waiting(database: Database, worker: WorkerIdentity, now: datetime = NOW, **options: Any) -> list[str]:
    async with database.read() as tx:
        return await deliveries.waiting(tx, now, worker.worker_id, DEAD_AFTER, **options)


async def row(database: Database, name: str) -> RowMapping:
    async with database.read() as tx:
        found = await deliveries.get(tx, name)
    assert found is not None
    return found


async def test_a_delivery_that_comes_three_times_at_once_is_new_once_and_rings_once(database: Database) -> None:
    new = await asyncio.gather(*(store(database, "one") for _ in range(3)))

    assert sorted(map(len, new)) == [0, 0, 1]
    assert await queued(database) == [(jobs.HANDLE_DELIVERY, b"one")]


async def test_transactions_with_the_same_deliveries_in_another_order_do_not_get_in_each_others_way(
    database: Database,
) -> None:
    names = [f"delivery {n}" for n in range(20)]

    new = await asyncio.gather(*(store(database, *names[::step]) for step in (1, -1) for _ in range(4)))

    assert sorted(name for some in new for name in some) == sorted(names)
    assert len(await queued(database)) == 20


async def test_deliveries_ring_in_the_order_in_which_they_came(database: Database) -> None:
    await store(database, "c", "a", "b", "a")

    assert [payload for _, payload in await queued(database)] == [b"c", b"a", b"b"]


async def test_neither_delivery_nor_doorbell_stays_of_a_transaction_that_fails(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await deliveries.store_many(tx, [delivery("one")])
            raise ZeroDivisionError

    async with database.read() as tx:
        assert await deliveries.known(tx, ["one"]) == set()
    assert await queued(database) == []


async def test_what_is_stored_is_what_came_in(database: Database) -> None:
    body = bytes(range(256))
    async with database.transaction() as tx:
        await deliveries.store_many(tx, [delivery("one", body)])

    stored = await row(database, "one")

    assert (stored["body"], stored["event"], stored["headers"]) == (body, "issues", {"X-GitHub-Event": "issues"})
    assert (stored["state"], stored["repository_id"], stored["attempts"]) == ("received", 0, 0)


async def test_of_ten_who_claim_a_delivery_at_once_one_gets_it(database: Database) -> None:
    await store(database, "one")
    members = [await add_worker(database) for _ in range(10)]

    claims = await asyncio.gather(*(claim(database, "one", worker) for worker in members))

    assert len([found for found in claims if found]) == 1
    assert (await row(database, "one"))["attempts"] == 1


async def test_a_claim_of_a_process_that_is_gone_is_free_at_once(database: Database) -> None:
    await store(database, "one")
    dead, alive = await add_dead_worker(database), await add_worker(database)
    await claim(database, "one", dead)

    assert await waiting(database, alive) == ["one"]
    claimed = await claim(database, "one", alive)

    assert claimed is not None
    assert claimed["attempts"] == 2


async def test_a_claim_on_another_machine_is_free_when_its_worker_has_been_silent_for_too_long(
    database: Database,
) -> None:
    await store(database, "one")
    silent, other = await add_worker(database, host="another"), await add_worker(database)
    await claim(database, "one", silent)

    assert await waiting(database, other) == []
    assert await claim(database, "one", other) is None
    await age_worker(database, silent.worker_id, DEAD_AFTER + 1)

    assert await waiting(database, other) == ["one"]
    assert await claim(database, "one", other) is not None


async def test_whoever_lost_a_claim_writes_nothing(database: Database) -> None:
    await store(database, "one")
    silent, other = await add_worker(database, host="another"), await add_worker(database)
    await claim(database, "one", silent)
    await age_worker(database, silent.worker_id, DEAD_AFTER + 1)
    await claim(database, "one", other)

    for write in (
        lambda tx: deliveries.decide(tx, "one", silent.worker_id, [{"kind": "reply"}]),
        lambda tx: deliveries.finish(tx, "one", silent.worker_id, "handled"),
        lambda tx: deliveries.postpone(tx, "one", silent.worker_id, None),
    ):
        with pytest.raises(Fenced):
            async with database.transaction() as tx:
                await write(tx)

    stored = await row(database, "one")
    assert (stored["state"], stored["responses"], stored["claimed_by"]) == ("received", None, other.worker_id)


async def test_what_was_decided_is_there_for_whoever_takes_over(database: Database) -> None:
    await store(database, "one")
    dead, alive = await add_dead_worker(database), await add_worker(database)
    await claim(database, "one", dead)
    async with database.transaction() as tx:
        await deliveries.decide(tx, "one", dead.worker_id, [{"kind": "reply", "body": "no"}])

    claimed = await claim(database, "one", alive)

    assert claimed is not None
    assert claimed["responses"] == [{"kind": "reply", "body": "no"}]


async def test_a_finished_delivery_belongs_to_its_repository_and_is_never_claimed_again(database: Database) -> None:
    await store(database, "one")
    worker = await add_worker(database)
    await claim(database, "one", worker)

    async with database.transaction() as tx:
        await deliveries.finish(tx, "one", worker.worker_id, "handled", "started a run", repository_id=7)

    done = await row(database, "one")
    assert (done["state"], done["outcome"], done["repository_id"]) == ("handled", "started a run", 7)
    assert (done["claimed_by"], done["handled_at"] is not None) == (None, True)
    assert await claim(database, "one", worker) is None
    assert await waiting(database, worker) == []
    assert await store(database, "one") == set()


async def test_a_postponed_delivery_comes_when_its_time_has_come_and_not_before(database: Database) -> None:
    await store(database, "one")
    worker = await add_worker(database)
    await claim(database, "one", worker)
    later = NOW + timedelta(minutes=10)
    async with database.transaction() as tx:
        await deliveries.postpone(tx, "one", worker.worker_id, later, "the host does not answer")

    early = later - timedelta(microseconds=1)
    assert (await waiting(database, worker, early), await claim(database, "one", worker, early)) == ([], None)
    assert await waiting(database, worker, later) == ["one"]
    claimed = await claim(database, "one", worker, later)
    assert claimed is not None
    assert claimed["outcome"] == "the host does not answer"


async def test_what_fails_again_and_again_does_not_stand_in_the_way_of_what_is_new(database: Database) -> None:
    worker = await add_worker(database)
    await store(database, *(f"bad {n}" for n in range(5)))
    for n in range(5):
        await claim(database, f"bad {n}", worker)
    await store(database, "new")

    assert await waiting(database, worker, limit=1) == ["new"]


async def test_old_deliveries_are_pruned_unless_they_still_wait(database: Database) -> None:
    worker = await add_worker(database)
    await store(database, "old", "young", "waiting")
    for name in ("old", "young"):
        await claim(database, name, worker)
        async with database.transaction() as tx:
            await deliveries.finish(tx, name, worker.worker_id, "ignored")
    async with database.transaction() as tx:
        long_ago = func.clock_timestamp() - timedelta(days=31)
        await tx.execute(
            update(table)
            .where(table.c.delivery_id.in_(["old", "waiting"]))
            .values(received_at=long_ago, handled_at=func.least(table.c.handled_at, long_ago))
        )

    async with database.transaction() as tx:
        await tx.execute(update(table).where(table.c.delivery_id == "waiting").values(handled_at=None))
        assert await deliveries.prune(tx) == 1
        left = await deliveries.known(tx, ["old", "young", "waiting"])

    assert left == {"young", "waiting"}
