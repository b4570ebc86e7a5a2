"""Looking at runs and at the machine: events as they come, the audit of their chain, `doctor`, `db upgrade`."""

import asyncio
import json

import asyncpg

from engine.store.address import connect_arguments
from tests.model_server import Script, serving
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import commit_files
from tests.support.scenes import SOLO, Scene, script


def test_events_are_followed_as_json_lines_until_the_run_ends(devflow: ForkedCli, scene: Scene) -> None:
    waiting = devflow.run(*scene.recorded("solo", "--json"), code=0)
    run = waiting.json["run_id"]
    follower = devflow.start("events", run, "--follow", "--json")
    follower.wait_for("approval.requested")

    devflow.run("resume", run, "--approve", "always", code=0)
    followed = follower.wait()

    lines = [json.loads(line) for line in followed.out.splitlines()]
    assert followed.code == 0
    assert lines == devflow.run("events", run, "--json", code=0).json["events"]
    assert lines[-1]["type"] == "report.written"
    text = devflow.run("events", run, code=0).out
    assert "gate spec_approval waits for an answer" in text
    assert "run completed" in text


def test_a_changed_event_breaks_the_chain(devflow: ForkedCli, scene: Scene, database_url: str) -> None:
    run = devflow.run(*scene.recorded("solo", "--approve", "always", "--json"), code=0).json["run_id"]
    assert "the chain holds" in devflow.run("audit", "verify", run, code=0).out

    async def tamper() -> None:
        connection = await asyncpg.connect(**connect_arguments(database_url))
        try:
            await connection.execute(
                "UPDATE events SET payload = jsonb_set(payload, '{by}', '\"mallory\"') WHERE type = 'approval.resolved'"
            )
        finally:
            await connection.close()

    asyncio.run(tamper())
    broken = devflow.run("audit", "verify", run, "--json", code=1).json
    assert broken["valid"] is False
    events = devflow.run("events", run, "--json").json["events"]
    assert events[broken["broken_at"] - 1]["type"] == "approval.resolved"
    assert "breaks at number" in devflow.run("audit", "verify", run, code=1).out


def test_a_run_keeps_what_it_started_with_when_the_files_change(devflow: ForkedCli, scene: Scene) -> None:
    with serving(script()) as server:
        devflow.env["OPENAI_BASE_URL"] = server.base_url
        run = devflow.run(*scene.run("pair", "--model", "scripted", "--json"), code=0).json["run_id"]
        before = devflow.run("show", run, "--json").json

        commit_files(
            scene.repository,
            {".devflow/workflows/pair.yaml": SOLO.replace("name: solo", "name: pair"), ".github/devflow.yml": "x: ["},
        )
        scene.issue.write_text("# Something else\n")
        devflow.run("approve", run, code=0)
        done = devflow.run("resume", run, "--json", code=0)

        assert done.json["state"] == "completed"
        assert "forty-two" in json.dumps(server.requests[-1])
    after = devflow.run("show", run, "--json").json
    assert after["bindings"] == before["bindings"]
    assert [phase["key"] for phase in after["phases"]] == ["spec", "change"]


def test_a_model_server_that_refuses_in_mid_run_pauses_it_and_resume_goes_on_in_the_conversation(
    devflow: ForkedCli, scene: Scene
) -> None:
    refusal = {"kind": "status", "status": 401, "message": "key expired"}
    with serving(script(faults=[None, refusal])) as server:
        env = {"OPENAI_BASE_URL": server.base_url}
        paused = devflow.run(*scene.run("solo", "--model", "scripted"), env=env, code=4)
        assert "backend_unavailable" in paused.out
        assert "devflow resume" in paused.out
        run = devflow.run("runs", "--state", "paused", "--json", code=0).json["runs"][0]["run_id"]

        done = devflow.run("resume", run, "--approve", "always", "--json", env=env, code=0)

        assert done.json["state"] == "completed"
        first, refused, again = (request["messages"] for request in server.requests)
        assert refused[: len(first)] == first
        assert again == refused


def test_doctor_and_db_upgrade_say_what_they_found(devflow: ForkedCli, empty_database_url: str) -> None:
    with serving(Script()) as server:
        env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-canary-of-doctor"}
        text = devflow.run("doctor", env=env, code=0)
        findings = devflow.run("doctor", "--json", env=env, code=0).json["findings"]
    assert {"git", "database", "platform"} <= {one["name"] for one in findings}
    assert all({"name", "ok", "text", "needed"} == set(one) for one in findings)
    assert "sk-canary-of-doctor" not in text.out + json.dumps(findings)
    gone = devflow.run("doctor", "--json", env={"DEVFLOW_DATABASE_URL": "postgresql://a:hunter2@127.0.0.1:9/x"}, code=1)
    assert "hunter2" not in gone.out
    assert [one["ok"] for one in gone.json["findings"] if one["name"] == "database"] == [False]

    new = {"DEVFLOW_DATABASE_URL": empty_database_url}
    assert "up to date" in devflow.run("db", "upgrade", env=new, code=0).out
    assert "No runs yet" in devflow.run("runs", env=new, code=0).out
