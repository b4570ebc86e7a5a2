"""Requests and decisions as rows: one pending at most, rounds that count up, a final state that stays."""

import pytest

from engine.domain.errors import DevflowError
from engine.domain.states import Action, RequestState
from engine.store import approvals
from engine.store.database import Database
from tests.rows import add_run


async def test_a_run_has_one_pending_request_and_each_round_its_own_key(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        first, new = await approvals.post_request(tx, phase_key="plan", gate_key="look")
        same, again = await approvals.post_request(tx, phase_key="plan", gate_key="law")
        await approvals.resolve_request(tx, first, RequestState.REVISED)
        second, _ = await approvals.post_request(tx, phase_key="plan", gate_key="look")

    assert (new, again) == (True, False)
    assert same["request_id"] == first["request_id"]
    assert [first["key"], second["key"]] == [f"{run_id}:plan:look:1", f"{run_id}:plan:look:2"]


async def test_a_request_that_has_its_final_state_keeps_it(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        await approvals.post_request(tx, phase_key="plan", gate_key="look")
        request = await approvals.pending_request(tx, run_id)
        assert request is not None
        await approvals.resolve_request(tx, request, RequestState.APPROVED)
        (resolved,) = await approvals.list_requests(tx, run_id)
        with pytest.raises(DevflowError) as caught:
            await approvals.resolve_request(tx, resolved, RequestState.REJECTED)

    assert caught.value.code == "illegal_transition"
    assert (resolved["state"], resolved["resolved_at"] is None) == ("approved", False)


async def test_one_person_counts_once_and_only_approvals_count(database: Database) -> None:
    run_id = await add_run(database)
    async with database.locked(run_id) as tx:
        request, _ = await approvals.post_request(tx, phase_key="plan", gate_key="look", required_approvals=3)
        answers = [("ada", Action.APPROVE), ("ada", Action.APPROVE), ("eve", Action.REJECT), ("grace", Action.APPROVE)]
        for number, (by, action) in enumerate(answers):
            await approvals.add_decision(tx, request, token=str(number), action=action, by=by, note=None)
        counted = await approvals.approvers(tx, request["request_id"])
        found = await approvals.decision_by_token(tx, "2")

    assert counted == ["ada", "grace"]
    assert found is not None
    assert (found["by"], found["action"]) == ("eve", "reject")


async def test_a_token_is_known_in_its_own_run_only(database: Database) -> None:
    one, two = await add_run(database), await add_run(database)
    async with database.locked(one) as tx:
        request, _ = await approvals.post_request(tx, phase_key="plan", gate_key="look")
        await approvals.add_decision(tx, request, token="t", action=Action.APPROVE, by="ada", note=None)
    async with database.locked(two) as tx:
        assert await approvals.decision_by_token(tx, "t") is None
