"""Transactions: whole or not at all, and a database that is down is never taken for anything else."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from engine.domain.errors import DevflowError, Fenced
from engine.domain.ids import uuid7
from engine.store import leases
from engine.store.address import asyncpg_url, connect_arguments
from engine.store.database import Database
from engine.store.embedded import open_embedded
from engine.store.migrate import upgrade
from tests.rows import add_run, run_row
from tests.servers import cluster_of, crash


async def _code(act) -> str:
    with pytest.raises(DevflowError) as refusal:
        await act()
    return refusal.value.code


async def _cut_others(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_an_exception_in_the_block_rolls_back(database: Database) -> None:
    run_id = await add_run(database)

    with pytest.raises(ZeroDivisionError):
        async with database.locked(run_id) as tx:
            await tx.execute(text("UPDATE runs SET title = 'changed'"))
            raise ZeroDivisionError

    assert (await run_row(database, run_id))["title"] == "a run"


async def test_a_failed_statement_that_the_block_swallows_fails_the_transaction(database: Database) -> None:
    run_id = await add_run(database)

    with pytest.raises(DBAPIError, match="aborted"):
        async with database.locked(run_id) as tx:
            await tx.execute(text("UPDATE runs SET title = 'changed'"))
            with pytest.raises(DBAPIError):
                await tx.execute(text("SELECT 1 / 0"))

    assert (await run_row(database, run_id))["title"] == "a run"


async def test_a_violated_constraint_is_raised_as_it_is(database: Database) -> None:
    run_id = await add_run(database)

    with pytest.raises(IntegrityError):
        async with database.locked(run_id) as tx:
            await tx.execute(text("UPDATE runs SET state = 'nonsense'"))


async def test_a_cancelled_block_gives_its_connection_back(database_url: str) -> None:
    database = Database(database_url, pool_size=1)

    async def sleep_in_the_database() -> None:
        async with database.transaction() as tx:
            await tx.execute(text("SELECT pg_sleep(60)"))

    for _ in range(15):  # more than the pool has
        task = asyncio.create_task(sleep_in_the_database())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
    async with asyncio.timeout(60), database.transaction() as tx:
        answer = (await tx.execute(text("SELECT 1"))).scalar_one()
    await database.close()

    assert answer == 1


async def test_a_connection_cut_in_the_middle_is_unavailable_and_the_next_transaction_works(
    database: Database, database_url: str
) -> None:
    run_id = await add_run(database)
    other = Database(database_url)

    async def be_cut() -> None:
        async with database.locked(run_id) as tx:
            await _cut_others(other)
            await tx.execute(text("UPDATE runs SET title = 'changed'"))

    code = await _code(be_cut)
    await other.close()

    assert code == "database_unavailable"
    assert (await run_row(database, run_id))["title"] == "a run"


async def test_a_connection_cut_before_the_commit_is_unavailable(database: Database, database_url: str) -> None:
    run_id = await add_run(database)
    other = Database(database_url)

    async def be_cut() -> None:
        async with database.locked(run_id) as tx:
            await tx.execute(text("UPDATE runs SET title = 'changed'"))
            await _cut_others(other)

    code = await _code(be_cut)
    await other.close()

    assert code == "database_unavailable"
    assert (await run_row(database, run_id))["title"] == "a run"


@pytest.mark.parametrize("fresh_seconds", [-1.0, 3600.0])
async def test_a_connection_cut_while_nobody_used_it_is_replaced_whether_it_is_asked_or_not(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, fresh_seconds: float
) -> None:
    monkeypatch.setattr("engine.store.database._FRESH_SECONDS", fresh_seconds)
    run_id = await add_run(database)
    async with database.read() as tx:
        pooled = (await tx.connection.get_raw_connection()).driver_connection
    other = Database(database_url)
    await _cut_others(other)
    await other.close()
    async with asyncio.timeout(60):
        while pooled is not None and not pooled.is_closed():
            await asyncio.sleep(0.01)

    assert (await run_row(database, run_id))["title"] == "a run"


async def test_a_database_that_is_down_is_unavailable_never_not_found(data_dir: Path) -> None:
    server = await open_embedded(data_dir)
    await upgrade(server.url)
    database = Database(server.url)
    run_id = await add_run(database)
    crash(cluster_of(data_dir))

    async def read() -> None:
        async with database.locked(run_id):
            pass

    codes = [await _code(read) for _ in range(3)]
    again = await open_embedded(data_dir)
    found = (await run_row(database, run_id))["run_id"]
    await database.close()
    await again.close()
    await server.close()

    assert codes == ["database_unavailable"] * 3
    assert found == run_id


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://devflow@/devflow?host=/nowhere/at/all",
        "postgresql://devflow@127.0.0.1:1/devflow",
        "postgresql://devflow@no-such-host.invalid/devflow",
    ],
)
async def test_a_database_that_cannot_be_reached_is_unavailable(url: str) -> None:
    database = Database(url)

    async def read() -> None:
        async with database.transaction():
            pass

    assert await _code(read) == "database_unavailable"
    await database.close()


async def test_a_wrong_password_is_unavailable_and_not_repeated(database_url: str) -> None:
    arguments = connect_arguments(database_url)
    database = Database(f"postgresql://devflow:wrong-secret@/{arguments['database']}?host={arguments['host']}")

    with pytest.raises(DevflowError) as refusal:
        async with database.transaction():
            pass
    await database.close()

    assert refusal.value.code == "database_unavailable"
    assert "wrong-secret" not in str(refusal.value)


async def test_a_run_that_does_not_exist_is_not_found(database: Database) -> None:
    async def lock() -> None:
        async with database.locked(uuid7()):
            pass

    assert await _code(lock) == "run_not_found"


async def test_a_lease_of_a_lower_epoch_opens_no_transaction(database: Database) -> None:
    run_id = await add_run(database)
    stale = await leases.take(database, run_id, uuid7(), 30)
    await leases.take(database, run_id, uuid7(), 30)

    with pytest.raises(Fenced):
        async with database.fenced(stale):
            pytest.fail("the block of a fenced transaction ran")


async def test_two_locks_on_one_run_wait_for_each_other(database: Database) -> None:
    run_id = await add_run(database)
    order: list[str] = []

    async def second() -> None:
        async with database.locked(run_id):
            order.append("second")

    async with database.locked(run_id):
        task = asyncio.create_task(second())
        await asyncio.sleep(0.1)  # long enough for it to get through, if the lock let it
        order.append("first")
    await task

    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("postgres://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
        ("postgresql://u@h/d?sslmode=require", "postgresql+asyncpg://u@h/d?ssl=require"),
        ("postgresql://u@h/d?channel_binding=require", "postgresql+asyncpg://u@h/d"),
        ("postgresql+asyncpg://u@/d?host=%2Fsocket", "postgresql+asyncpg://u@/d?host=%2Fsocket"),
    ],
)
def test_urls_are_taken_as_people_write_them(written: str, expected: str) -> None:
    assert asyncpg_url(written) == expected


@pytest.mark.parametrize(
    "written", ["", "nonsense", "mysql://u:secret@h/d", "sqlite:///x", "postgresql://u:secret@h:x/d"]
)
def test_what_is_no_postgres_url_is_refused_without_showing_it(written: str) -> None:
    with pytest.raises(DevflowError) as refusal:
        asyncpg_url(written)

    assert refusal.value.code == "config_invalid"
    assert "secret" not in str(refusal.value)
