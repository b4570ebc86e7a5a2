"""Gates in the engine: what an answer does, when it is a harmless repetition, and what it may not become."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.store.database import Database
from engine.store.tables import approval_requests, decisions, phases
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import commit_files, git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
THINK: dict[str, Any] = {"think/1/1": [submit(SPEC)]}


def think(*gates: Any, **more: Any) -> dict[str, Any]:
    return phase("think", "thinker", "dev/spec@1", gates=list(gates or ["look"]), **more)


async def requests(house: House, run_id: Any) -> list[tuple[str, str, int]]:
    rows = (await house.engine.details(run_id))["approvals"]
    return [(row["gate_key"], row["state"], row["round"]) for row in rows]


async def code_of(awaitable: Any) -> str:
    with pytest.raises(DevflowError) as caught:
        await awaitable
    return caught.value.code


@pytest.mark.parametrize(
    ("action", "request_state", "run_state", "phase_state"),
    [
        (Action.APPROVE, "approved", "completed", "completed"),
        (Action.REJECT, "rejected", "failed", "failed"),
        (Action.ABORT, "aborted", "aborted", "skipped"),
    ],
)
async def test_a_decided_request_has_its_state_and_the_run_goes_where_it_should(
    tmp_path: Path, database: Database, action: Action, request_state: str, run_state: str, phase_state: str
) -> None:
    house = small_house(tmp_path, database, think())
    run_id, waiting = await house.run(THINK)
    assert (waiting["state"], waiting["lease_worker"]) == ("awaiting_approval", None)

    await house.answer(run_id, action, by="grace", note="because")
    decided = await requests(house, run_id)
    run = await house.drive(run_id)

    assert decided == [("look", request_state, 1)]
    assert run["state"] == run_state
    (row,) = await house.rows(phases, phases.c.run_id == run_id)
    assert row["state"] == phase_state
    (resolved,) = await house.events(run_id, "approval.resolved")
    assert (resolved["payload"]["action"], resolved["payload"]["by"]) == (str(action), "grace")
    (shown,) = (await house.engine.details(run_id))["approvals"]
    assert [(item["by"], item["action"], item["note"]) for item in shown["decisions"]] == [
        ("grace", str(action), "because")
    ]


@pytest.mark.parametrize("action", [Action.APPROVE, Action.REJECT, Action.REVISE, Action.ABORT])
async def test_the_same_token_with_the_same_action_changes_nothing_and_with_another_is_refused(
    tmp_path: Path, database: Database, action: Action
) -> None:
    house = small_house(tmp_path, database, think(), phase("build"))
    run_id, _ = await house.run(THINK)
    await house.answer(run_id, action, token="comment-7", note="so be it")
    before = await house.engine.row(run_id)
    other = Action.REJECT if action is not Action.REJECT else Action.APPROVE

    again = await house.answer(run_id, action, token="comment-7", note="so be it")

    assert (again.moved, again.state) == (False, before["state"])
    assert await code_of(house.answer(run_id, other, token="comment-7", note="no")) == "already_decided"
    assert dict(await house.engine.row(run_id)) == dict(before)
    assert len(await house.rows(decisions)) == 1


async def test_an_abort_that_repeats_the_token_of_an_approval_is_refused(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    run_id, _ = await house.run(THINK)
    await house.answer(run_id, token="comment-7")

    assert await code_of(house.answer(run_id, Action.ABORT, token="comment-7")) == "already_decided"
    assert (await house.engine.row(run_id))["state"] == "executing"


async def test_the_configuration_can_ask_for_more_approvals_than_a_gate(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(), required_approvals=2)
    run_id, _ = await house.run(THINK)

    first = await house.answer(run_id, by="ada")
    second = await house.answer(run_id, by="grace")

    assert (first.moved, first.missing_approvals) == (False, 1)
    assert second.moved


async def test_two_people_have_to_agree_where_the_gate_says_so(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think({"key": "look", "required_approvals": 2}))
    run_id, _ = await house.run(THINK)

    first = await house.answer(run_id, by="ada")
    assert await code_of(house.answer(run_id, by="ada")) == "already_decided"
    waiting = await house.engine.row(run_id)
    second = await house.answer(run_id, by="grace")
    run = await house.drive(run_id)

    assert (first.moved, first.missing_approvals) == (False, 1)
    assert waiting["state"] == "awaiting_approval"
    assert second.moved
    assert run["state"] == "completed"
    assert len(await house.events(run_id, "approval.resolved")) == 1


async def test_gates_are_asked_in_their_order(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think("look", "law"))
    run_id, _ = await house.run(THINK)

    asked = [await requests(house, run_id)]
    for _ in range(2):
        await house.answer(run_id)
        await house.drive(run_id)
        asked.append(await requests(house, run_id))

    assert asked == [
        [("look", "pending", 1)],
        [("look", "approved", 1), ("law", "pending", 1)],
        [("look", "approved", 1), ("law", "approved", 1)],
    ]
    assert (await house.engine.row(run_id))["state"] == "completed"


async def test_a_phase_of_high_risk_asks_even_without_a_gate_and_default_gates_hold_where_none_are_named(
    tmp_path: Path, database: Database
) -> None:
    risky = phase("build", risk="high")
    plain = phase("more")
    del plain["gates"]
    house = small_house(tmp_path, database, risky, plain, default_gates=["usual"])
    run_id, _ = await house.run({"build/1/1": [submit(CHANGE)], "more/1/1": [submit(CHANGE)]})

    await house.answer(run_id)
    await house.drive(run_id)

    assert await requests(house, run_id) == [("high_risk", "approved", 1), ("usual", "pending", 1)]


async def test_keys_of_requests_and_decisions_contain_run_phase_gate_and_round(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think())
    run_id, _ = await house.run({**THINK, "think/2/1": [submit(SPEC)]})
    await house.answer(run_id, Action.REVISE, note="again")
    await house.drive(run_id)

    rows = await house.rows(approval_requests)

    assert sorted(row["key"] for row in rows) == [f"{run_id}:think:look:1", f"{run_id}:think:look:2"]


async def test_a_gate_after_documents_is_bound_to_the_digest_and_after_code_to_the_tree_as_well(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think(), phase("build", gates=["merge"]))
    run_id, _ = await house.run({**THINK, "build/1/1": [EDIT, submit(CHANGE)]})
    await house.answer(run_id)
    await house.drive(run_id)

    (look, merge) = (await house.engine.details(run_id))["approvals"]
    artifacts = (await house.engine.details(run_id))["artifacts"]

    assert [look["bound_digest"], merge["bound_digest"]] == [row["digest"] for row in artifacts]
    assert [look["commit"], merge["commit"]] == [row["commit"] for row in artifacts]
    for request in (look, merge):
        assert request["bound_tree"] == git(house.repository, "rev-parse", f"{request['commit']}^{{tree}}")


async def test_code_that_was_changed_on_the_branch_supersedes_the_request(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("build", gates=["merge"]))
    run_id, waiting = await house.run({"build/1/1": [EDIT, submit(CHANGE)]})
    git(house.repository, "checkout", "--quiet", waiting["branch"])
    pushed = commit_files(house.repository, {"answer.py": "def answer():\n    return 43\n"})
    git(house.repository, "checkout", "--quiet", "main")

    first = await code_of(house.answer(run_id))
    (old, new) = (await house.engine.details(run_id))["approvals"]
    await house.answer(run_id, sha=pushed[:10])
    run = await house.drive(run_id)

    assert first == "approval_superseded"
    assert (old["state"], new["state"], new["commit"]) == ("superseded", "pending", pushed)
    assert run["state"] == "completed"
    assert git(house.repository, "merge-base", "--is-ancestor", pushed, run["branch"]) == ""


async def test_a_run_paused_at_its_gate_can_still_be_approved_and_takes_no_revision(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think(), phase("build"))
    run_id, _ = await house.run({**THINK, "build/1/1": [submit(CHANGE)]})
    await house.engine.pause(run_id, "ada")

    revised = await code_of(house.answer(run_id, Action.REVISE, note="other"))
    resumed = await code_of(house.engine.resume(run_id))
    await house.answer(run_id)
    run = await house.drive(run_id)

    assert (revised, resumed) == ("illegal_transition", "illegal_transition")
    assert (run["state"], run["error_code"]) == ("completed", None)


async def test_answers_at_the_same_time_give_one_decision_and_one_refusal(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    run_id, _ = await house.run(THINK)

    both = await asyncio.gather(
        house.answer(run_id, by="ada"), house.answer(run_id, Action.REJECT, by="grace"), return_exceptions=True
    )

    refused = [one for one in both if isinstance(one, DevflowError)]
    assert len(refused) == 1
    assert refused[0].code in ("already_decided", "run_already_terminal")
    assert len(await house.rows(decisions)) == 1


@pytest.mark.parametrize("note", ["a \x00 b", "half \ud800 pair"])
async def test_a_note_that_postgres_cannot_keep_is_cleaned(tmp_path: Path, database: Database, note: str) -> None:
    house = small_house(tmp_path, database, think())
    run_id, _ = await house.run(THINK)

    await house.answer(run_id, Action.REJECT, note=note)

    (row,) = await house.rows(decisions)
    assert row["note"] in ("a \ufffd b", "half ? pair")
