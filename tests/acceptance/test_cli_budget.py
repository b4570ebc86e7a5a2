"""Money: a cap holds before the call, exhaustion is a question to a person, and an unknown price is never zero."""

from decimal import Decimal

from tests.model_server import serving
from tests.support.cli import Answer
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import commit_files
from tests.support.scenes import CONFIG, Scene, script

PRICED = CONFIG + "prices:\n  dear: {input: 1, output: 10}\n"


def refused(answer: Answer, code: str) -> str:
    """Assert that the command was refused with `code`, and return the hint."""
    assert (answer.code, answer.error) == (2, code), answer
    return str(answer.json["error"]["recovery_hint"])


def test_exhaustion_pauses_keeps_the_work_and_more_money_goes_on(devflow: ForkedCli, scene: Scene) -> None:
    commit_files(scene.repository, {".github/devflow.yml": PRICED})
    usage = {"prompt_tokens": 1000, "completion_tokens": 5000}
    with serving(script(models=["dear"], usage=usage)) as server:
        devflow.env["OPENAI_BASE_URL"] = server.base_url

        # act: the first call fits, the second one may not
        run_options = ["--model", "dear", "--budget-usd", "0.12", "--approve", "always"]
        paused = devflow.run(*scene.run("solo", *run_options, "--json"), code=4)

        # assert: paused at a question that --approve always does not answer
        run = paused.json["run_id"]
        assert (paused.json["state"], paused.json["error"]["code"]) == ("paused", "budget_exceeded")
        request = paused.json["pending_request"]
        assert (request["gate_key"], request["phase_key"]) == ("budget_exceeded", "-")
        asked = len(server.requests)
        assert asked == 1
        assert Decimal(str(paused.json["cost_usd"])) == asked * Decimal("0.051")
        shown = devflow.run("show", run, code=0).out
        assert "of at most 0.12" in shown
        assert "+2.00" in shown

        # what is no amount, or no answer to this
        for note in ([], ["--note", "yes please"], ["--note", "2.00"], ["--note", "+0"], ["--note", "+-1"]):
            assert "+2.00" in refused(devflow.run("approve", run, *note, "--json"), "usage")
        refused(devflow.run("revise", run, "--note", "cheaper", "--json"), "illegal_transition")
        refused(devflow.run("resume", run, "--json"), "illegal_transition")
        assert len(server.requests) == asked

        # act: more money
        devflow.run("approve", run, "--note", "+2.00", "--as", "ada", code=0)
        done = devflow.run("resume", run, "--approve", "always", "--json", code=0)

        assert done.json["state"] == "completed"
        assert len(server.requests) == 2
        assert done.json["cost_usd"] == 0.102
    shown = devflow.run("show", run, "--json").json
    assert shown["ledger"] == {"calls": 2, "input_tokens": 2000, "output_tokens": 10000, "cost_usd": 0.102}
    assert [(one["gate_key"], one["state"]) for one in shown["approvals"]] == [
        ("budget_exceeded", "approved"),
        ("spec_approval", "approved"),
    ]


def test_a_budget_question_is_asked_at_the_terminal_and_a_rejection_fails_the_run(
    devflow: ForkedCli, scene: Scene
) -> None:
    commit_files(scene.repository, {".github/devflow.yml": PRICED + "budget_usd: 0.01\n"})
    with serving(script(models=["dear"])) as server:
        devflow.env["OPENAI_BASE_URL"] = server.base_url
        terminal = devflow.terminal(*scene.run("solo", "--model", "dear"))
        terminal.expect("Gate budget_exceeded: approve +2.00")
        terminal.type("approve\n")
        terminal.expect("say by how many US dollars")
        terminal.type("approve +5\n")
        terminal.expect("Gate spec_approval")
        terminal.type("approve\n")
        assert terminal.wait() == 0

        paused = devflow.run(*scene.run("solo", "--model", "dear", "--json"), code=4)
        asked = len(server.requests)
        rejected = devflow.run("reject", paused.json["run_id"], "--json", code=0)
        assert (rejected.json["state"], rejected.json["error"]["code"]) == ("failed", "approval_rejected")
        assert len(server.requests) == asked
