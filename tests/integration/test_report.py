"""The final report: one for every run that ends, true to its schema and to what `show` says."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import Catalog
from engine.domain.artifact import validate_artifact
from engine.domain.states import Action
from engine.store.database import Database
from tests.support.cassettes import CHANGE, SPEC, VERIFIED, call, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
PASSES: dict[str, Any] = {"checks": [{"use": "all", "expect": "pass"}]}
ROLES = [
    {"id": "thinker", "required_capabilities": ["spec_write"]},
    {"id": "author", "required_capabilities": ["code_write"]},
    {"id": "verifier", "required_capabilities": ["test_run"]},
]


def house_of(tmp_path: Path, database: Database, **more: Any) -> House:
    phases = [
        phase("think", "thinker", "dev/spec@1", gates=["look"]),
        phase("build", **PASSES),
        phase("verify", "verifier", "dev/verify@1", **PASSES),
    ]
    return small_house(tmp_path, database, *phases, roles=ROLES, checks={"unit": {"run": "true"}}, **more)


TURNS: dict[str, Any] = {
    "think/1/1": [submit(SPEC)],
    "build/1/1": [submit({})],
    "build/1/2": [EDIT, submit(CHANGE)],
    "verify/1/1": [submit(VERIFIED | {"unresolved": ["The `<b>weather</b>` @everyone."]})],
}


@pytest.mark.parametrize(
    ("action", "status"), [(Action.APPROVE, "completed"), (Action.REJECT, "failed"), (Action.ABORT, "aborted")]
)
async def test_every_end_has_a_report_that_satisfies_the_schema_and_agrees_with_show(
    tmp_path: Path, database: Database, action: Action, status: str
) -> None:
    house = house_of(tmp_path, database)
    run_id, _ = await house.run(TURNS)
    await house.answer(run_id, action, note="well")
    run = await house.drive(run_id)

    report = await house.report(run_id)
    shown = await house.engine.details(run_id)
    summary = await house.engine.summary(run_id)

    assert validate_artifact(report, Catalog().schema("devflow/report@1")) == []
    assert report["status"] == run["state"] == status
    assert shown["report_path"] == summary["report_path"] == run["final_report_path"]
    assert Path(run["final_report_path"]).name == "report.md"
    for name in ("phases", "approvals", "bindings", "sandbox", "error"):
        assert report[name] == shown[name], name
    assert [check["name"] for check in report["checks"]] == [check["name"] for check in shown["checks"]]
    assert report["cost"]["calls"] == shown["ledger"]["calls"] == summary["llm_call_count"]
    assert report["cost"]["cost_usd"] == shown["cost_usd"] == summary["cost_usd"] == 0
    committed = git(house.repository, "show", f"{run['branch']}:.devflow/runs/{run_id}/report.json")
    assert json.loads(committed) == report
    assert summary["head_sha"] == git(house.repository, "rev-parse", run["branch"])
    assert not (house.engine.settings.workspaces / str(run_id)).exists()


async def test_a_report_has_the_story_the_evidence_and_what_is_open(tmp_path: Path, database: Database) -> None:
    house = house_of(tmp_path, database)
    run_id, _ = await house.run(TURNS)
    await house.answer(run_id, by="grace@example.invalid")
    run = await house.drive(run_id)

    report = await house.report(run_id)
    text = Path(run["final_report_path"]).read_text()

    assert [(item["key"], item["attempts"]) for item in report["phases"]] == [("think", 1), ("build", 2), ("verify", 1)]
    assert len(report["events"]) == 20
    assert report["events"][-1]["type"] == "run.completed"
    assert [item["valid"] for item in report["artifacts"]] == [True, False, True, True]
    assert "The `<b>weather</b>` @everyone." in report["unresolved"]
    assert "commands ran without a sandbox, because the operator said so" in report["unresolved"]
    assert "the people in this report are not authenticated: the run was local" in report["unresolved"]
    assert "no checks" not in report["unresolved"]
    assert "<b>" not in text
    assert "(recorded)" in text
    assert "**None.** Commands ran with this machine's files and network in reach." in text
    assert "grace" in text


async def test_the_head_of_a_completed_run_is_one_commit_a_phase_and_one_for_the_report(
    tmp_path: Path, database: Database
) -> None:
    house = house_of(tmp_path, database)
    run_id, _ = await house.run(TURNS)
    await house.answer(run_id)
    run = await house.drive(run_id)

    trailers = "%(trailers:key=Devflow-Phase,valueonly,separator=)|%(trailers:key=Devflow-Run,valueonly,separator=)"
    lines = git(house.repository, "log", "--reverse", f"--format={trailers}", f"main..{run['branch']}").splitlines()

    assert lines == [f"{name}|{run_id}" for name in ("think", "build", "verify", "report")]
    (written,) = await house.events(run_id, "report.written")
    assert written["payload"]["commit"] == run["head_sha"]


async def test_a_branch_that_somebody_moved_keeps_their_commit_and_the_report_says_so(
    tmp_path: Path, database: Database
) -> None:
    house = house_of(tmp_path, database)
    run_id, waiting = await house.run(TURNS)
    theirs = git(house.repository, "commit-tree", "main^{tree}", "-p", waiting["branch"], "-m", "mine")
    git(house.repository, "branch", "--force", waiting["branch"], theirs)

    await house.answer(run_id, Action.REJECT)
    run = await house.drive(run_id)

    assert run["state"] == "failed"
    assert git(house.repository, "rev-parse", waiting["branch"]) == theirs
    assert any("could not be put on the branch" in item for item in (await house.report(run_id))["unresolved"])
    (written,) = await house.events(run_id, "report.written")
    assert written["payload"]["commit"] is None
