"""A second trigger while a run of the issue is in flight: rejected, queued, or in the old one's place."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engine.domain.config import OnConflict
from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.store import leases, workers
from engine.store.database import Database
from engine.store.places import MustWait
from engine.store.tables import runs
from engine.store.workers import WorkerIdentity
from tests.rows import queued
from tests.support.cassettes import SPEC, submit
from tests.support.engines import at_rest, phase, poll
from tests.support.hosted import GRACE, HostedHouse, hosted_house
from tests.support.repositories import git

TURNS: dict[str, Any] = {"think/1/1": [submit(SPEC)]}


def gated_house(tmp_path: Path, database: Database, **more: Any) -> HostedHouse:
    return hosted_house(tmp_path, database, phase("think", "thinker", "dev/spec@1", gates=["look"]), **more)


async def second(house: HostedHouse, policy: OnConflict | None, **more: Any) -> Any:
    return await house.trigger(TURNS, key="label:2", by=GRACE, on_conflict=policy, **more)


async def state_of(house: HostedHouse, run_id: Any) -> str:
    return str((await house.engine.row(run_id))["state"])


async def test_reject_names_the_run_that_is_in_flight_and_changes_nothing(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    run_id, _ = await house.run_hosted(TURNS)

    with pytest.raises(DevflowError) as caught:
        await second(house, None)

    assert (caught.value.code, caught.value.spec.http_status) == ("run_in_flight", 409)
    assert caught.value.message == f"run 1 ({run_id.hex[-8:]}) of this issue is awaiting_approval"
    assert caught.value.details == {"run_id": str(run_id), "number": 1, "state": "awaiting_approval"}
    assert len(await house.rows(runs)) == 1
    other = await second(house, None, issue=8)
    assert (other.new, other.waits_for) == (True, None)


async def test_an_issue_whose_run_has_ended_may_have_another(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    run_id, _ = await house.run_hosted(TURNS)
    await house.answer(run_id)
    await house.drive(run_id)

    again = await second(house, OnConflict.REJECT)

    assert (again.new, again.waits_for, again.replaced) == (True, None, None)
    assert (await house.drive(again.run_id))["state"] == "awaiting_approval"


async def test_queued_runs_begin_one_after_the_other_once_the_one_before_is_closed(
    tmp_path: Path, database: Database
) -> None:
    house = gated_house(tmp_path, database)
    first, _ = await house.run_hosted(TURNS)
    then = await second(house, OnConflict.QUEUE)
    last = await house.trigger(TURNS, key="label:3", on_conflict=OnConflict.QUEUE)
    stop = asyncio.Event()
    worker = asyncio.create_task(house.engine.worker().run(stop))

    await house.answer(first)
    await house.wait(then.run_id, at_rest)
    waiting = await state_of(house, last.run_id)
    ended = await house.engine.row(first)
    await house.answer(then.run_id)
    await house.wait(last.run_id, at_rest)
    stop.set()
    await worker

    assert (then.waits_for, last.waits_for) == (first, first)
    assert waiting == "created"
    begun = await house.engine.row(then.run_id)
    assert ended["state"] == "completed"
    assert begun["started_at"] > ended["ended_at"]
    assert await state_of(house, last.run_id) == "awaiting_approval"


async def test_closing_a_run_rings_for_the_one_that_waits_for_it(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    first, _ = await house.run_hosted(TURNS)
    then = await second(house, OnConflict.QUEUE)
    async with database.transaction() as tx:
        await tx.execute(text("DELETE FROM pgqueuer"))

    await house.answer(first, Action.REJECT, note="no")
    await house.drive(first)

    assert ("advance_run", str(then.run_id).encode()) in await queued(database)


async def test_interrupt_aborts_a_run_that_waits_and_the_new_one_takes_its_place(
    tmp_path: Path, database: Database
) -> None:
    house = gated_house(tmp_path, database)
    old, before = await house.run_hosted(TURNS)

    new = await second(house, OnConflict.INTERRUPT)
    stopped = await house.engine.row(old)
    closed = await house.drive(old)
    run = await house.drive(new.run_id)

    assert (new.replaced, new.waits_for) == (old, old)
    assert stopped["state"] == "aborted"
    (event,) = await house.events(old, "run.aborted")
    assert event["payload"] == {"by": "grace", "note": "grace started the issue anew"}
    assert house.head(before["branch"]) == closed["head_sha"] != before["head_sha"]
    assert run["state"] == "awaiting_approval"
    assert [row["state"] for row in await house.engine.requests(old)] == ["aborted"]


async def test_interrupt_asks_the_worker_of_a_run_that_is_driven_to_stop(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    old = await house.trigger(TURNS)
    worker = WorkerIdentity.of_this_process()
    async with database.transaction() as tx:
        await workers.register(tx, worker)
    lease = await leases.take(database, old.run_id, worker.worker_id, 30)

    new = await second(house, OnConflict.INTERRUPT)

    row = await house.engine.row(old.run_id)
    assert (row["requested_action"], row["requested_by"], row["state"]) == ("abort", "grace", "created")
    assert (new.replaced, new.waits_for) == (old.run_id, old.run_id)
    with pytest.raises(MustWait, match="earlier run of its issue"):
        await leases.take(database, new.run_id, worker.worker_id, 30)
    await leases.hand_back(database, lease, leases.nothing)
    await house.drive(old.run_id)
    assert (await house.drive(new.run_id))["state"] == "awaiting_approval"
    assert await state_of(house, old.run_id) == "aborted"


async def test_rollback_deletes_the_branch_of_the_old_run_and_keeps_its_report(
    tmp_path: Path, database: Database
) -> None:
    house = gated_house(tmp_path, database)
    old, before = await house.run_hosted(TURNS)

    new = await second(house, OnConflict.ROLLBACK)
    closed = await house.drive(old)
    run = await house.drive(new.run_id)

    assert (new.replaced, closed["discard_branch"]) == (old, True)
    assert (closed["state"], closed["pushed_sha"], house.head(before["branch"])) == ("aborted", None, "")
    assert (await house.report(old))["status"] == "aborted"
    assert (run["state"], run["base_sha"]) == ("awaiting_approval", house.head("main"))


async def test_rollback_never_throws_away_what_a_person_pushed(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    old, before = await house.run_hosted(TURNS)
    pushed = house.push(before["branch"], {"by_hand.py": "HAND = 1\n"})

    await second(house, OnConflict.ROLLBACK)
    await house.drive(old)

    assert house.head(before["branch"]) == pushed
    unresolved = (await house.report(old))["unresolved"]
    assert [text for text in unresolved if text.startswith("the branch could not be deleted: push_conflict")]


async def test_a_retry_of_a_run_that_was_rolled_back_begins_from_its_base(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    old, _ = await house.run_hosted(TURNS)
    await house.answer(old)
    new = await second(house, OnConflict.ROLLBACK)
    await house.drive(old)
    await house.engine.abort(new.run_id, "ada", token="comment:9")
    await house.drive(new.run_id)

    again = await house.engine.retry(old, "ada", token="comment:10", by_id=1)

    row = await house.engine.row(again)
    assert (row["head_sha"], row["issue_number"]) == (row["base_sha"], 7)
    assert await house.events(again, "phase.skipped") == []


@pytest.mark.parametrize("policy", [OnConflict.INTERRUPT, OnConflict.ROLLBACK])
async def test_every_run_of_the_issue_makes_way_those_that_wait_included(
    tmp_path: Path, database: Database, policy: OnConflict
) -> None:
    house = gated_house(tmp_path, database)
    first, _ = await house.run_hosted(TURNS)
    queued_up = await second(house, OnConflict.QUEUE)

    last = await house.trigger(TURNS, key="label:3", on_conflict=policy)

    assert last.replaced == first
    assert [await state_of(house, run_id) for run_id in (first, queued_up.run_id)] == ["aborted", "aborted"]
    for run_id in (first, queued_up.run_id):
        await house.drive(run_id)
    assert (await house.drive(last.run_id))["state"] == "awaiting_approval"


async def test_the_configuration_says_what_a_second_trigger_does(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database, on_conflict="queue")
    first, _ = await house.run_hosted(TURNS)

    then = await second(house, None)

    assert (then.new, then.waits_for) == (True, first)


async def test_two_triggers_at_once_cannot_both_pass(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)

    both = await asyncio.gather(house.trigger(TURNS), second(house, OnConflict.REJECT), return_exceptions=True)

    refused = [one for one in both if isinstance(one, DevflowError)]
    assert [error.code for error in refused] == ["run_in_flight"]
    assert len(await house.rows(runs)) == 1


async def test_a_retry_and_an_interrupt_at_once_do_not_lock_each_other_out(tmp_path: Path, database: Database) -> None:
    house = gated_house(tmp_path, database)
    old, _ = await house.run_hosted(TURNS)
    await house.answer(old, Action.REJECT, note="no")
    await house.drive(old)

    both = await asyncio.gather(
        house.engine.retry(old, "ada", token="comment:1", by_id=1),
        second(house, OnConflict.INTERRUPT),
        return_exceptions=True,
    )

    unforeseen = [one for one in both if isinstance(one, BaseException) and not isinstance(one, DevflowError)]
    assert unforeseen == []
    live = await house.engine.live_runs((await house.engine.row(old))["repository_id"])
    assert len(live) == 1


async def test_a_branch_that_is_gone_already_keeps_no_rolled_back_run_from_being_closed(
    tmp_path: Path, database: Database
) -> None:
    house = gated_house(tmp_path, database)
    old, before = await house.run_hosted(TURNS)
    await second(house, OnConflict.ROLLBACK)
    git(house.repository, "update-ref", "-d", f"refs/heads/{before['branch']}")
    elsewhere = replace(
        house, engine=house.with_settings(data_dir=tmp_path / "other").with_remotes(house.remotes).engine
    )

    closed = await elsewhere.drive(old)

    assert (closed["state"], closed["pushed_sha"]) == ("aborted", None)
    assert not [text for text in (await house.report(old))["unresolved"] if "branch" in text]


async def test_a_rolled_back_run_whose_host_is_down_is_closed_once_it_is_back(
    tmp_path: Path, database: Database
) -> None:
    house = gated_house(tmp_path, database)
    old, before = await house.run_hosted(TURNS)
    await second(house, OnConflict.ROLLBACK)
    house.remotes.down = True
    asked = house.remotes.asked
    stop = asyncio.Event()
    worker = asyncio.create_task(house.engine.worker(old).run(stop))

    async def tried() -> bool | None:
        return house.remotes.asked > asked or None

    await poll(tried)
    open_still = await house.engine.row(old)
    house.remotes.down = False
    await house.wait(old, lambda row: row["final_report_path"] is not None)
    stop.set()
    await worker

    assert open_still["final_report_path"] is None
    assert house.head(before["branch"]) == ""
