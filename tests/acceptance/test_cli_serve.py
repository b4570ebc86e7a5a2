"""`devflow serve` and `devflow worker` as processes: what they say, what they do together, and how they stop."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.inbound.door import PATH
from tests.github_double import GitHubDouble
from tests.github_double.environment import environment
from tests.support.cassettes import write_cassette
from tests.support.cli import ROOT
from tests.support.engines import config, workflow
from tests.support.forked_cli import ForkedCli, Process, until
from tests.support.stage import CODE, PHASES, TURNS


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubDouble]:
    """A GitHub with one repository that ada may write to."""
    with GitHubDouble(tmp_path / "github") as double:
        files = {
            "answer.py": CODE,
            ".devflow/workflows/small.yaml": workflow(*PHASES),
            ".github/devflow.yml": config(),
        }
        double.repository("octo/answers", files).permit(double.person("ada"), "write")
        yield double


@pytest.fixture
def app(devflow: ForkedCli, github: GitHubDouble, tmp_path: Path) -> ForkedCli:
    """The command with the environment of the double's App and a recorded agent."""
    cassette = write_cassette(tmp_path / "recorded.yaml", TURNS)
    devflow.env |= environment(github) | {"DEVFLOW_CASSETTE": str(cassette), "DEVFLOW_SANDBOX": "none"}
    devflow.env |= {"DEVFLOW_SHUTDOWN_DRAIN_SECONDS": "0.2"}
    return devflow


def serve(app: ForkedCli, github: GitHubDouble, *more: str) -> Process:
    """Start a server on a free port, and tell GitHub where it is."""
    process = app.start("serve", "--port", "0", *more)
    process.wait_for("Listening on ")
    github.webhook_url = address(process) + PATH
    return process


def address(process: Process) -> str:
    """Where a server listens."""
    found = re.search(r"Listening on (http://127\.0\.0\.1:\d+)" + PATH, process.err)
    assert found is not None, process.err
    return found[1]


def stopped(process: Process, number: signal.Signals = signal.SIGTERM) -> str:
    """Stop a process in order; returns what it said."""
    process.signal(number)
    answer = process.wait()
    assert (answer.code, answer.out) == (0, ""), answer
    assert "Traceback" not in answer.err
    assert "Stopped." in answer.err
    return answer.err


def emoji(github: GitHubDouble) -> list[str]:
    """What the App put on the first issue."""
    (repository,) = github.world.repositories.values()
    return [one.content for one in repository.issues[0].reactions]


def test_a_server_takes_a_label_through_its_run_and_stops_cleanly(app: ForkedCli, github: GitHubDouble) -> None:
    server = serve(app, github)
    (repository,) = github.world.repositories.values()
    issue = repository.open_issue(github.person("ada"), "The answer is wrong", "It must be 42.")
    issue.label(github.person("ada"), "devflow")
    until(lambda: repository.pulls and repository.pulls[0].comments, said=lambda: server.err)
    repository.pulls[0].review(github.person("ada"), "approve")
    until(lambda: not repository.pulls[0].draft, said=lambda: server.err)

    said = stopped(server)

    assert "GitHub App devflow at " in said
    assert "Every run that starts here is done by a recorded agent: recorded.yaml" in said
    assert github.app.webhook_secret not in said
    runs = app.run("runs", "--json", code=0).json["runs"]
    assert [run["state"] for run in runs] == ["completed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_a_signal_stops_an_idle_server_with_exit_code_0(
    app: ForkedCli, github: GitHubDouble, number: signal.Signals
) -> None:
    stopped(serve(app, github), number)


def test_a_door_alone_keeps_what_comes_for_a_worker_that_comes_later(app: ForkedCli, github: GitHubDouble) -> None:
    door = serve(app, github, "--workers", "0")
    (repository,) = github.world.repositories.values()
    issue = repository.open_issue(github.person("ada"), "The answer is wrong", "It must be 42.")
    issue.label(github.person("ada"), "devflow")
    github.wait_deliveries()
    assert issue.reactions == []

    worker = app.start("worker", "--concurrency", "1")
    until(lambda: repository.pulls and repository.pulls[0].comments, said=lambda: worker.err)

    stopped(worker)
    stopped(door)


def test_a_run_that_is_at_work_is_handed_back_as_it_is_and_taken_up_again(
    app: ForkedCli, github: GitHubDouble, tmp_path: Path
) -> None:
    slow = {**TURNS, "spec/1/1": [[{"tool": "run_command", "arguments": {"command": "sleep 6"}}], *TURNS["spec/1/1"]]}
    write_cassette(tmp_path / "recorded.yaml", slow)
    server = serve(app, github)
    (repository,) = github.world.repositories.values()
    issue = repository.open_issue(github.person("ada"), "The answer is wrong", "It must be 42.")
    issue.label(github.person("ada"), "devflow")
    until(lambda: issue.comments and "is working" in issue.comments[0].body, said=lambda: server.err)

    stopped(server)

    (run,) = app.run("runs", "--json", code=0).json["runs"]
    assert run["state"] == "executing"
    again = serve(app, github)
    until(lambda: repository.pulls and repository.pulls[0].comments, said=lambda: again.err)
    stopped(again)


def test_the_server_says_how_it_is(app: ForkedCli, github: GitHubDouble) -> None:
    server = serve(app, github)
    base = address(server)

    answers = {path: httpx.get(base + path).status_code for path in ("/healthz", "/readyz", "/docs", "/openapi.json")}

    assert answers == {"/healthz": 200, "/readyz": 200, "/docs": 404, "/openapi.json": 404}
    assert "server" not in httpx.get(base + "/healthz").headers
    stopped(server)


def test_a_github_that_is_away_does_not_keep_the_server_from_starting(app: ForkedCli, github: GitHubDouble) -> None:
    github.down(refuse=True)
    server = serve(app, github)
    server.wait_for("GitHub does not answer yet")
    stopped(server)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("GITHUB_APP_ID", "GITHUB_APP_ID"),
        ("GITHUB_PRIVATE_KEY", "GITHUB_PRIVATE_KEY or GITHUB_PRIVATE_KEY_PATH"),
        ("GITHUB_WEBHOOK_SECRET", "GITHUB_WEBHOOK_SECRET"),
    ],
)
def test_what_is_missing_is_named(app: ForkedCli, missing: str, named: str) -> None:
    app.env.pop(missing)

    answer = app.run("serve", "--port", "0")

    assert (answer.code, answer.out) == (2, "")
    assert "config_invalid" in answer.err and named in answer.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_APP_ID", "mine"),
        ("GITHUB_PRIVATE_KEY", "not a key"),
        ("GITHUB_API_URL", "ftp://example.org"),
        ("GITHUB_SERVER_URL", "https://user:secret-word@example.org"),
        ("DEVFLOW_CASSETTE", "/nowhere/at/all.yaml"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(app: ForkedCli, name: str, value: str) -> None:
    answer = app.run("serve", "--port", "0", env={name: value})

    assert answer.code == 2
    assert "config_invalid" in answer.err
    assert "secret-word" not in answer.err and "not a key" not in answer.err


def test_an_address_that_is_taken_is_a_refusal(app: ForkedCli, github: GitHubDouble) -> None:
    server = serve(app, github)
    port = address(server).rpartition(":")[2]

    answer = app.run("serve", "--port", port)

    assert answer.code == 2
    assert "cannot listen on 127.0.0.1" in answer.err
    stopped(server)


def test_the_other_commands_start_without_the_web_parts() -> None:
    code = "import sys, app.cli; print({'fastapi', 'uvicorn', 'github', 'markdown_it'} & set(sys.modules))"

    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    # rich shows Markdown in the terminal by markdown-it
    assert shown.stdout.strip() in ("set()", "{'markdown_it'}")
