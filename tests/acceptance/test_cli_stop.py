"""Stopping a run that works: Ctrl-C and SIGTERM, `pause` and `abort` from elsewhere, and a process that is killed."""

import asyncio
import signal
import time
from datetime import UTC, datetime

import pytest

from app.local.remotes import LocalRemotes
from engine.facade import Engine
from engine.settings import Settings
from engine.start import StartRequest
from tests.model_server import ModelServer, Script, serving
from tests.support.cli import Answer
from tests.support.forked_cli import ForkedCli, Process, until
from tests.support.scenes import ISSUE, Scene, script

HANGS = [{"kind": "hang"}]


def refused(answer: Answer, code: str) -> str:
    """Assert that the command was refused with `code`, and return the hint."""
    assert (answer.code, answer.error) == (2, code), answer
    return str(answer.json["error"]["recovery_hint"])


def begin(
    devflow: ForkedCli, scene: Scene, server: ModelServer, pause_grace_seconds: float = 0.2
) -> tuple[Process, str]:
    """Start a run and wait until its first model call hangs; returns the process and the run's id."""
    devflow.env |= {"OPENAI_BASE_URL": server.base_url, "DEVFLOW_PAUSE_GRACE_SECONDS": str(pause_grace_seconds)}
    devflow.env |= {"DEVFLOW_HEARTBEAT_SECONDS": "0.5", "DEVFLOW_WORKER_DEAD_AFTER_SECONDS": "20"}
    process = devflow.start(*scene.run("solo", "--model", "scripted", "--json"))
    until(lambda: server.requests, said=lambda: process.err)
    runs = devflow.run("runs", "--json", code=0).json["runs"]
    assert [run["state"] for run in runs] == ["executing"]
    return process, runs[0]["run_id"]


def completes(devflow: ForkedCli, run: str) -> None:
    """Resume the run with a model that answers, and see it complete with one commit a phase."""
    with serving(script()) as server:
        done = devflow.run(
            "resume", run, "--approve", "always", "--json", env={"OPENAI_BASE_URL": server.base_url}, code=0
        )
    assert done.json["state"] == "completed"
    assert done.json["error"] is None
    assert devflow.run("audit", "verify", run, "--json", code=0).json["valid"] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_a_signal_pauses_the_run_that_this_process_drives(
    devflow: ForkedCli, scene: Scene, number: signal.Signals
) -> None:
    with serving(Script(faults=HANGS * 3)) as server:
        process, run = begin(devflow, scene, server)
        asked = len(server.requests)
        process.signal(number)
        stopped = process.wait()

        # assert: exit code 4, paused, the lease free, nothing asked of the model any more
        assert (stopped.code, stopped.json["state"]) == (4, "paused")
        assert stopped.json["error"] is None
        assert "Traceback" not in stopped.err
        assert len(server.requests) == asked
    shown = devflow.run("show", run, "--json").json
    assert (shown["paused_from_state"], shown["phases"][0]["state"]) == ("executing", "running")
    completes(devflow, run)


def test_pause_from_elsewhere_stops_the_driving_process_and_a_live_run_is_left_to_it(
    devflow: ForkedCli, scene: Scene
) -> None:
    with serving(Script(faults=HANGS * 3)) as server:
        process, run = begin(devflow, scene, server)

        # what a live run does not take
        held = devflow.run("resume", run, "--json")
        refused(held, "worker_already_running")
        assert str(process.pid) in held.json["error"]["message"]
        for command in ("approve", "reject", "revise"):
            refused(devflow.run(command, run, "--note", "x", "--json"), "illegal_transition")
        refused(devflow.run("retry", run, "--json"), "illegal_transition")

        # act
        asked = devflow.run("pause", run, "--note", "lunch", "--as", "bob", code=0)
        assert "safe point" in asked.out
        stopped = process.wait()

    assert (stopped.code, stopped.json["state"]) == (4, "paused")
    events = devflow.run("events", run, "--json").json["events"]
    paused = next(event["payload"] for event in events if event["type"] == "run.paused")
    assert (paused["by"], paused["message"]) == ("bob", "lunch")
    completes(devflow, run)


def test_abort_ends_a_working_run_within_two_seconds(devflow: ForkedCli, scene: Scene) -> None:
    with serving(Script(faults=HANGS * 3)) as server:
        process, run = begin(devflow, scene, server)

        devflow.run("abort", run, "--note", "wrong issue", "--as", "bob", code=0)
        asked_at = datetime.now(UTC)
        stopped = process.wait()

    events = devflow.run("events", run, "--json").json["events"]
    aborted_at = next(event["at"] for event in events if event["type"] == "run.aborted")
    assert (datetime.fromisoformat(aborted_at) - asked_at).total_seconds() < 2
    assert (stopped.code, stopped.json["state"]) == (3, "aborted")
    assert stopped.json["report_path"]
    shown = devflow.run("show", run, "--json").json
    assert [phase["state"] for phase in shown["phases"]] == ["skipped"]
    assert len(server.requests) == 1


def test_a_signal_at_a_gate_leaves_it_waiting(devflow: ForkedCli, scene: Scene) -> None:
    terminal = devflow.terminal(*scene.recorded("solo", "--approve", "ask"))
    terminal.expect("an empty line leaves it pending")
    terminal.process.signal(signal.SIGTERM)

    assert terminal.wait() == 0
    runs = devflow.run("runs", "--json").json["runs"]
    assert [run["state"] for run in runs] == ["awaiting_approval"]
    assert "devflow resume" in terminal.screen


def test_a_killed_process_leaves_a_run_that_resume_takes_over_at_once(devflow: ForkedCli, scene: Scene) -> None:
    with serving(Script(faults=HANGS * 3)) as server:
        process, run = begin(devflow, scene, server)
        process.signal(signal.SIGKILL)
        assert process.wait().code == -signal.SIGKILL

    # nobody holds it: pause and abort work at once, and so does resume
    assert devflow.run("pause", run, "--json", code=0).json["state"] == "paused"
    completes(devflow, run)


def test_a_run_that_has_not_begun_can_be_paused_resumed_and_aborted_only(
    devflow: ForkedCli, scene: Scene, database_url: str
) -> None:
    # arrange: created by a process that went away before it worked on it
    async def create() -> str:
        settings = Settings(data_dir=devflow.data_dir, database_url=database_url, sandbox="none")
        request = StartRequest(
            scene.repository, ISSUE, "ada", cassette=("cassette.yaml", scene.cassette.read_bytes()), private_queue=True
        )
        async with Engine.open(settings, LocalRemotes()) as engine:
            return str(await engine.start(request))

    paused, aborted = asyncio.run(create()), asyncio.run(create())

    # what a run that has not begun does not take
    for command in ("approve", "reject", "revise", "retry"):
        note = ["--note", "x"] if command == "revise" else []
        refused(devflow.run(command, paused, *note, "--json"), "illegal_transition")

    # what it does take
    assert devflow.run("pause", paused, "--json", code=0).json["state"] == "paused"
    assert devflow.run("show", paused, "--json").json["paused_from_state"] == "created"
    done = devflow.run("resume", paused, "--approve", "always", "--json", code=0)
    assert done.json["state"] == "completed"
    assert devflow.run("abort", aborted, "--json", code=0).json["state"] == "aborted"


def test_a_second_ctrl_c_stops_at_once_and_the_run_can_be_resumed(devflow: ForkedCli, scene: Scene) -> None:
    with serving(Script(faults=HANGS * 3)) as server:
        process, run = begin(devflow, scene, server, pause_grace_seconds=60)
        process.signal(signal.SIGINT)
        process.wait_for("once more stops at once")
        began = time.monotonic()
        process.signal(signal.SIGINT)
        stopped = process.wait()

        assert time.monotonic() - began < 5
        assert (stopped.code, stopped.json["state"]) == (4, "paused")
    completes(devflow, run)
