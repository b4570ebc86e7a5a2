"""Rows of a host's repositories and of what is shown there: found by our key and by the host's id."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from engine.store import hosted, surfaces
from engine.store.database import Database
from tests.rows import add_run

NOW = datetime(2020, 5, 17, 12, tzinfo=UTC)
HOSTED = 7


async def put(database: Database, name: str = "ada/engine", branch: str = "main") -> None:
    async with database.transaction() as tx:
        await hosted.put(tx, HOSTED, 70, name, branch)


async def test_a_repository_has_the_name_that_the_host_gave_it_last(database: Database) -> None:
    await put(database)
    await put(database, "ada/analytical-engine")

    async with database.read() as tx:
        row = await hosted.get(tx, HOSTED)
        assert row is not None
        assert (row["full_name"], row["installation_id"]) == ("ada/analytical-engine", 70)
        assert await hosted.get(tx, HOSTED + 1) is None
        assert [it["repository_id"] for it in await hosted.by_installation(tx, 70)] == [HOSTED]


async def test_what_has_not_changed_is_not_written_again(database: Database) -> None:
    await put(database)
    async with database.read() as tx:
        before = await hosted.get(tx, HOSTED)

    await asyncio.gather(*(put(database) for _ in range(5)))

    async with database.read() as tx:
        assert await hosted.get(tx, HOSTED) == before


async def test_a_repository_that_is_gone_is_marked_once_and_is_there_again_when_the_host_speaks_of_it(
    database: Database,
) -> None:
    await put(database)
    async with database.transaction() as tx:
        marked = [await hosted.mark_gone(tx, HOSTED, True) for _ in range(2)]
        gone = await hosted.get(tx, HOSTED)

    await put(database)

    async with database.read() as tx:
        back = await hosted.get(tx, HOSTED)
    assert marked == [True, False]
    assert gone is not None
    assert gone["gone_at"] is not None
    assert back is not None
    assert back["gone_at"] is None


async def show(database: Database, key: str, run_id: UUID | None, external_id: str, **values: Any) -> None:
    async with database.transaction() as tx:
        await surfaces.record(
            tx,
            HOSTED,
            key,
            run_id=run_id,
            kind="comment",
            target={"issue": 3},
            external_id=external_id,
            external_at=NOW,
            content_hash="abc",
            at=NOW,
            **values,
        )


async def test_a_creation_is_written_down_before_it_is_tried_and_after(database: Database) -> None:
    run_id = await add_run(database, repository_id=HOSTED)
    async with database.transaction() as tx:
        await surfaces.begin(tx, HOSTED, "status", run_id=run_id, kind="comment", target={"issue": 3}, at=NOW)
    async with database.read() as tx:
        begun = await surfaces.get(tx, HOSTED, "status")

    await show(database, "status", run_id, "42")

    async with database.read() as tx:
        shown = await surfaces.get(tx, HOSTED, "status")
        assert [row["surface_key"] for row in await surfaces.of_run(tx, run_id)] == ["status"]
    assert begun is not None
    assert (begun["attempted_at"], begun["external_id"], begun["applied_at"]) == (NOW, None, None)
    assert shown is not None
    assert (shown["attempted_at"], shown["external_id"], shown["applied_at"]) == (None, "42", NOW)


async def test_facts_stay_until_they_are_replaced(database: Database) -> None:
    await show(database, "check", None, "1", facts={"statuses": True})
    await show(database, "check", None, "2")
    async with database.read() as tx:
        kept = await surfaces.get(tx, HOSTED, "check")
    await show(database, "check", None, "2", facts={})

    async with database.read() as tx:
        replaced = await surfaces.get(tx, HOSTED, "check")
    assert kept is not None
    assert kept["facts"] == {"statuses": True}
    assert replaced is not None
    assert replaced["facts"] == {}


async def test_a_surface_is_found_by_the_hosts_id_and_kind_in_its_own_repository_alone(database: Database) -> None:
    await show(database, "gate", None, "42")

    async with database.transaction() as tx:
        found = await surfaces.find_by_external(tx, HOSTED, "comment", "42")
        elsewhere = await surfaces.find_by_external(tx, HOSTED + 1, "comment", "42")
        otherwise = await surfaces.find_by_external(tx, HOSTED, "check", "42")
        await surfaces.delete(tx, HOSTED, "gate")
        after = await surfaces.get(tx, HOSTED, "gate")

    assert found is not None
    assert found["surface_key"] == "gate"
    assert (elsewhere, otherwise, after) == (None, None, None)
