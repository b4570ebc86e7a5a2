"""What surrounds an agent's work in a phase: setup, checks, and which of the traces in the worktree are published."""

import json
from pathlib import Path
from typing import Any

from engine.store.database import Database
from engine.store.tables import phases
from tests.model_server import Script, calls, serving
from tests.support.cassettes import CHANGE, SPEC, VERIFIED, call, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
RIGHT = {"run": "python3 -c 'import answer, sys; print(answer.answer()); sys.exit(answer.answer() != 42)'"}
PASSES: dict[str, Any] = {"checks": [{"use": "all", "expect": "pass"}]}
FAILS: dict[str, Any] = {"checks": [{"use": "all", "expect": "fail"}]}


def published(house: House, branch: str, run_id: Any, name: str) -> Any:
    return json.loads(git(house.repository, "show", f"{branch}:.devflow/runs/{run_id}/{name}.json"))


async def test_the_engines_own_check_results_are_in_the_artifact_whatever_the_agent_claims(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, phase("build", **PASSES), checks={"right": RIGHT})
    claim = CHANGE | {"checks": [{"name": "right", "exit_code": 0, "note": "I ran it, promise"}]}

    run_id, run = await house.run({"build/1/1": [EDIT, submit(claim)]})

    assert run["state"] == "completed"
    artifact = published(house, run["branch"], run_id, "build")
    (result,) = artifact["checks"]
    assert (result["name"], result["exit_code"], result["expected"], result["met"]) == ("right", 0, "pass", True)
    assert result["output_tail"].strip() == "42"
    assert (artifact["run_id"], artifact["phase_key"]) == (str(run_id), "build")
    (shown,) = (await house.engine.details(run_id))["checks"]
    assert (shown["name"], shown["command"], shown["exit_code"]) == ("right", RIGHT["run"], 0)
    (event,) = await house.events(run_id, "check.finished")
    assert event["payload"]["met"] is True


async def test_a_check_that_fails_is_repaired_with_its_output(tmp_path: Path, database: Database) -> None:
    script = Script(
        rules=[
            {"when": "# Phase: Phase build", "turns": [calls(("submit_artifact", {"artifact": CHANGE}))]},
            {
                "when": "Attempt 2 of phase build",
                "turns": [
                    calls(("edit_file", {"path": "answer.py", "old": "41", "new": "42"})),
                    calls(("submit_artifact", {"artifact": CHANGE})),
                ],
            },
        ]
    )
    with serving(script) as server:
        house = small_house(tmp_path, database, phase("build", **PASSES), checks={"right": RIGHT}).served_by(server)
        run_id, run = await house.run()

    assert run["state"] == "completed"
    told = server.requests[1]["messages"][-1]["content"]
    assert "ended with exit code 1, expected: pass" in told
    assert "41" in told
    results = await house.events(run_id, "check.finished")
    assert [(event["attempt"], event["payload"]["met"]) for event in results] == [(1, False), (2, True)]
    assert [item["valid"] for item in (await house.engine.details(run_id))["artifacts"]] == [False, True]


async def test_a_check_that_fails_twice_ends_the_run_and_nothing_is_published(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, phase("build", **PASSES), checks={"right": RIGHT})

    run_id, run = await house.run({"build/1/1": [submit(CHANGE)], "build/1/2": [submit(CHANGE)]})

    assert (run["state"], run["error_code"]) == ("failed", "check_failed")
    report = await house.report(run_id)
    assert [(check["attempt"], check["met"], check["exit_code"]) for check in report["checks"]] == [
        (1, False, 1),
        (2, False, 1),
    ]
    assert git(house.repository, "rev-list", "--count", f"main..{run['branch']}") == "1"
    assert "phase build was not completed" in report["unresolved"]


async def test_a_bug_that_does_not_show_is_not_reproduced(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("build", **FAILS), checks={"right": RIGHT})

    run_id, run = await house.run({"build/1/1": [EDIT, submit(CHANGE)], "build/1/2": [EDIT, submit(CHANGE)]})

    assert run["error_code"] == "check_failed"
    (first, _) = await house.events(run_id, "artifact.invalid")
    assert "ended with exit code 0, expected: fail" in first["payload"]["errors"][0]["message"]


async def test_a_check_that_is_expected_to_fail_and_does_is_evidence(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("build", **FAILS), checks={"right": RIGHT})

    run_id, run = await house.run({"build/1/1": [submit(CHANGE)]})

    assert run["state"] == "completed"
    (result,) = published(house, run["branch"], run_id, "build")["checks"]
    assert (result["exit_code"], result["expected"], result["met"]) == (1, "fail", True)


async def test_a_check_that_never_ends_has_no_exit_code(tmp_path: Path, database: Database) -> None:
    slow = {"run": "echo begun; sleep 30", "timeout_seconds": 1}
    house = small_house(tmp_path, database, phase("build", **PASSES), checks={"slow": slow})

    run_id, run = await house.run({"build/1/1": [submit(CHANGE)], "build/1/2": [submit(CHANGE)]})

    assert run["error_code"] == "check_failed"
    check = (await house.report(run_id))["checks"][-1]
    assert (check["exit_code"], check["met"]) == (None, False)
    assert check["output_tail"] == "begun\n\n(stopped after 1 s)"


async def test_without_any_check_the_verification_says_so(tmp_path: Path, database: Database) -> None:
    roles = [{"id": "author", "required_capabilities": ["test_run"]}]
    house = small_house(tmp_path, database, phase("verify", schema="dev/verify@1", **PASSES), roles=roles)

    run_id, run = await house.run({"verify/1/1": [submit(VERIFIED)]})

    assert published(house, run["branch"], run_id, "verify")["unresolved"] == ["no checks"]
    assert (await house.report(run_id))["unresolved"].count("no checks") == 1


async def test_what_checks_and_commands_leave_behind_is_not_the_next_phases_doing(
    tmp_path: Path, database: Database
) -> None:
    messy = {"run": "mkdir -p cache; echo x > cache/1; echo y > check.log; echo z >> answer.py"}
    house = small_house(
        tmp_path, database, phase("build", **PASSES), phase("think", "thinker", "dev/spec@1"), checks={"messy": messy}
    )

    run_id, run = await house.run({"build/1/1": [EDIT, submit(CHANGE)], "think/1/1": [submit(SPEC)]})

    assert (run["state"], run["error_message"]) == ("completed", None)
    names = git(house.repository, "diff", "--name-only", "main", run["branch"]).splitlines()
    assert [name for name in names if not name.startswith(f".devflow/runs/{run_id}/")] == ["answer.py"]
    assert git(house.repository, "show", f"{run['branch']}:answer.py") == "def answer():\n    return 42"


async def test_a_phase_that_only_documents_may_change_nothing_else(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("think", "thinker", "dev/spec@1"))

    run_id, run = await house.run({"think/1/1": [EDIT, submit(SPEC)], "think/1/2": [submit(SPEC)]})

    assert run["state"] == "completed"
    (fault,) = await house.events(run_id, "artifact.invalid")
    assert fault["payload"]["code"] == "protected_path"
    assert fault["payload"]["errors"][0]["path"] == "answer.py"
    assert git(house.repository, "show", f"{run['branch']}:answer.py") == "def answer():\n    return 41"


async def test_setup_runs_once_with_the_network_and_its_leftovers_are_never_committed(
    tmp_path: Path, database: Database
) -> None:
    setup = ["echo run >> setup-count; mkdir -p vendor; echo lib > vendor/lib.py; echo pinned >> tracked.txt"]
    counts = {"run": "cat setup-count vendor/lib.py; test $(wc -l < setup-count) = 1 && grep pinned tracked.txt"}
    house = small_house(
        tmp_path,
        database,
        phase("build", gates=["look"], **PASSES),
        phase("more", **PASSES),
        checks={"counts": counts},
        setup=setup,
        files={"tracked.txt": "loose\n"},
    )
    run_id, _ = await house.run({"build/1/1": [EDIT, submit(CHANGE)], "more/1/1": [submit(CHANGE)]})

    await house.answer(run_id)
    run = await house.drive(run_id)

    assert (run["state"], run["error_message"]) == ("completed", None)
    names = git(house.repository, "ls-tree", "-r", "--name-only", run["branch"]).splitlines()
    assert not [name for name in names if name.startswith(("vendor", "setup-count"))]
    assert git(house.repository, "show", f"{run['branch']}:tracked.txt") == "loose"


async def test_setup_that_fails_ends_run_and_phase_with_its_output(tmp_path: Path, database: Database) -> None:
    setup = ["true", "printf 'no such \\000 package'; exit 3"]
    house = small_house(tmp_path, database, phase("build"), phase("more"), setup=setup)

    run_id, run = await house.run({"build/1/1": [submit(CHANGE)]})

    assert (run["state"], run["error_code"]) == ("failed", "setup_failed")
    assert "ended with exit code 3" in run["error_message"]
    assert "no such \ufffd package" in run["error_message"]
    states = {row["phase_key"]: row["state"] for row in await house.rows(phases, phases.c.run_id == run_id)}
    assert states == {"build": "failed", "more": "skipped"}
    assert (await house.report(run_id))["error"]["code"] == "setup_failed"


async def test_each_phase_is_given_the_published_artifacts_of_those_before(tmp_path: Path, database: Database) -> None:
    script = Script(
        rules=[
            {"when": "# Phase: Phase think", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]},
            {"when": "# Phase: Phase build", "turns": [calls(("submit_artifact", {"artifact": CHANGE}))]},
        ]
    )
    with serving(script) as server:
        house = small_house(tmp_path, database, phase("think", "thinker", "dev/spec@1"), phase("build")).served_by(
            server
        )
        run_id, run = await house.run()

    first, second = (request["messages"][1]["content"] for request in server.requests)
    digest = (await house.engine.details(run_id))["artifacts"][0]["digest"]
    assert digest not in first
    assert f"## Artifact of phase think (dev/spec@1, sha256 {digest})" in second
    published_text = git(house.repository, "show", f"{run['branch']}:.devflow/runs/{run_id}/think.json")
    assert published_text in second
