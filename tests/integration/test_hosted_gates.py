"""Gates of a hosted run: who counts as one person, and which content an approval is for."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.store.database import Database
from engine.store.tables import decisions
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import phase
from tests.support.hosted import HostedHouse, hosted_house
from tests.support.repositories import git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
THINK: dict[str, Any] = {"think/1/1": [submit(SPEC)], "think/2/1": [submit(SPEC)]}
BUILD: dict[str, Any] = {"build/1/1": [EDIT, submit(CHANGE)], "build/2/1": [submit(CHANGE)]}


def thinking(tmp_path: Path, database: Database, *gates: Any, **more: Any) -> HostedHouse:
    spec = phase("think", "thinker", "dev/spec@1", gates=list(gates or ["look"]))
    return hosted_house(tmp_path, database, spec, phase("build"), **more)


def building(tmp_path: Path, database: Database) -> HostedHouse:
    return hosted_house(tmp_path, database, phase("build", gates=["merge"]))


async def refusal(awaitable: Any) -> DevflowError:
    with pytest.raises(DevflowError) as caught:
        await awaitable
    return caught.value


async def pending(house: HostedHouse, run_id: Any) -> Any:
    rows = [row for row in await house.engine.requests(run_id) if row["state"] == "pending"]
    return rows[0] if rows else None


def edited(run_id: Any, **more: Any) -> dict[str, str]:
    """The files of a person who edits the artifact on the branch."""
    artifact = {**SPEC, "run_id": str(run_id), "phase_key": "think", "approach": "By hand."} | more
    return {f".devflow/runs/{run_id}/think.json": json.dumps(artifact, indent=2, sort_keys=True) + "\n"}


async def test_people_are_told_apart_by_their_ids_not_by_their_names(tmp_path: Path, database: Database) -> None:
    house = thinking(tmp_path, database, {"key": "look", "required_approvals": 2})
    run_id, _ = await house.run_hosted(THINK)

    first = await house.answer(run_id, by="ada", by_id=1)
    renamed = await refusal(house.answer(run_id, by="countess", by_id=1))
    second = await house.answer(run_id, by="ada", by_id=2)

    assert (first.missing_approvals, renamed.code, second.moved) == (1, "already_decided", True)
    assert sorted(row["by_id"] for row in await house.rows(decisions)) == [1, 2]


async def test_an_answer_to_a_request_that_was_overtaken_does_not_count(tmp_path: Path, database: Database) -> None:
    house = thinking(tmp_path, database)
    run_id, _ = await house.run_hosted(THINK)
    old = (await pending(house, run_id))["request_id"]
    await house.answer(run_id, Action.REVISE, note="again")
    await house.drive(run_id)

    for action in (Action.APPROVE, Action.REJECT, Action.REVISE):
        late = await refusal(house.answer(run_id, action, note="so", request_id=old))
        assert late.code == "approval_superseded"
    now = await house.answer(run_id, request_id=(await pending(house, run_id))["request_id"])

    assert now.moved


async def test_an_answer_for_one_gate_is_none_for_the_next_though_its_commit_is_the_same(
    tmp_path: Path, database: Database
) -> None:
    house = thinking(tmp_path, database, "look", "law")
    run_id, _ = await house.run_hosted(THINK)
    look = await pending(house, run_id)
    await house.answer(run_id, request_id=look["request_id"], sha=look["commit_sha"])
    await house.drive(run_id)

    late = await refusal(house.answer(run_id, by="grace", request_id=look["request_id"], sha=look["commit_sha"]))

    law = await pending(house, run_id)
    assert (late.code, law["gate_key"], law["commit_sha"]) == ("approval_superseded", "law", look["commit_sha"])


async def test_a_review_of_another_commit_with_the_same_content_counts(tmp_path: Path, database: Database) -> None:
    house = thinking(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    beside = house.push(run["branch"], {"notes.txt": "beside the artifact\n"})

    decided = await house.answer(run_id, sha=beside)

    assert decided.moved
    assert (await house.engine.row(run_id))["head_sha"] == beside
    assert [row["state"] for row in await house.engine.requests(run_id)] == ["approved"]


async def test_a_review_of_the_commit_before_a_push_beside_the_artifact_counts_too(
    tmp_path: Path, database: Database
) -> None:
    house = thinking(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    house.push(run["branch"], {"notes.txt": "beside the artifact\n"})

    assert (await house.answer(run_id, sha=run["head_sha"])).moved


async def test_a_review_of_a_commit_with_other_content_does_not_count(tmp_path: Path, database: Database) -> None:
    house = thinking(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)

    for sha in (house.head("main"), git(house.repository, "rev-parse", f"{run['branch']}~1"), "0" * 40, "xyz", "abc"):
        for action in (Action.APPROVE, Action.REJECT, Action.REVISE):
            error = await refusal(house.answer(run_id, action, sha=sha, note="so"))
            assert error.code == "approval_superseded"
            assert error.message.count(run["head_sha"][:12]) == 1

    assert await house.rows(decisions) == []
    assert (await house.engine.row(run_id))["state"] == "awaiting_approval"


async def test_an_approval_of_exactly_what_a_person_made_of_the_artifact_counts_at_once(
    tmp_path: Path, database: Database
) -> None:
    house = thinking(tmp_path, database)
    run_id, run = await house.run_hosted({**THINK, **BUILD})
    old = await pending(house, run_id)
    pushed = house.push(run["branch"], edited(run_id))

    decided = await house.answer(run_id, by="grace", sha=pushed, request_id=old["request_id"])
    end = await house.drive(run_id)

    rows = await house.engine.requests(run_id)
    assert decided.moved
    assert [row["state"] for row in rows] == ["superseded", "approved"]
    assert [row["commit_sha"] for row in rows] == [run["head_sha"], pushed]
    assert end["state"] == "completed"
    shown = await house.engine.artifact_document(run_id, "think")
    assert shown is not None and "By hand." in shown["markdown"]


async def test_an_approval_of_what_was_there_before_the_edit_supersedes_and_does_not_count(
    tmp_path: Path, database: Database
) -> None:
    house = thinking(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    pushed = house.push(run["branch"], edited(run_id))

    error = await refusal(house.answer(run_id, sha=run["head_sha"]))

    assert (error.code, pushed[:12] in error.message) == ("approval_superseded", True)
    assert error.details["commit"] == pushed
    assert (await pending(house, run_id))["commit_sha"] == pushed
    assert await house.rows(decisions) == []


async def test_an_edited_artifact_that_is_not_valid_is_not_approved_and_the_request_stays(
    tmp_path: Path, database: Database
) -> None:
    house = thinking(tmp_path, database)
    run_id, run = await house.run_hosted(THINK)
    before = await pending(house, run_id)
    pushed = house.push(run["branch"], edited(run_id, requirements="none"))

    error = await refusal(house.answer(run_id, sha=pushed))

    assert error.code == "approval_superseded"
    assert "/requirements" in error.message
    assert error.details["errors"][0]["path"] == "/requirements"
    assert (await pending(house, run_id))["request_id"] == before["request_id"]


async def test_a_merge_of_the_base_supersedes_a_code_gate_and_its_review_counts_at_once(
    tmp_path: Path, database: Database
) -> None:
    house = building(tmp_path, database)
    run_id, run = await house.run_hosted(BUILD)
    house.push("main", {"more.txt": "more\n"})
    git(house.clone, "fetch", "--quiet", "origin", "main", run["branch"])
    git(house.clone, "checkout", "--quiet", "--detach", run["head_sha"])
    git(house.clone, "merge", "--quiet", "--no-edit", git(house.repository, "rev-parse", "main"))
    git(house.clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{run['branch']}")
    merged = house.head(run["branch"])

    old = await refusal(house.answer(run_id, sha=run["head_sha"]))
    decided = await house.answer(run_id, sha=merged)

    assert (old.code, decided.moved) == ("approval_superseded", True)


async def test_an_empty_merge_leaves_the_approval_of_code_standing(tmp_path: Path, database: Database) -> None:
    house = building(tmp_path, database)
    run_id, run = await house.run_hosted(BUILD)
    git(house.clone, "fetch", "--quiet", "origin", run["branch"])
    git(house.clone, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    git(house.clone, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    git(house.clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{run['branch']}")

    decided = await house.answer(run_id, sha=run["head_sha"])

    assert decided.moved
    assert [row["state"] for row in await house.engine.requests(run_id)] == ["approved"]


async def test_who_pushes_and_asks_for_more_in_a_review_of_that_commit_gets_both(
    tmp_path: Path, database: Database
) -> None:
    house = building(tmp_path, database)
    run_id, run = await house.run_hosted(BUILD)
    pushed = house.push(run["branch"], {"by_hand.py": "HAND = 1\n"})

    await house.answer(run_id, Action.REVISE, sha=pushed, note="and tests, please")
    run = await house.drive(run_id)

    assert run["state"] == "awaiting_approval"
    assert git(house.repository, "merge-base", "--is-ancestor", pushed, run["branch"]) == ""


async def test_a_repeated_approval_is_harmless_though_the_next_gate_waits_by_then(
    tmp_path: Path, database: Database
) -> None:
    house = thinking(tmp_path, database, "look", "law")
    run_id, run = await house.run_hosted(THINK)
    await house.answer(run_id, token="review:5", sha=run["head_sha"])
    await house.drive(run_id)
    house.push(run["branch"], edited(run_id))

    again = await house.answer(run_id, token="review:5", sha=run["head_sha"])

    assert not again.moved
    assert (await pending(house, run_id))["gate_key"] == "law"


async def test_approvals_for_content_that_changed_do_not_add_up(tmp_path: Path, database: Database) -> None:
    house = thinking(tmp_path, database, {"key": "look", "required_approvals": 2})
    run_id, run = await house.run_hosted(THINK)
    await house.answer(run_id, by="ada", by_id=1)
    pushed = house.push(run["branch"], edited(run_id))

    grace = await house.answer(run_id, by="grace", by_id=2, sha=pushed)
    ada = await house.answer(run_id, by="ada", by_id=1, sha=pushed)

    assert (grace.moved, grace.missing_approvals, ada.moved) == (False, 1, True)


async def test_what_a_gate_asks_can_be_read_after_it_was_answered_too(tmp_path: Path, database: Database) -> None:
    house = thinking(tmp_path, database)
    run_id, _ = await house.run_hosted(THINK)
    waiting = await house.engine.pending_document(run_id)
    assert waiting is not None
    await house.answer(run_id)

    later = await house.engine.request_document((await house.engine.requests(run_id))[0]["request_id"])

    assert later == waiting
    assert waiting["requested_by"] == "ada"
    assert await house.engine.request_document(uuid4()) is None
