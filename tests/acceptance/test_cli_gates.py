"""Gates answered by `devflow approve` and its like: what each answer does, and what is refused and why."""

import json
from pathlib import Path

import pytest

from tests.model_server import Script, serving
from tests.support import cassettes
from tests.support.cassettes import submit
from tests.support.cli import Answer
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import git
from tests.support.scenes import Scene, script


def refused(answer: Answer, code: str) -> str:
    """Assert that the command was refused with `code`, and return the hint."""
    assert (answer.code, answer.error) == (2, code), answer
    return str(answer.json["error"]["recovery_hint"])


def to_gate(devflow: ForkedCli, scene: Scene, workflow: str = "solo", *options: str) -> str:
    """Run a workflow to its first gate; returns the run's id."""
    answer = devflow.run(*scene.recorded(workflow, "--approve", "never", "--json", *options), code=0)
    assert answer.json["state"] == "awaiting_approval"
    return str(answer.json["run_id"])


def person_pushes(scene: Scene, branch: str, edit: dict[str, str]) -> str:
    """Commit these files on the run's branch as a person would, in a checkout beside the repository."""
    checkout = scene.repository.parent / "by_hand"
    git(scene.repository, "worktree", "add", "--quiet", str(checkout), branch)
    for path, text in edit.items():
        (checkout / path).write_text(text)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "By hand")
    sha = git(checkout, "rev-parse", "HEAD")
    git(scene.repository, "worktree", "remove", "--force", str(checkout))
    return sha


def test_never_stops_at_the_first_gate_and_approve_and_resume_go_on(devflow: ForkedCli, scene: Scene) -> None:
    # act: the first gate
    waiting = devflow.run(*scene.recorded("pair", "--approve", "never"), code=0)

    # assert: it waits, holds nothing, and says what continues it
    listed = devflow.run("runs", "--json", "--state", "awaiting_approval", code=0).json["runs"]
    run, short = listed[0]["run_id"], listed[0]["run_id"][-8:]
    assert f"devflow approve {short}" in waiting.out
    assert f"devflow resume {short}" in waiting.out
    assert waiting.out.count("\n") < 10
    assert devflow.run("runs", "--state", "executing", "--json", code=0).json == {"runs": []}

    # act: approve, then resume
    approved = devflow.run("approve", short, "--as", "ada", "--note", "good", code=0)
    assert f"devflow resume {short}" in approved.out
    again = devflow.run("approve", short, "--json")
    assert "devflow show" in refused(again, "already_decided")
    refused(devflow.run("reject", short, "--json"), "already_decided")
    resumed = devflow.run("resume", run[:-4], "--json", code=0)

    # assert
    assert resumed.json["state"] == "completed"
    shown = devflow.run("show", run, "--json", code=0).json
    assert [(one["state"], one["decisions"][0]["by"], one["decisions"][0]["note"]) for one in shown["approvals"]] == [
        ("approved", "ada", "good")
    ]
    assert git(scene.repository, "show", f"{shown['branch']}:answer.py") == "ANSWER = 42"
    assert (scene.repository / "answer.py").read_text() == "ANSWER = 41\n"


def test_a_rejection_fails_the_run_and_a_retry_adopts_what_was_completed(devflow: ForkedCli, scene: Scene) -> None:
    # arrange: the spec is approved, the change waits
    cassette = {"spec/1/1": [submit(cassettes.SPEC)], "change/1/1": [submit(cassettes.CHANGE)]}
    cassettes.write_cassette(scene.cassette, cassette)
    run = to_gate(devflow, scene, "pair")
    devflow.run("approve", run, code=0)
    failed = devflow.run("resume", run, "--json", code=1)
    assert failed.json["error"]["code"] == "cassette_incomplete"

    # act
    retried = devflow.run("retry", run, "--json")

    # assert: the new run has the spec, and does not ask about it again
    assert retried.json["run_id"] != run
    events = devflow.run("events", retried.json["run_id"], "--json").json["events"]
    skipped = [event["payload"] for event in events if event["type"] == "phase.skipped"]
    assert skipped[0]["phase_key"] == "spec"
    assert run in skipped[0]["reason"]
    assert "approval.requested" not in [event["type"] for event in events]

    # and a rejection at a gate is final
    waiting = to_gate(devflow, scene)
    rejected = devflow.run("reject", waiting, "--note", "not what was asked", "--json", code=0)
    assert (rejected.json["state"], rejected.json["error"]["code"]) == ("failed", "approval_rejected")
    assert "not what was asked" in rejected.json["error"]["message"]
    assert Path(rejected.json["report_path"]).is_file()
    refused(devflow.run("resume", waiting, "--json"), "run_already_terminal")
    shown = devflow.run("show", waiting, "--json").json
    assert [phase["state"] for phase in shown["phases"]] == ["failed"]
    assert shown["approvals"][0]["state"] == "rejected"


def test_a_revision_sends_the_feedback_to_the_model_and_is_bounded(devflow: ForkedCli, scene: Scene) -> None:
    with serving(script()) as server:
        env = {"OPENAI_BASE_URL": server.base_url}
        waiting = devflow.run(*scene.run("solo", "--model", "scripted", "--json"), env=env, code=0)
        run = waiting.json["run_id"]

        # a revision has to say what to change
        assert "--note" in refused(devflow.run("revise", run, "--json"), "usage")
        devflow.run("revise", run, "--note", "Name the function that changes.", code=0)
        before = len(server.requests)
        second = devflow.run("resume", run, "--json", env=env, code=0)

        # assert: round 2, the feedback in the request, a new request of the gate
        assert second.json["state"] == "awaiting_approval"
        assert second.json["pending_request"]["round"] == 2
        prompts = json.dumps(server.requests[before:])
        assert "Name the function that changes." in prompts
        assert "forty-two" in prompts

        # act: more revisions than max_revisions (1)
        exhausted = devflow.run("revise", run, "--note", "Again.", "--json", code=0)
    assert (exhausted.json["state"], exhausted.json["error"]["code"]) == ("failed", "revisions_exhausted")
    shown = devflow.run("show", run, "--json").json
    assert [one["state"] for one in shown["approvals"]] == ["revised", "revised"]
    assert shown["report_path"]


def test_an_abort_at_a_gate_or_in_a_pause_ends_the_run(devflow: ForkedCli, scene: Scene) -> None:
    at_gate, paused = to_gate(devflow, scene), to_gate(devflow, scene)
    assert "devflow resume" in devflow.run("pause", paused, "--note", "lunch", code=0).out

    for run in (at_gate, paused):
        aborted = devflow.run("abort", run, "--note", "no longer needed", "--json", code=0)
        assert aborted.json["state"] == "aborted"
        assert Path(aborted.json["report_path"]).is_file()
        shown = devflow.run("show", run, "--json", code=0).json
        assert [phase["state"] for phase in shown["phases"]] == ["skipped"]
        assert [one["state"] for one in shown["approvals"]] == ["aborted"]
        refused(devflow.run("abort", run, "--json"), "run_already_terminal")


def test_two_approvals_have_to_come_from_two_people(devflow: ForkedCli, scene: Scene) -> None:
    run = to_gate(devflow, scene, "two_people")

    first = devflow.run("approve", run, "--as", "ada", code=0)
    assert "1 more approval" in first.out
    assert "another person" in refused(devflow.run("approve", run, "--as", "ada", "--json"), "already_decided")
    still = devflow.run("resume", run, "--as", "ada", "--approve", "always", "--json", code=0)
    assert still.json["state"] == "awaiting_approval"
    assert [item["by"] for item in still.json["pending_request"]["decisions"]] == ["ada"]
    devflow.run("approve", run, "--as", "bob", code=0)

    assert devflow.run("resume", run, "--json", code=0).json["state"] == "completed"


def test_an_approval_names_the_commit_that_was_looked_at(devflow: ForkedCli, scene: Scene) -> None:
    run = to_gate(devflow, scene)
    shown = devflow.run("show", run, "--json").json

    assert "devflow show" in refused(
        devflow.run("approve", run, "--sha", shown["base_sha"], "--json"), "approval_superseded"
    )
    refused(devflow.run("reject", run, "--sha", "abc", "--json"), "approval_superseded")
    assert devflow.run("show", run, "--json").json["approvals"][0]["decisions"] == []

    approved = devflow.run("approve", run, "--sha", shown["head_sha"][:10], "--json", code=0)
    assert approved.json["state"] == "executing"


def test_an_artifact_edited_by_hand_has_to_be_approved_anew(devflow: ForkedCli, scene: Scene) -> None:
    run = to_gate(devflow, scene, "pair")
    shown = devflow.run("show", run, "--json").json
    path = f".devflow/runs/{run}/spec.json"
    spec = json.loads(git(scene.repository, "show", f"{shown['branch']}:{path}"))

    # act: first a broken edit, then a good one
    person_pushes(scene, shown["branch"], {path: "{}\n"})
    broken = devflow.run("approve", run, "--json")
    refused(broken, "approval_superseded")
    assert "requirements" in broken.json["error"]["message"]
    edited = json.dumps(spec | {"approach": "Change the constant by hand."}, indent=2, sort_keys=True) + "\n"
    pushed = person_pushes(scene, shown["branch"], {path: edited})
    old = devflow.run("approve", run, "--json")

    # assert: superseded, asked anew for what was pushed, and that can be approved
    refused(old, "approval_superseded")
    shown = devflow.run("show", run, "--json").json
    assert [one["state"] for one in shown["approvals"]] == ["superseded", "pending"]
    assert shown["approvals"][1]["commit"] == pushed
    assert "Change the constant by hand." in devflow.run("show", run).out
    devflow.run("approve", run, "--sha", pushed, code=0)
    done = devflow.run("resume", run, "--json", code=0)
    assert done.json["state"] == "completed"
    assert git(scene.repository, "show", f"{done.json['branch']}:{path}") == edited.strip()


def test_a_push_beside_the_artifact_leaves_the_approval_standing(devflow: ForkedCli, scene: Scene) -> None:
    run = to_gate(devflow, scene, "pair")
    branch = devflow.run("show", run, "--json").json["branch"]
    pushed = person_pushes(scene, branch, {"NOTES.md": "A note.\n"})

    devflow.run("approve", run, code=0)
    done = devflow.run("resume", run, "--json", code=0)

    assert done.json["state"] == "completed"
    assert git(scene.repository, "show", f"{branch}:NOTES.md") == "A note."
    assert pushed in git(scene.repository, "rev-list", branch).split()


def test_a_change_to_the_code_at_a_code_gate_has_to_be_approved_anew(devflow: ForkedCli, scene: Scene) -> None:
    run = to_gate(devflow, scene, "code")
    branch = devflow.run("show", run, "--json").json["branch"]
    pushed = person_pushes(scene, branch, {"answer.py": "ANSWER = 420\n"})

    refused(devflow.run("approve", run, "--json"), "approval_superseded")
    devflow.run("approve", run, "--sha", pushed, code=0)

    assert devflow.run("resume", run, "--json", code=0).json["state"] == "completed"
    assert git(scene.repository, "show", f"{branch}:answer.py") == "ANSWER = 420"


@pytest.mark.parametrize("ending", ["completed", "failed", "aborted"])
def test_a_run_that_has_ended_takes_no_command_but_retry(devflow: ForkedCli, scene: Scene, ending: str) -> None:
    run = to_gate(devflow, scene)
    if ending == "completed":
        devflow.run("resume", run, "--approve", "always", code=0)
    else:
        devflow.run({"failed": "reject", "aborted": "abort"}[ending], run, code=0)
    before = devflow.run("show", run, "--json").json
    assert before["state"] == ending

    for command in ("approve", "reject", "revise", "abort", "pause", "resume"):
        note = ["--note", "x"] if command == "revise" else []
        assert "devflow retry" in refused(devflow.run(command, run, *note, "--json"), "run_already_terminal")

    assert devflow.run("show", run, "--json").json == before
    if ending == "completed":
        refused(devflow.run("retry", run, "--json"), "illegal_transition")
    else:
        assert devflow.run("retry", run, "--approve", "always", "--json", code=0).json["state"] == "completed"


def test_a_run_paused_at_its_gate_takes_an_answer_but_no_revision(devflow: ForkedCli, scene: Scene) -> None:
    run = to_gate(devflow, scene)
    paused = devflow.run("pause", run, "--json", code=0)
    assert paused.json["state"] == "paused"

    assert "approve" in refused(devflow.run("resume", run, "--json"), "illegal_transition")
    refused(devflow.run("revise", run, "--note", "x", "--json"), "illegal_transition")
    refused(devflow.run("pause", run, "--json"), "illegal_transition")
    refused(devflow.run("retry", run, "--json"), "illegal_transition")

    approved = devflow.run("approve", run, "--json", code=0)
    assert approved.json["state"] == "executing"
    assert devflow.run("resume", run, "--json", code=0).json["state"] == "completed"


def test_a_run_at_its_gate_cannot_be_retried_and_is_found_by_the_ends_of_its_id(
    devflow: ForkedCli, scene: Scene
) -> None:
    first, second = to_gate(devflow, scene), to_gate(devflow, scene)

    assert "devflow resume" in refused(devflow.run("retry", first, "--json"), "illegal_transition")
    for part in (first, first[-4:], first.upper(), first.replace("-", "")[-12:]):
        assert devflow.run("show", part, "--json", code=0).json["run_id"] == first
    common = next(first[:n] for n in range(len(first), 0, -1) if second.startswith(first[:n])).rstrip("-")
    ambiguous = devflow.run("show", common, "--json")
    assert "more" in refused(ambiguous, "run_id_ambiguous")
    assert first in ambiguous.json["error"]["message"]
    assert second in ambiguous.json["error"]["message"]
    for wrong in ("ffffffff", "abc", "not-an-id", first + "0"):
        assert "devflow runs" in refused(devflow.run("show", wrong, "--json"), "run_not_found")
    text = devflow.run("approve", "ffffffff", code=2)
    assert "run_not_found" in text.err
    assert text.out == ""


def test_an_answer_without_a_question_says_what_would_fit(devflow: ForkedCli, scene: Scene) -> None:
    with serving(Script(faults=[{"kind": "status", "status": 401}])) as server:
        paused = devflow.run(
            *scene.run("solo", "--model", "scripted", "--json"), env={"OPENAI_BASE_URL": server.base_url}, code=4
        )
    run = paused.json["run_id"]
    assert (paused.json["state"], paused.json["error"]["code"]) == ("paused", "backend_unavailable")

    for command in ("approve", "reject", "revise"):
        assert "devflow resume" in refused(devflow.run(command, run, "--note", "x", "--json"), "illegal_transition")
    refused(devflow.run("retry", run, "--json"), "illegal_transition")
    refused(devflow.run("pause", run, "--json"), "illegal_transition")

    with serving(script()) as server:
        env = {"OPENAI_BASE_URL": server.base_url}
        done = devflow.run("resume", run, "--approve", "always", "--json", env=env, code=0)
        assert "forty-two" in json.dumps(server.requests)
    assert done.json["state"] == "completed"
