"""Work that goes back: by a reviewer's verdict or a person's revision, with feedback, and never without end."""

from pathlib import Path
from typing import Any

import pytest

from engine.domain.errors import DevflowError
from engine.domain.states import Action
from engine.store.agent_tables import agent_sessions
from engine.store.database import Database
from engine.store.tables import phases
from tests.model_server import Script, calls, serving
from tests.support.cassettes import APPROVED, CHANGE, CHANGES_REQUESTED, SPEC, call, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]


def reviewed(**more: Any) -> list[dict[str, Any]]:
    return [phase("build"), phase("review", "reviewer", "dev/review@1", on_changes_requested="build", **more)]


async def rounds(house: House, run_id: Any) -> dict[str, tuple[str, int, int]]:
    rows = await house.rows(phases, phases.c.run_id == run_id)
    return {row["phase_key"]: (row["state"], row["round"], row["revisions"]) for row in rows}


async def test_a_review_that_finds_faults_sends_the_work_back_with_its_findings(
    tmp_path: Path, database: Database
) -> None:
    script = Script(
        rules=[
            {
                "when": "asks for changes",
                "turns": [
                    calls(("edit_file", {"path": "answer.py", "old": "41", "new": "42"})),
                    calls(("submit_artifact", {"artifact": CHANGE})),
                ],
            },
            {"when": "# Phase: Phase build", "turns": [calls(("submit_artifact", {"artifact": CHANGE}))]},
            {
                "when": '"round": 2',
                "turns": [calls(("submit_artifact", {"artifact": APPROVED}))],
            },
            {
                "when": "# Phase: Phase review",
                "turns": [calls(("submit_artifact", {"artifact": CHANGES_REQUESTED}))],
            },
        ]
    )
    with serving(script) as server:
        house = small_house(tmp_path, database, *reviewed()).served_by(server)
        run_id, run = await house.run()

    assert run["state"] == "completed"
    assert await rounds(house, run_id) == {"build": ("completed", 2, 0), "review": ("completed", 2, 1)}
    again = server.requests[2]["messages"]
    assert len(again) == 2
    assert "Phase review (round 1) asks for changes" in again[1]["content"]
    assert "- [major] answer.py:1: It is not 42." in again[1]["content"]
    assert "return 42" in git(house.repository, "show", f"{run['branch']}:answer.py")
    committed = await house.events(run_id, "artifact.committed")
    assert [(event["phase_key"], event["payload"]["round"]) for event in committed] == [
        ("build", 1),
        ("review", 1),
        ("build", 2),
        ("review", 2),
    ]
    assert len({row["session_id"] for row in await house.rows(agent_sessions)}) == 4
    started = await house.events(run_id, "phase.started")
    assert [event["payload"]["round"] for event in started] == [1, 1, 2, 2]


async def test_reviews_that_never_end_end_the_run(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, *reviewed(max_revisions=1))
    turns = {f"build/{number}/1": [submit(CHANGE)] for number in (1, 2)}
    turns |= {f"review/{number}/1": [submit(CHANGES_REQUESTED)] for number in (1, 2)}

    run_id, run = await house.run(turns)

    assert (run["state"], run["error_code"]) == ("failed", "revisions_exhausted")
    assert await rounds(house, run_id) == {"build": ("completed", 2, 0), "review": ("failed", 2, 1)}
    assert (await house.report(run_id))["status"] == "failed"


async def test_no_revision_at_all_is_a_limit_too(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, *reviewed(max_revisions=0))

    _, run = await house.run({"build/1/1": [submit(CHANGE)], "review/1/1": [submit(CHANGES_REQUESTED)]})

    assert run["error_code"] == "revisions_exhausted"


async def test_a_verdict_without_a_phase_to_go_back_to_stands_for_itself(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("review", "reviewer", "dev/review@1"))

    _, run = await house.run({"review/1/1": [submit(CHANGES_REQUESTED)]})

    assert run["state"] == "completed"


async def test_a_revision_goes_to_the_phase_that_the_gate_names_and_asks_again(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(
        tmp_path,
        database,
        phase("build"),
        phase("think", "thinker", "dev/spec@1", gates=["look"], revise_from="build"),
    )
    turns = {"build/1/1": [submit(CHANGE)], "think/1/1": [submit(SPEC)]}
    turns |= {"build/2/1": [EDIT, submit(CHANGE)], "think/2/1": [submit(SPEC | {"approach": "Another one."})]}
    run_id, first = await house.run(turns)

    await house.answer(run_id, Action.REVISE, note="do change it")
    second = await house.drive(run_id)
    (old, new) = (await house.engine.details(run_id))["approvals"]
    await house.answer(run_id)
    run = await house.drive(run_id)

    assert first["state"] == second["state"] == "awaiting_approval"
    assert (old["state"], old["round"], new["state"], new["round"]) == ("revised", 1, "pending", 2)
    assert old["bound_digest"] != new["bound_digest"]
    assert run["state"] == "completed"
    assert await rounds(house, run_id) == {"build": ("completed", 2, 0), "think": ("completed", 2, 1)}
    (row,) = await house.rows(phases, phases.c.phase_key == "build")
    assert row["feedback"] == "do change it"


async def test_people_and_reviews_share_one_limit(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("think", "thinker", "dev/spec@1", gates=["look"], max_revisions=1))
    run_id, _ = await house.run({"think/1/1": [submit(SPEC)], "think/2/1": [submit(SPEC)]})
    await house.answer(run_id, Action.REVISE, note="again")
    await house.drive(run_id)

    await house.answer(run_id, Action.REVISE, note="and again")
    run = await house.drive(run_id)

    assert (run["state"], run["error_code"]) == ("failed", "revisions_exhausted")
    assert await rounds(house, run_id) == {"think": ("failed", 2, 1)}
    assert run["final_report_path"] is not None


@pytest.mark.parametrize("note", [None, "", "  \n"])
async def test_a_revision_has_to_say_what_to_change(tmp_path: Path, database: Database, note: str | None) -> None:
    house = small_house(tmp_path, database, phase("think", "thinker", "dev/spec@1", gates=["look"]))
    run_id, _ = await house.run({"think/1/1": [submit(SPEC)]})

    with pytest.raises(DevflowError) as caught:
        await house.answer(run_id, Action.REVISE, note=note)

    assert caught.value.code == "usage"
    assert (await house.engine.row(run_id))["state"] == "awaiting_approval"
