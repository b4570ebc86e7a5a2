"""How runs pause, go on and end: no live phase stays in a run that has ended, and no failure holds a run for ever."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from app.local.remotes import LocalRemotes
from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.ports import Remote
from engine.store.agent_tables import agent_sessions, ledger, session_messages
from engine.store.database import Database
from engine.store.tables import phases
from tests.model_server import Script, calls, serving
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import House, phase, poll, small_house

PRICES = {"scripted": {"input": "10", "output": "100"}}
LIVE = {"running", "validating", "awaiting_approval"}
SUBMITS = calls(("submit_artifact", {"artifact": SPEC}))


def think(**more: Any) -> dict[str, Any]:
    return phase("think", "thinker", "dev/spec@1", **more)


async def states(house: House, run_id: Any) -> dict[str, str]:
    return {row["phase_key"]: row["state"] for row in await house.rows(phases, phases.c.run_id == run_id)}


async def test_no_way_to_an_end_leaves_a_live_phase_or_a_pending_request(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(gates=["look"], timeout_seconds=1), phase("build"))
    good: dict[str, Any] = {"think/1/1": [submit(SPEC)], "build/1/1": [submit(CHANGE)]}
    slow = [call("run_command", command="sleep 20")]
    scenarios: list[tuple[dict[str, Any], Action | None, str]] = [
        (good, Action.APPROVE, "completed"),
        (good, Action.REJECT, "failed"),
        (good, Action.ABORT, "aborted"),
        ({"think/1/1": [], "think/1/2": []}, None, "failed"),
        ({"think/1/1": [slow], "think/1/2": [slow]}, None, "failed"),
        ({"think/1/1": []}, None, "failed"),
    ]

    for turns, action, expected in scenarios:
        run_id, run = await house.run(turns)
        if action is not None:
            await house.answer(run_id, action)
            run = await house.drive(run_id)

        assert run["state"] == expected
        found = await states(house, run_id)
        assert not LIVE & set(found.values()), (expected, found)
        shown = await house.engine.details(run_id)
        assert not [item for item in shown["approvals"] if item["state"] == "pending"]
        assert (await house.report(run_id))["status"] == expected
        assert (shown["error"] is None) == (expected != "failed")
        last = [event["type"] for event in await house.events(run_id)][-2:]
        assert last == [f"run.{expected}", "report.written"]


async def test_a_run_that_has_not_begun_can_be_aborted_and_paused(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    aborted = await house.start({"think/1/1": [submit(SPEC)]})
    paused = await house.start({"think/1/1": [submit(SPEC)]})

    await house.answer(aborted, Action.ABORT, note="a mistake")
    await house.engine.pause(paused, "ada")
    waiting = await house.engine.row(paused)
    await house.engine.resume(paused)

    assert (waiting["state"], waiting["paused_from_state"]) == ("paused", "created")
    assert (await house.drive(paused))["state"] == "completed"
    run = await house.drive(aborted)
    assert run["state"] == "aborted"
    assert await states(house, aborted) == {"think": "skipped"}
    assert (await house.report(aborted))["status"] == "aborted"


class GoneRemotes(LocalRemotes):
    """A host that knows the repository when a run starts and has lost it for a while afterwards."""

    gone = False

    async def remote(self, repository_id: int, location: str) -> Remote:
        if self.gone:
            raise DevflowError("repository_not_found", "it is not there now")
        return await super().remote(repository_id, location)


async def test_what_is_missing_when_the_work_begins_pauses_the_run_and_it_goes_on_later(
    tmp_path: Path, database: Database
) -> None:
    remotes = GoneRemotes()
    house = small_house(tmp_path, database, think()).with_remotes(remotes)
    run_id = await house.start({"think/1/1": [submit(SPEC)]})
    remotes.gone = True

    paused = await house.drive(run_id)
    remotes.gone = False
    await house.engine.resume(run_id)
    run = await house.drive(run_id)

    assert (paused["state"], paused["error_code"]) == ("paused", "repository_not_found")
    assert (run["state"], run["error_code"]) == ("completed", None)


async def test_a_pause_takes_effect_at_the_next_safe_point_and_nothing_is_done_twice(
    tmp_path: Path, database: Database
) -> None:
    turns = {"think/1/1": [[call("run_command", command="sleep 1; echo once")], submit(SPEC)]}
    house = small_house(tmp_path, database, think(), settings={"pause_grace_seconds": 10.0})
    run_id = await house.start(turns)
    driving = asyncio.create_task(house.drive(run_id))
    await house.wait(run_id, lambda row: row["llm_call_count"] == 1)

    await house.engine.pause(run_id, "ada", "lunch")
    paused = await driving
    await house.engine.resume(run_id)
    run = await house.drive(run_id)

    assert (paused["state"], paused["paused_from_state"]) == ("paused", "executing")
    assert (run["state"], run["llm_call_count"]) == ("completed", 2)
    (event,) = await house.events(run_id, "run.paused")
    assert (event["payload"]["by"], event["payload"]["message"]) == ("ada", "lunch")
    assert len(await house.events(run_id, "run.resumed")) == 1
    assert len(await house.events(run_id, "prompt.sent")) == 1


async def test_a_model_that_does_not_answer_is_left_for_a_pause_after_a_while(
    tmp_path: Path, database: Database
) -> None:
    script = Script(faults=[{"kind": "hang"}], rules=[{"when": "# Phase", "turns": [SUBMITS]}])
    with serving(script) as server:
        settings = {"pause_grace_seconds": 0.2}
        house = small_house(tmp_path, database, think(), settings=settings).served_by(server)
        run_id = await house.start()
        driving = asyncio.create_task(house.drive(run_id))
        await house.wait(run_id, lambda row: bool(server.requests))
        await house.engine.pause(run_id, "ada")
        paused = await driving
        await house.engine.resume(run_id)
        run = await house.drive(run_id)

    assert (paused["state"], run["state"]) == ("paused", "completed")
    assert [row["status"] for row in await house.rows(ledger)] == ["unknown", "settled"]


async def test_a_resumed_run_skips_what_is_completed_with_an_event(tmp_path: Path, database: Database) -> None:
    script = Script(faults=[None, {"kind": "status", "status": 401}])
    script.rules = [
        {"when": "# Phase: Phase think", "turns": [SUBMITS]},
        {"when": "# Phase: Phase build", "turns": [calls(("submit_artifact", {"artifact": CHANGE}))]},
    ]
    with serving(script) as server:
        house = small_house(tmp_path, database, think(), phase("build")).served_by(server)
        run_id, paused = await house.run()
        await house.engine.resume(run_id)
        run = await house.drive(run_id)

    assert (paused["state"], paused["error_code"]) == ("paused", "backend_unavailable")
    assert run["state"] == "completed"
    (skipped,) = await house.events(run_id, "phase.skipped")
    assert (skipped["phase_key"], skipped["payload"]["reason"]) == ("think", "completed before")
    assert len(await house.events(run_id, "phase.started")) == 2


async def test_a_cap_that_is_reached_asks_and_goes_on_once_it_is_raised(tmp_path: Path, database: Database) -> None:
    script = Script(rules=[{"when": "# Phase", "turns": [calls(("list_files", {})), SUBMITS]}])
    script.usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
    with serving(script) as server:
        house = small_house(tmp_path, database, think(), prices=PRICES).served_by(server)
        _, refused = await house.run(budget_usd=Decimal("0.01"))
        one_call = Decimal(refused["error_message"].rpartition("$")[2])
        run_id, paused = await house.run(budget_usd=one_call + Decimal("0.05"))
        shown = await house.engine.details(run_id)
        with pytest.raises(DevflowError) as unsaid:
            await house.answer(run_id)
        with pytest.raises(DevflowError) as revised:
            await house.answer(run_id, Action.REVISE, note="cheaper")
        await house.answer(run_id, note="+5.00")
        run = await house.drive(run_id)

    assert (paused["state"], paused["error_code"], paused["reserved_usd"]) == ("paused", "budget_exceeded", 0)
    (request,) = shown["approvals"]
    assert (request["phase_key"], request["gate_key"], request["state"]) == ("-", "budget_exceeded", "pending")
    assert (unsaid.value.code, revised.value.code) == ("usage", "illegal_transition")
    assert run["state"] == "completed"
    assert run["budget_usd"] == one_call + Decimal("5.05")
    assert run["spent_usd"] == Decimal("0.22")
    assert run["reserved_usd"] == 0
    after = await house.engine.details(run_id)
    assert after["cost_usd"] == after["ledger"]["cost_usd"] == (await house.report(run_id))["cost"]["cost_usd"] == 0.22
    assert len(server.requests) == run["llm_call_count"] == 2


@pytest.mark.parametrize(("action", "state"), [(Action.REJECT, "failed"), (Action.ABORT, "aborted")])
async def test_a_budget_question_can_be_answered_with_an_end(
    tmp_path: Path, database: Database, action: Action, state: str
) -> None:
    with serving(Script()) as server:
        house = small_house(tmp_path, database, think(), prices=PRICES).served_by(server)
        run_id, paused = await house.run(budget_usd=Decimal("0.01"))
        await house.answer(run_id, action)
        run = await house.drive(run_id)

    assert (paused["state"], server.requests) == ("paused", [])
    assert run["state"] == state
    assert (run["error_code"] is None) == (state == "aborted")
    assert not LIVE & set((await states(house, run_id)).values())


async def test_a_price_table_that_breaks_after_the_start_pauses_the_run_before_any_call(
    tmp_path: Path, database: Database
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models:\n  scripted: {input: 10, output: 100}\n")
    with serving(Script(rules=[{"when": "# Phase", "turns": [SUBMITS]}])) as server:
        house = small_house(tmp_path, database, think(), settings={"price_file": prices}).served_by(server)
        run_id = await house.start(budget_usd=Decimal(5))
        intact = prices.read_text()
        prices.write_text("models: [broken")
        paused = await house.drive(run_id)
        asked = len(server.requests)
        prices.write_text(intact)
        await house.engine.resume(run_id)
        run = await house.drive(run_id)

    assert (paused["state"], paused["error_code"], asked) == ("paused", "config_invalid", 0)
    assert run["state"] == "completed"


async def test_a_conversation_with_a_gap_asks_a_person_and_starts_anew_when_approved(
    tmp_path: Path, database: Database
) -> None:
    script = Script(faults=[None, {"kind": "status", "status": 401}])
    script.rules = [{"when": "# Phase", "turns": [calls(("list_files", {})), SUBMITS]}]
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, _ = await house.run()
        async with database.transaction() as tx:
            await tx.execute(delete(session_messages).where(session_messages.c.seq == 2))
        await house.engine.resume(run_id)
        asked = await house.drive(run_id)
        await house.answer(run_id)
        run = await house.drive(run_id)

    assert (asked["state"], asked["error_code"]) == ("paused", "session_recovery_required")
    assert run["state"] == "completed"
    sessions = [row["state"] for row in await house.rows(agent_sessions)]
    assert (len(sessions), sessions.count("FAILED_NEEDS_HUMAN")) == (2, 1)
    assert len(await house.events(run_id, "session.failed")) == 1
    assert len(await house.events(run_id, "session.started")) == 2


async def test_a_decision_while_the_lease_is_handed_back_loses_no_wake_up(tmp_path: Path, database: Database) -> None:
    house = small_house(
        tmp_path,
        database,
        *[phase(f"step{number}", "thinker", "dev/spec@1", gates=["look"]) for number in range(6)],
        settings={"sweep_seconds": 600.0},
    )
    run_id = await house.start({f"step{number}/1/1": [submit(SPEC)] for number in range(6)}, private_queue=True)

    async def decide_at_once() -> None:
        for number in range(6):

            async def asked(key: str = f"step{number}") -> bool | None:
                rows = (await house.engine.details(run_id))["approvals"]
                return any(row["phase_key"] == key and row["state"] == "pending" for row in rows) or None

            await poll(asked)
            await house.answer(run_id)

    deciding = asyncio.create_task(decide_at_once())
    run = await house.drive_until(run_id, lambda row: row["final_report_path"] is not None)
    await deciding

    assert run["state"] == "completed"
