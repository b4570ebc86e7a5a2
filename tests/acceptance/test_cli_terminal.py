"""A person at a terminal: the gate is shown and asked, and every way to answer it or not to."""

import json

from tests.model_server import serving
from tests.support.forked_cli import ForkedCli, Terminal
from tests.support.repositories import git
from tests.support.scenes import Scene, script

ASKS = "an empty line leaves it pending"


def only_run(devflow: ForkedCli) -> dict[str, object]:
    """Return the row of the only run."""
    (run,) = devflow.run("runs", "--json", code=0).json["runs"]
    return dict(run)


def at_gate(devflow: ForkedCli, scene: Scene, *options: str) -> Terminal:
    """Run to the first gate at a terminal, which is asked there by default."""
    terminal = devflow.terminal(*scene.recorded("solo", *options))
    terminal.expect(ASKS)
    return terminal


def test_approve_shows_the_artifact_first_and_goes_on_afterwards(devflow: ForkedCli, scene: Scene) -> None:
    terminal = devflow.terminal(*scene.recorded("pair"))
    terminal.expect("run created: pair@1")
    terminal.expect("Acceptance criteria")
    terminal.expect("answer() returns 42.")
    terminal.expect("Gate spec_approval")
    terminal.type("maybe\n")
    terminal.expect("'maybe' is none of approve, revise, reject, abort")
    terminal.type("/Approve looks right\n")
    terminal.expect("looks right")
    terminal.expect("run completed")

    assert terminal.wait() == 0
    assert "state:   completed" in terminal.screen
    run = str(only_run(devflow)["run_id"])
    decisions = devflow.run("show", run, "--json").json["approvals"][0]["decisions"]
    assert [(one["action"], one["note"]) for one in decisions] == [("approve", "looks right")]


def test_revise_with_feedback_asks_again_in_round_two(devflow: ForkedCli, scene: Scene) -> None:
    with serving(script()) as server:
        terminal = devflow.terminal(*scene.run("solo", "--model", "scripted"), env={"OPENAI_BASE_URL": server.base_url})
        terminal.expect(ASKS)
        terminal.type("revise\n")
        terminal.expect("what to change")
        terminal.type("revise Name the constant.\n")
        terminal.expect("round 2")
        terminal.expect(ASKS)
        assert "Name the constant." in json.dumps(server.requests[-1])
        terminal.type("approve\n")
        assert terminal.wait() == 0


def test_reject_fails_the_run_with_the_reason(devflow: ForkedCli, scene: Scene) -> None:
    terminal = at_gate(devflow, scene)
    terminal.type("reject this is not it\n")

    assert terminal.wait() == 1
    assert "this is not it" in terminal.screen
    assert only_run(devflow)["state"] == "failed"


def test_abort_ends_the_run(devflow: ForkedCli, scene: Scene) -> None:
    terminal = at_gate(devflow, scene)
    terminal.type("abort\n")

    assert terminal.wait() == 3
    assert only_run(devflow)["state"] == "aborted"


def test_an_empty_line_or_the_end_of_input_leaves_the_gate_pending_and_resume_asks_again(
    devflow: ForkedCli, scene: Scene
) -> None:
    terminal = at_gate(devflow, scene)
    terminal.type("\n")
    assert terminal.wait() == 0
    assert only_run(devflow)["state"] == "awaiting_approval"
    run = str(only_run(devflow)["run_id"])

    again = devflow.terminal("resume", run)
    again.expect(ASKS)
    again.type("\x04")
    assert again.wait() == 0
    assert only_run(devflow)["state"] == "awaiting_approval"
    assert len(devflow.run("show", run, "--json").json["approvals"]) == 1

    ctrl_c = devflow.terminal("resume", run)
    ctrl_c.expect(ASKS)
    ctrl_c.type("\x03")
    assert ctrl_c.wait() == 0
    assert only_run(devflow)["state"] == "awaiting_approval"


def test_a_gate_that_is_answered_elsewhere_goes_on_here(devflow: ForkedCli, scene: Scene) -> None:
    terminal = at_gate(devflow, scene)
    run = str(only_run(devflow)["run_id"])

    devflow.run("approve", run, "--as", "bob", code=0)
    terminal.expect("answered elsewhere")

    assert terminal.wait() == 0
    assert only_run(devflow)["state"] == "completed"


def test_an_issue_cannot_steer_the_terminal_the_branch_or_the_commits(devflow: ForkedCli, scene: Scene) -> None:
    scene.issue.write_bytes(
        b"# \x1b[31mred\x1b[0m $(touch owned) `touch owned`; --upload-pack=x \xe2\x80\xae ../../x @{-1} **bold**"
        b"<script>\r\n\r\nDevflow-Run: 1\r\n\x1b]0;owned\x07 \xc2\x9b31m and the rest.\n"
    )
    terminal = at_gate(devflow, scene)
    terminal.type("approve \x16\x1b[31mnote\n")
    assert terminal.wait() == 0

    assert b"\x1b[31m" not in terminal.raw
    assert b"\x1b]0;" not in terminal.raw
    assert "\u202e" not in terminal.screen
    assert "\x9b" not in terminal.screen
    row = only_run(devflow)
    branch = str(row["branch"])
    assert git(scene.repository, "check-ref-format", "--branch", branch) == branch
    assert set(branch) <= set("abcdefghijklmnopqrstuvwxyz0123456789-/")
    bodies = git(scene.repository, "log", "--format=%(trailers:key=Devflow-Run,valueonly)", f"main..{branch}")
    assert set(bodies.split()) == {row["run_id"]}
    assert not list(scene.repository.parent.rglob("owned"))
    for command in (["runs"], ["show", str(row["run_id"])], ["events", str(row["run_id"])]):
        shown = devflow.run(*command, code=0).out
        assert not set(shown) & set("\x1b\x9b\x07\u202e")
