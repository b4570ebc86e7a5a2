"""A push to a run's branch: its gate follows the content, and nothing else is disturbed."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import DevflowError
from engine.store.database import Database
from tests.support.cassettes import SPEC, submit
from tests.support.engines import phase
from tests.support.hosted import HostedHouse, hosted_house

THINK: dict[str, Any] = {"think/1/1": [submit(SPEC)]}


def gated(tmp_path: Path, database: Database) -> HostedHouse:
    return hosted_house(tmp_path, database, phase("think", "thinker", "dev/spec@1", gates=["look"]))


def edited(run_id: Any, **more: Any) -> dict[str, str]:
    artifact = {**SPEC, "run_id": str(run_id), "phase_key": "think"} | more
    return {f".devflow/runs/{run_id}/think.json": json.dumps(artifact, indent=2, sort_keys=True) + "\n"}


async def states(house: HostedHouse, run_id: Any) -> list[str]:
    return [row["state"] for row in await house.engine.requests(run_id)]


async def test_an_edited_artifact_is_asked_about_anew_without_an_answer(tmp_path: Path, database: Database) -> None:
    house = gated(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    pushed = house.push(run["branch"], edited(run_id, approach="By hand."))
    await house.mark_shown(run_id)

    posted = await house.engine.refresh(run_id)
    again = await house.engine.refresh(run_id)

    assert (posted, again) == (True, False)
    assert await states(house, run_id) == ["superseded", "pending"]
    document = await house.engine.pending_document(run_id)
    assert document is not None
    assert (document["commit"], "By hand." in document["markdown"]) == (pushed, True)
    assert await house.shown(run_id) is True
    old = await house.engine.request_document((await house.engine.requests(run_id))[0]["request_id"])
    assert old is not None and "changed since" in old["markdown"]


async def test_a_push_beside_the_artifact_leaves_the_gate_as_it_is(tmp_path: Path, database: Database) -> None:
    house = gated(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    pushed = house.push(run["branch"], {"notes.txt": "beside\n"})

    assert not await house.engine.refresh(run_id)

    assert await states(house, run_id) == ["pending"]
    assert (await house.engine.row(run_id))["head_sha"] == pushed


async def test_a_push_of_our_own_changes_nothing(tmp_path: Path, database: Database) -> None:
    house = gated(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)

    assert not await house.engine.refresh(run_id)

    after = await house.engine.row(run_id)
    assert [after[name] for name in ("head_sha", "event_seq")] == [run[name] for name in ("head_sha", "event_seq")]
    assert await states(house, run_id) == ["pending"]


async def test_an_invalid_edit_is_named_with_its_place_and_the_gate_stays(tmp_path: Path, database: Database) -> None:
    house = gated(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    house.push(run["branch"], edited(run_id, risks="many"))

    with pytest.raises(DevflowError, match="/risks") as caught:
        await house.engine.refresh(run_id)

    assert caught.value.code == "approval_superseded"
    assert await states(house, run_id) == ["pending"]


async def test_where_nothing_is_asked_a_push_is_left_to_whoever_works(tmp_path: Path, database: Database) -> None:
    house = gated(tmp_path, database)
    started = await house.trigger(THINK)
    asked = house.remotes.asked

    assert not await house.engine.refresh(started.run_id)

    assert house.remotes.asked == asked
