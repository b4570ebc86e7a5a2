"""Commands outside a gate: harmless when they come twice, and refused where they do not fit; the run that they mean."""

from pathlib import Path
from typing import Any

import pytest

from engine.domain.config import OnConflict
from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.store.database import Database
from engine.store.tables import run_inputs, runs
from tests.support.cassettes import SPEC, submit
from tests.support.engines import phase
from tests.support.hosted import REPOSITORY_ID, HostedHouse, hosted_house

TURNS: dict[str, Any] = {"think/1/1": [submit(SPEC)], "build/1/1": [], "build/1/2": []}


def failing(tmp_path: Path, database: Database) -> HostedHouse:
    return hosted_house(tmp_path, database, phase("think", "thinker", "dev/spec@1"), phase("build"))


async def refusal(awaitable: Any) -> str:
    with pytest.raises(DevflowError) as caught:
        await awaitable
    return caught.value.code


async def test_a_command_that_comes_twice_has_one_effect_and_gives_no_error(tmp_path: Path, database: Database) -> None:
    house = failing(tmp_path, database)
    run_id = (await house.trigger(TURNS)).run_id

    paused = [await house.engine.pause(run_id, "ada", token="comment:1:0") for _ in range(2)]
    resumed = [await house.engine.resume(run_id, "ada", token="comment:2:0") for _ in range(2)]
    late = await house.engine.pause(run_id, "ada", token="comment:1:0")
    aborted = [await house.engine.abort(run_id, "ada", token="comment:3:0") for _ in range(2)]

    assert paused == ["paused", "paused"]
    assert resumed == ["created", "created"]
    assert late == "created"
    assert [(one.state, one.moved) for one in aborted] == [("aborted", True), ("aborted", False)]
    assert [event["payload"]["reason"] for event in await house.events(run_id, "run.resumed")] == ["resumed by ada"]
    assert len(await house.events(run_id, "run.paused", "run.aborted")) == 2


async def test_a_token_cannot_become_another_command(tmp_path: Path, database: Database) -> None:
    house = failing(tmp_path, database)
    run_id = (await house.trigger(TURNS)).run_id
    await house.engine.pause(run_id, "ada", token="comment:1:0")

    assert await refusal(house.engine.resume(run_id, "ada", token="comment:1:0")) == "already_decided"
    assert await refusal(house.engine.abort(run_id, "ada", token="comment:1:0")) == "already_decided"
    assert await refusal(house.answer(run_id, Action.APPROVE, token="comment:1:0")) == "already_decided"
    assert (await house.engine.row(run_id))["state"] == "paused"


async def test_a_command_that_was_refused_is_not_remembered(tmp_path: Path, database: Database) -> None:
    house = failing(tmp_path, database)
    run_id = (await house.trigger(TURNS)).run_id
    await house.engine.pause(run_id, "ada", token="comment:1:0")

    assert await refusal(house.engine.pause(run_id, "ada", token="comment:2:0")) == "illegal_transition"
    await house.engine.resume(run_id, "ada", token="comment:3:0")

    assert await house.engine.pause(run_id, "ada", token="comment:2:0") == "paused"


async def test_a_retry_is_one_run_of_the_same_issue_asked_for_by_whoever_retries(
    tmp_path: Path, database: Database
) -> None:
    house = failing(tmp_path, database)
    old, failed = await house.run_hosted(TURNS)

    first = await house.engine.retry(old, "grace", token="comment:4:0", by_id=2)
    again = await house.engine.retry(old, "grace", token="comment:4:0", by_id=2)

    row = await house.engine.row(first)
    (inputs,) = await house.rows(run_inputs, run_inputs.c.run_id == first)
    (before,) = await house.rows(run_inputs, run_inputs.c.run_id == old)
    assert failed["state"] == "failed"
    assert (first, len(await house.rows(runs))) == (again, 2)
    assert (row["issue_number"], row["retry_of"], row["trigger_key"]) == (7, old, "retry:comment:4:0")
    assert row["branch"].startswith("devflow/7-")
    assert (inputs["metadata"]["requested_by"], inputs["metadata"]["requested_by_id"]) == ("grace", 2)
    assert inputs["metadata"]["trigger"] == before["metadata"]["trigger"]
    assert inputs["input_hash"] != before["input_hash"]
    assert await house.shown(first) is True


async def test_a_retry_is_refused_while_another_run_of_the_issue_is_live(tmp_path: Path, database: Database) -> None:
    house = failing(tmp_path, database)
    old, _ = await house.run_hosted(TURNS)
    await house.trigger(TURNS, key="label:2")

    assert await refusal(house.engine.retry(old, "ada", token="comment:4:0")) == "run_in_flight"


async def test_a_retry_publishes_its_trigger_on_top_of_what_it_adopts(tmp_path: Path, database: Database) -> None:
    house = failing(tmp_path, database)
    old, _ = await house.run_hosted(TURNS)

    again = await house.engine.retry(old, "ada", token="comment:4:0")
    run = await house.drive(again)

    names = house.show(run["branch"], f".devflow/runs/{again}").splitlines()
    assert {"trigger.json", "trigger.md"} <= set(names)
    assert "think.json" in house.show(run["branch"], f".devflow/runs/{old}").splitlines()


async def test_the_run_of_an_issue_is_the_live_one_else_the_newest(tmp_path: Path, database: Database) -> None:
    house = hosted_house(tmp_path, database, phase("think", "thinker", "dev/spec@1", gates=["look"]))
    engine = house.engine
    turns = {"think/1/1": [submit(SPEC)]}

    nobody = await engine.run_of_issue(REPOSITORY_ID, 7)
    first, row = await house.run_hosted(turns)
    then = await house.trigger(turns, key="label:2", on_conflict=OnConflict.QUEUE)
    live = await engine.run_of_issue(REPOSITORY_ID, 7)
    branch = await engine.run_on_branch(REPOSITORY_ID, row["branch"])
    ahead = await engine.waits_for(then.run_id)
    listed = [one["run_id"] for one in await engine.runs_of_issue(REPOSITORY_ID, 7)]
    for run_id in (first, then.run_id):
        await engine.abort(run_id, "ada", token=f"abort:{run_id}")
    newest = await engine.run_of_issue(REPOSITORY_ID, 7)

    assert nobody is None
    assert live is not None and live["run_id"] == first
    assert branch is not None and branch["run_id"] == first
    assert ahead is not None and ahead["run_id"] == first
    assert listed == [then.run_id, first]
    assert newest is not None and newest["run_id"] == then.run_id
    assert await engine.run_on_branch(REPOSITORY_ID, "main") is None
    assert await engine.live_runs(REPOSITORY_ID) == []


async def test_tokens_of_a_local_run_count_as_well(tmp_path: Path, database: Database) -> None:
    house = failing(tmp_path, database)
    run_id = (await house.trigger(TURNS)).run_id

    first = await house.answer(run_id, Action.ABORT, token="one", note="enough")
    again = await house.answer(run_id, Action.ABORT, token="one", note="enough")

    assert (first.moved, again.moved) == (True, False)
