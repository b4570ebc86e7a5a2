"""The run loop: phases in their order, what an attempt may leave, one repair, and what a run ends with."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.local.remotes import LocalRemotes
from engine.domain.states import Action
from engine.ports import Remote
from engine.store.agent_tables import ledger, tool_calls
from engine.store.database import Database
from engine.store.tables import phases
from tests.model_server import Script, calls, says, serving
from tests.support.cassettes import CHANGE, SPEC, call, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import git, write_files

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
BAD_SPEC = {"requirements": [], "acceptance_criteria": ["one"], "approach": 7, "risks": []}


def think(**more: Any) -> dict[str, Any]:
    return phase("think", "thinker", "dev/spec@1", **more)


async def phase_states(house: House, run_id: Any) -> dict[str, tuple[str, int]]:
    rows = await house.rows(phases, phases.c.run_id == run_id)
    return {row["phase_key"]: (row["state"], row["attempts"]) for row in rows}


async def test_a_run_of_two_phases_completes_and_stores_both_completions(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(), phase("build"))

    run_id, run = await house.run({"think/1/1": [submit(SPEC)], "build/1/1": [EDIT, submit(CHANGE)]})

    assert run["state"] == "completed"
    done = await house.events(run_id, "phase.completed")
    assert [event["phase_key"] for event in done] == ["think", "build"]
    assert await phase_states(house, run_id) == {"think": ("completed", 1), "build": ("completed", 1)}
    assert git(house.repository, "show", f"{run['branch']}:answer.py") == "def answer():\n    return 42"
    assert git(house.repository, "status", "--porcelain") == ""
    types = [event["type"] for event in await house.events(run_id)]
    assert types[:2] == ["run.created", "run.started"]
    assert types[-2:] == ["run.completed", "report.written"]
    assert await house.engine.broken_link(run_id) == (len(types), None)


async def test_a_repair_is_told_the_errors_and_counts_as_attempt_two(tmp_path: Path, database: Database) -> None:
    script = Script(
        rules=[
            {"when": "# Phase: Phase think", "turns": [calls(("submit_artifact", {"artifact": BAD_SPEC}))]},
            {"when": "Attempt 2 of phase think", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]},
        ]
    )
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, run = await house.run()

    assert run["state"] == "completed"
    first, second = server.requests
    asked, told = first["messages"][-1]["content"], second["messages"][-1]["content"]
    assert "answer() must return 42" in asked
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert "- /approach: " in told
    assert "- /requirements: " in told
    assert await phase_states(house, run_id) == {"think": ("completed", 2)}
    assert len(await house.events(run_id, "prompt.repaired")) == 1
    (invalid,) = await house.events(run_id, "artifact.invalid")
    assert {error["path"] for error in invalid["payload"]["errors"]} == {"/approach", "/requirements"}
    rows = sorted(await house.rows(ledger), key=lambda row: row["turn_index"])
    assert [(row["turn_index"], row["persona_name"], row["role"]) for row in rows] == [
        (0, rows[0]["persona_name"], "thinker"),
        (1, rows[0]["persona_name"], "thinker"),
    ]
    shown = await house.engine.details(run_id)
    assert rows[0]["persona_version"] == shown["bindings"][-1]["version"]
    assert [item["valid"] for item in shown["artifacts"]] == [False, True]
    assert shown["ledger"]["calls"] == run["llm_call_count"] == 2
    assert shown["ledger"]["input_tokens"] + shown["ledger"]["output_tokens"] == run["total_tokens"] == 240


async def test_a_repair_that_fails_too_ends_the_run(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(), phase("build"))

    run_id, run = await house.run({"think/1/1": [submit(BAD_SPEC)], "think/1/2": [submit({})]})

    assert (run["state"], run["error_code"]) == ("failed", "artifact_invalid_after_repair")
    assert await phase_states(house, run_id) == {"think": ("failed", 2), "build": ("skipped", 0)}
    (failed,) = await house.events(run_id, "phase.failed")
    assert failed["payload"]["code"] == "artifact_invalid_after_repair"
    assert failed["attempt"] == 2


async def test_a_file_at_the_expected_path_counts_as_submitted(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think())
    written = [call("write_file", path="out/think.json", content=json.dumps(SPEC))]

    run_id, run = await house.run({"think/1/1": [written]})

    assert run["state"] == "completed"
    names = git(house.repository, "ls-tree", "-r", "--name-only", run["branch"]).splitlines()
    assert "out/think.json" not in names
    assert f".devflow/runs/{run_id}/think.json" in names


async def test_a_file_that_was_there_before_does_not_count(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, think(), files={"out/think.json": json.dumps(SPEC)})

    run_id, run = await house.run({"think/1/1": [], "think/1/2": []})

    assert (run["state"], run["error_code"]) == ("failed", "artifact_invalid_after_repair")
    faults = await house.events(run_id, "artifact.invalid")
    assert [event["payload"]["code"] for event in faults] == ["artifact_missing", "artifact_missing"]
    assert git(house.repository, "show", f"{run['branch']}:out/think.json") == json.dumps(SPEC)


@pytest.mark.parametrize(
    "command",
    [
        "mkdir -p out && ln -sf /etc/hostname out/think.json",
        "mkdir -p out/think.json",
        "rm -rf out && touch out",
        "mkdir -p elsewhere && ln -sfn elsewhere out && echo '{}' > elsewhere/think.json",
        "mkdir -p out && mkfifo out/think.json",
    ],
    ids=["link", "folder", "file above", "link above", "fifo"],
)
async def test_whatever_is_no_ordinary_file_at_the_expected_path_is_a_fault(
    tmp_path: Path, database: Database, command: str
) -> None:
    house = small_house(tmp_path, database, think())
    obstruct = [call("run_command", command=command)]

    run_id, run = await house.run({"think/1/1": [obstruct], "think/1/2": [obstruct]})

    assert (run["state"], run["error_code"]) == ("failed", "artifact_invalid_after_repair")
    faults = await house.events(run_id, "artifact.invalid")
    assert [event["payload"]["code"] for event in faults] == ["artifact_missing", "artifact_missing"]


async def test_an_attempt_out_of_time_is_followed_by_one_with_a_fresh_timeout_and_no_more(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think(timeout_seconds=1))
    slow = [call("run_command", command="sleep 30; touch too-late")]

    run_id, run = await house.run({"think/1/1": [slow, submit(SPEC)], "think/1/2": [slow, submit(SPEC)]})

    assert (run["state"], run["error_code"]) == ("failed", "artifact_timeout_exhausted")
    timeouts = await house.events(run_id, "artifact.timeout")
    assert [(event["attempt"], event["payload"]["timeout_seconds"]) for event in timeouts] == [(1, 1), (2, 1)]
    assert len(await house.events(run_id, "prompt.repaired")) == 1
    assert [row["tool"] for row in await house.rows(tool_calls)] == ["run_command", "run_command"]
    assert len(await house.rows(ledger)) == 2
    assert await phase_states(house, run_id) == {"think": ("failed", 2)}


async def test_a_model_that_hangs_is_asked_nothing_more_after_the_timeout(tmp_path: Path, database: Database) -> None:
    script = Script(faults=[{"kind": "hang"}])
    script.rules = [{"when": "Attempt 2", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]}]
    with serving(script) as server:
        house = small_house(tmp_path, database, think(timeout_seconds=1)).served_by(server)
        _, run = await house.run()

    assert run["state"] == "completed"
    assert len(server.requests) == 2
    assert sorted(row["status"] for row in await house.rows(ledger)) == ["settled", "unknown"]


async def test_an_abort_in_flight_sends_no_new_prompt(tmp_path: Path, database: Database) -> None:
    with serving(Script(faults=[{"kind": "hang"}])) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id = await house.start()
        driving = asyncio.create_task(house.drive(run_id))
        await house.wait(run_id, lambda row: bool(server.requests))
        await house.answer(run_id, Action.ABORT, note="enough")
        run = await driving

    assert run["state"] == "aborted"
    assert len(server.requests) == 1
    assert len(await house.events(run_id, "prompt.sent", "prompt.repaired")) == 1
    assert await phase_states(house, run_id) == {"think": ("skipped", 1)}


async def test_a_worker_that_is_stopped_in_flight_sends_no_new_prompt(tmp_path: Path, database: Database) -> None:
    script = Script(faults=[{"kind": "hang"}])
    script.rules = [{"when": "# Phase: Phase think", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]}]
    with serving(script) as server:
        settings = {"shutdown_drain_seconds": 0.1}
        house = small_house(tmp_path, database, think(timeout_seconds=60), settings=settings).served_by(server)
        run_id = await house.start()
        stopped = await house.drive_until(run_id, lambda row: bool(server.requests))
        requests = len(server.requests)
        left = await house.engine.row(run_id)
        run = await house.drive(run_id)

    assert stopped["state"] == left["state"] == "executing"
    assert (requests, left["lease_worker"]) == (1, None)
    assert run["state"] == "completed"
    assert await phase_states(house, run_id) == {"think": ("completed", 1)}
    assert len(await house.events(run_id, "prompt.sent")) == 1


class FailingRemotes(LocalRemotes):
    """Remotes that break at one of the times they are asked, as a host with a bug would."""

    def __init__(self, error: Exception, after: int) -> None:
        self._error = error
        self._left = after

    async def remote(self, repository_id: int, location: str) -> Remote:
        self._left -= 1
        if self._left == 0:
            raise self._error
        return await super().remote(repository_id, location)


@pytest.mark.parametrize("after", [2, 3], ids=["opening", "publishing"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug \x00 with an odd message"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
    ids=["RuntimeError", "UnicodeDecodeError"],
)
async def test_an_error_that_nobody_foresaw_ends_the_run_with_a_code(
    tmp_path: Path, database: Database, error: Exception, after: int
) -> None:
    house = small_house(tmp_path, database, think())
    house = house.with_remotes(FailingRemotes(error, after))

    run_id, run = await house.run({"think/1/1": [submit(SPEC)]})

    assert (run["state"], run["error_code"]) == ("failed", "internal_error")
    assert type(error).__name__ in run["error_message"]
    assert (await phase_states(house, run_id))["think"][0] == "failed"
    assert (await house.report(run_id))["error"]["code"] == "internal_error"


async def test_a_phase_without_artifact_runs_its_agent_and_asks_its_gate(tmp_path: Path, database: Database) -> None:
    house = small_house(tmp_path, database, phase("build", schema=None, gates=["look"]))

    run_id, waiting = await house.run({"build/1/1": [EDIT]})
    (request,) = (await house.engine.details(run_id))["approvals"]
    asked = await house.engine.pending_document(run_id)
    await house.answer(run_id)
    run = await house.drive(run_id)

    assert waiting["state"] == "awaiting_approval"
    assert request["bound_digest"] is None
    assert request["bound_tree"] == git(house.repository, "rev-parse", f"{request['commit']}^{{tree}}")
    assert asked is not None
    assert request["commit"] in asked["markdown"]
    assert run["state"] == "completed"
    assert "return 42" in git(house.repository, "show", f"{run['branch']}:answer.py")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "malformed"},
        {"kind": "malformed", "text": '{"choices": []}'},
        {"kind": "malformed", "text": "null"},
    ],
)
async def test_replies_that_stay_malformed_are_repaired_in_the_same_session(
    tmp_path: Path, database: Database, fault: dict[str, Any]
) -> None:
    script = Script(faults=[fault] * 3)
    script.rules = [{"when": "Attempt 2 of phase think", "turns": [calls(("submit_artifact", {"artifact": SPEC}))]}]
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, run = await house.run()

    assert run["state"] == "completed"
    assert len(server.requests) == 4
    (invalid,) = await house.events(run_id, "artifact.invalid")
    assert invalid["payload"]["code"] == "model_reply_invalid"
    assert "reply could not be read" in server.requests[-1]["messages"][-1]["content"]
    assert len(await house.events(run_id, "session.started")) == 1


async def test_replies_that_are_malformed_after_the_repair_too_end_the_run(tmp_path: Path, database: Database) -> None:
    with serving(Script(faults=[{"kind": "malformed"}] * 6)) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, run = await house.run()

    assert (run["state"], run["error_code"]) == ("failed", "model_reply_invalid")
    assert len(server.requests) == 6
    assert await phase_states(house, run_id) == {"think": ("failed", 2)}


async def test_a_context_that_overflows_opens_a_new_session(tmp_path: Path, database: Database) -> None:
    look = calls(("list_files", {}))
    script = Script(faults=[None, {"kind": "overflow"}])
    script.rules = [{"when": "# Phase", "turns": [look, calls(("submit_artifact", {"artifact": SPEC}))]}]
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, run = await house.run()

    assert run["state"] == "completed"
    first, second = await house.events(run_id, "session.started")
    assert first["payload"]["reason"] == "phase started"
    assert "no longer fits" in second["payload"]["reason"]
    assert await phase_states(house, run_id) == {"think": ("completed", 1)}
    old, new = (server.requests[number]["messages"] for number in (0, 2))
    assert len(new) == 2
    assert [message["content"].partition("## Envelope")[0] for message in new] == [
        message["content"].partition("## Envelope")[0] for message in old
    ]


async def test_a_context_that_overflows_each_time_ends_the_run(tmp_path: Path, database: Database) -> None:
    with serving(Script(faults=[{"kind": "overflow"}] * 9)) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        _, run = await house.run()

    assert (run["state"], run["error_code"]) == ("failed", "context_overflow")
    assert len(server.requests) == 3


async def test_a_model_that_only_talks_is_told_that_the_artifact_is_missing(tmp_path: Path, database: Database) -> None:
    script = Script(rules=[{"when": "# Phase", "turns": [says("All done!")]}])
    with serving(script) as server:
        house = small_house(tmp_path, database, think()).served_by(server)
        run_id, run = await house.run()

    assert run["error_code"] == "artifact_invalid_after_repair"
    assert "neither submit_artifact was called" in server.requests[1]["messages"][-1]["content"]
    assert (await house.engine.details(run_id))["last_ai_message"] == "no rule of the script fits this prompt"


async def test_a_run_goes_by_what_it_was_started_with_whatever_changes_meanwhile(
    tmp_path: Path, database: Database
) -> None:
    house = small_house(tmp_path, database, think(gates=["look"]), phase("build"))
    run_id, _ = await house.run({"think/1/1": [submit(SPEC)], "build/1/1": [EDIT, submit(CHANGE)]})
    before = await house.engine.details(run_id)
    write_files(
        house.repository,
        {".devflow/workflows/small.yaml": "name: small\nversion: 1\nphases: nonsense\n", ".github/devflow.yml": "a: b"},
    )
    git(house.repository, "add", "--all")
    git(house.repository, "commit", "--quiet", "--message", "Change everything")
    (house.repository / "answer.py").write_text("not even committed\n")

    await house.answer(run_id)
    run = await house.drive(run_id)

    assert run["state"] == "completed"
    after = await house.engine.details(run_id)
    assert after["bindings"] == before["bindings"]
    assert run["template_hash"] == (await house.events(run_id, "run.created"))[0]["payload"]["template_hash"]
    assert git(house.repository, "merge-base", "main", run["branch"]) == run["base_sha"]
