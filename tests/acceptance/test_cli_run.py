"""`devflow run` from an issue to a branch: what it prints, what it returns, what it leaves, and what it never shows."""

import asyncio
import itertools
import json
import re
from pathlib import Path
from typing import Any

import asyncpg

from engine.store.address import connect_arguments
from tests.model_server import Script, calls, serving
from tests.support import cassettes
from tests.support.cli import Cli
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import git
from tests.support.scenes import Scene, script

KEY = "sk-proj-canary0123456789abcdefghij"
RUN = {
    "run_id",
    "number",
    "state",
    "branch",
    "base_sha",
    "head_sha",
    "report_path",
    "cost_usd",
    "total_tokens",
    "llm_call_count",
    "pending_request",
    "error",
}
ROW = {
    "run_id",
    "number",
    "repository_id",
    "issue_number",
    "workflow",
    "state",
    "branch",
    "created_at",
    "updated_at",
    "cost_usd",
}
SHOWN = ROW | {
    "paused_from_state",
    "phases",
    "artifacts",
    "approvals",
    "checks",
    "bindings",
    "ledger",
    "sandbox",
    "report_path",
    "last_ai_message",
    "error",
}
PARTS = {
    "phases": {"key", "state", "attempts", "round", "started_at", "ended_at"},
    "artifacts": {"phase_key", "path", "schema", "digest", "commit", "valid"},
    "approvals": {
        "id",
        "gate_key",
        "phase_key",
        "state",
        "round",
        "bound_digest",
        "bound_tree",
        "commit",
        "decisions",
    },
    "checks": {"name", "command", "exit_code", "expected", "seconds"},
    "bindings": {"role", "persona", "version", "backend", "model"},
}
EVENT = {"seq", "type", "at", "phase_key", "attempt", "payload", "prev_hash", "hash"}
PHASES = ["spec", "plan", "implement", "review", "verify"]


def everything_in(database_url: str) -> str:
    """Return all rows of all tables as text."""

    async def read() -> str:
        connection = await asyncpg.connect(**connect_arguments(database_url))
        try:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            found = [await connection.fetch(f'SELECT t::text FROM "{table[0]}" t') for table in tables]
        finally:
            await connection.close()
        return "\n".join(str(row[0]) for rows in found for row in rows)

    return asyncio.run(read())


def test_development_with_a_model_goes_through_all_phases_twice_on_one_database(
    devflow: ForkedCli, scene: Scene, database_url: str
) -> None:
    outputs: list[str] = []

    def tell(*arguments: str) -> Any:
        answer = devflow.run(*arguments, "--json", code=0)
        outputs.append(answer.out + answer.err)
        return answer.json

    with serving(script(api_key=KEY)) as server:
        devflow.env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        answers = [tell(*scene.run("development", "--model", "scripted", "--approve", "always")) for _ in range(2)]

        # the model was told the issue, and each phase what the one before it left
        first = server.requests[: len(server.requests) // 2]
        assert all("forty-two" in json.dumps(request) for request in first)
        assert "The answer is 42." in json.dumps(first[2])
        assert {request["model"] for request in first} == {"scripted"}

    # the pinned shapes
    assert [answer["number"] for answer in answers] == [1, 2]
    for answer in answers:
        assert set(answer) >= RUN
        assert (answer["state"], answer["pending_request"], answer["error"]) == ("completed", None, None)
        assert answer["cost_usd"] is None  # nobody knows what the model costs
        assert (answer["llm_call_count"], answer["total_tokens"]) == (7, 7 * 120)
        assert Path(answer["report_path"]).is_file()
        assert answer["head_sha"] == git(scene.repository, "rev-parse", answer["branch"])
    run = answers[0]["run_id"]
    rows = tell("runs")["runs"]
    assert [row["number"] for row in rows] == [2, 1]
    assert set(rows[0]) >= ROW
    shown = tell("show", run)
    assert set(shown) >= SHOWN
    for name, fields in PARTS.items():
        assert shown[name], name
        assert set(shown[name][0]) >= fields, name
    assert set(shown["ledger"]) >= {"calls", "input_tokens", "output_tokens", "cost_usd"}
    assert [(phase["key"], phase["state"]) for phase in shown["phases"]] == [(key, "completed") for key in PHASES]
    assert [one["gate_key"] for one in shown["approvals"]] == ["spec_approval", "plan_approval", "verify_approval"]
    assert {(check["name"], check["exit_code"]) for check in shown["checks"]} == {("answer", 0)}
    assert {"implementer", "reviewer"} <= {binding["role"] for binding in shown["bindings"]}
    assert shown["ledger"] == {"calls": 7, "input_tokens": 700, "output_tokens": 140, "cost_usd": None}
    events = tell("events", run)["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(set(event) == EVENT for event in events)
    assert all(later["prev_hash"] == earlier["hash"] for earlier, later in itertools.pairwise(events))
    assert tell("audit", "verify", run) == {"events": len(events), "valid": True, "broken_at": None}

    # the branch: one commit a phase and one for the report; the person's own checkout is as it was
    branch = answers[0]["branch"]
    assert re.fullmatch(rf"devflow/1-the-answer-is-wrong-{run[-8:]}", branch)
    trailers = git(
        scene.repository, "log", "--reverse", "--format=%(trailers:key=Devflow-Phase,valueonly)", f"main..{branch}"
    )
    assert trailers.split() == [*PHASES, "report"]
    assert git(scene.repository, "show", f"{branch}:answer.py") == "ANSWER = 42"
    assert git(scene.repository, "status", "--porcelain") == ""
    assert git(scene.repository, "worktree", "list").count("\n") == 0

    # the texts, and nowhere the key
    report = Path(answers[0]["report_path"]).read_text()
    assert "not authenticated" in report
    assert "unknown" in report
    for command in (["runs"], ["show", run], ["events", run], ["audit", "verify", run]):
        answer = devflow.run(*command, code=0)
        outputs.append(answer.out + answer.err)
    assert "cost:        unknown" in outputs[-3]
    outputs += [path.read_text() for path in Path(answers[0]["report_path"]).parent.iterdir()]
    outputs.append(git(scene.repository, "log", "-p", "--all"))
    outputs.append(everything_in(database_url))
    assert KEY not in "".join(outputs)


def test_the_command_as_it_is_installed_keeps_results_and_logs_apart(
    tmp_path: Path, scene: Scene, database_url: str
) -> None:
    cli = Cli(tmp_path / "data", database_url)

    as_json = cli.run(*scene.recorded("pair", "--approve", "always", "--json"), DEVFLOW_LOG_LEVEL="DEBUG")
    as_text = cli.run(*scene.recorded("pair", "--approve", "always"))

    assert (as_json.code, as_json.json["state"]) == (0, "completed")
    assert "DEBUG" in as_json.err
    assert as_text.code == 0
    assert [line.split(":")[0] for line in as_text.out.splitlines()] == ["state", "branch", "cost", "report"]
    assert "check answer: exit 0" in as_text.err
    assert "WARNING" not in as_text.err


def test_options_choose_base_model_persona_checks_and_the_issue_from_standard_input(
    devflow: ForkedCli, scene: Scene
) -> None:
    git(scene.repository, "branch", "release")
    git(scene.repository, "checkout", "--quiet", "--detach")
    with serving(script(models=["house"])) as server:
        options = ["--base", "release", "--model", "house", "--persona", "author=writer", "--persona", "author=analyst"]
        answer = devflow.run(
            *scene.run(
                "pair", *options, "--check", "test -s answer.py", "--approve", "always", "--as", "ada", "--json"
            ),
            "--issue",
            "-",
            stdin="\ufeffFrom standard input: forty-two, please.\n\nThe end.\n",
            env={"OPENAI_BASE_URL": server.base_url},
            code=0,
        )
        assert {request["model"] for request in server.requests} == {"house"}
        assert "The end." in json.dumps(server.requests[0])
    shown = devflow.run("show", answer.json["run_id"], "--json").json
    assert shown["base_branch"] == "release"
    assert shown["title"].startswith("From standard input")
    assert {binding["role"]: binding["persona"] for binding in shown["bindings"]}["author"] == "analyst"
    assert {check["name"]: check["command"] for check in shown["checks"]} == {
        "answer": "grep -q 42 answer.py",
        "extra-1": "test -s answer.py",
    }
    assert {one["by"] for request in shown["approvals"] for one in request["decisions"]} == {"ada"}


def test_a_check_that_goes_on_failing_fails_the_run_with_its_output(devflow: ForkedCli, scene: Scene) -> None:
    wrong = {key: [cassettes.submit(cassettes.CHANGE)] for key in ("change/1/1", "change/1/2")}
    cassettes.write_cassette(scene.cassette, wrong)

    answer = devflow.run(*scene.recorded("code", "--check", "echo it is still wrong; false"), code=1)

    assert "check_failed" in answer.out
    assert "it is still wrong" in answer.out
    assert "devflow retry" in answer.out
    run = devflow.run("runs", "--json").json["runs"][0]["run_id"]
    shown = devflow.run("show", run, "--json").json
    assert (shown["state"], shown["error"]["code"], shown["phases"][0]["state"]) == ("failed", "check_failed", "failed")
    assert shown["phases"][0]["attempts"] == 2
    assert "it is still wrong" in Path(shown["report_path"]).read_text()


def test_what_an_agent_runs_sees_no_key_and_what_it_writes_into_its_work_is_no_secret(
    devflow: ForkedCli, scene: Scene
) -> None:
    leak = f"TOKEN = '{KEY}'\n"
    turns = [
        calls(("run_command", {"command": "env; cat /proc/1/environ; cat answer.py"})),
        calls(
            ("write_file", {"path": "leak.py", "content": leak}), ("submit_artifact", {"artifact": cassettes.CHANGE})
        ),
    ]
    rules = [{"when": "may not publish", "turns": turns[1:]}, {"when": "# Phase: Change", "turns": turns}]
    with serving(Script(rules=rules)) as server:
        devflow.env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-other-canary-9876543210"}
        run = [*scene.run("code", "--model", "scripted", "--json"), "--sandbox", "auto"]
        failed = devflow.run(*run, code=1)
        seen = json.dumps(server.requests[1])

    assert "ANSWER = 41" in seen
    assert "sk-other-canary" not in seen
    assert failed.json["error"]["code"] == "protected_path"
    assert "leak.py" in failed.json["error"]["message"]
    assert KEY not in failed.out + failed.err
    assert KEY not in git(scene.repository, "log", "-p", "--all")
    assert KEY not in devflow.run("events", failed.json["run_id"], "--json").out
