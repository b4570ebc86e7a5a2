"""What a step reads of its surroundings: each input by its own name, mistakes told by that name, secrets by none."""

import base64
from decimal import Decimal
from pathlib import Path

import pytest

from app.action.environment import PREFIX, SANDBOXES, read_environment, secrets_in
from engine.domain.errors import DevflowError
from engine.workspace.confine import MODES

GIVEN = {
    "GITHUB_EVENT_NAME": "issues",
    "GITHUB_EVENT_PATH": "/runner/event.json",
    "GITHUB_REPOSITORY": "octo/answers",
    "GITHUB_REPOSITORY_ID": "4711",
    "GITHUB_RUN_ID": "8123456789",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_JOB": "devflow",
    "GITHUB_API_URL": "https://api.github.example",
    "GITHUB_SERVER_URL": "https://github.example/",
    "GITHUB_ACTOR": "ada",
    "GITHUB_WORKSPACE": "/runner/checkout",
    "GITHUB_OUTPUT": "/runner/output",
    "GITHUB_STEP_SUMMARY": "/runner/summary",
    "RUNNER_TEMP": "/runner/temp",
    "DEVFLOW_INPUT_GITHUB_TOKEN": "ghs_secret",
}
SECRETS = {
    "DEVFLOW_INPUT_GITHUB_TOKEN": "ghs_the-token",
    "DEVFLOW_INPUT_OPENAI_API_KEY": "sk-the-key",
    "DEVFLOW_INPUT_DATABASE_URL": "postgresql://devflow:pa%2Fss@db.example/devflow",
}


def refused(**changed: str) -> DevflowError:
    """Return the error for these surroundings."""
    with pytest.raises(DevflowError) as raised:
        read_environment(GIVEN | changed)
    assert raised.value.code == "config_invalid"
    return raised.value


def test_the_surroundings_are_read() -> None:
    step = read_environment(GIVEN)

    assert (step.event_name, step.event_path) == ("issues", Path("/runner/event.json"))
    assert (step.repository, step.repository_id) == ("octo/answers", 4711)
    assert (step.run_id, step.run_attempt, step.job, step.actor) == (8123456789, 1, "devflow", "ada")
    assert (step.api_url, step.server_url) == ("https://api.github.example", "https://github.example")
    assert step.run_url == "https://github.example/octo/answers/actions/runs/8123456789"
    assert (step.output, step.step_summary) == (Path("/runner/output"), Path("/runner/summary"))


def test_an_input_that_is_not_given_has_its_default() -> None:
    empty = {f"{PREFIX}{name}": "" for name in ("MODEL", "BUDGET_USD", "SANDBOX", "CONFIG", "DATABASE_URL", "CASSETTE")}

    step = read_environment(GIVEN | empty)

    assert step == read_environment(GIVEN)
    assert (step.model, step.budget_usd, step.database_url, step.cassette) == (None, None, None, None)
    assert (step.sandbox, step.config) == ("auto", ".github/devflow.yml")


def test_inputs_are_read() -> None:
    given = {
        "OPENAI_API_KEY": "sk-1\n",
        "BASE_URL": "http://127.0.0.1:8080/v1/",
        "MODEL": "m",
        "WORKFLOW": "quick",
        "DATABASE_URL": "postgresql://u:p@h/d",
        "CONFIG": "./.github/bots/devflow.yml",
        "BUDGET_USD": "2.50",
        "SANDBOX": "bwrap",
        "CASSETTE": "tapes/one.yaml",
    }

    step = read_environment(GIVEN | {PREFIX + name: value for name, value in given.items()})

    assert (step.openai_api_key, step.base_url, step.model) == ("sk-1", "http://127.0.0.1:8080/v1", "m")
    assert (step.workflow, step.config, step.sandbox) == ("quick", ".github/bots/devflow.yml", "bwrap")
    assert (step.budget_usd, step.cassette) == (Decimal("2.50"), Path("/runner/checkout/tapes/one.yaml"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget-usd", "lots"),
        ("budget-usd", "-1"),
        ("budget-usd", "0"),
        ("budget-usd", "NaN"),
        ("budget-usd", "Infinity"),
        ("budget-usd", "1000001"),
        ("sandbox", "chroot"),
        ("config", "/etc/passwd"),
        ("config", "../devflow.yml"),
        ("config", "a//b"),
        ("config", "ci/devflow.yml"),
        ("config", ".github/../devflow.yml"),
        ("base-url", "ftp://model.example"),
        ("base-url", "https://user:hunter2@model.example/v1"),
        ("database-url", "mysql://u:hunter2@h/d"),
        ("github-token", "  "),
    ],
)
def test_a_wrong_input_is_named_as_the_user_wrote_it(name: str, value: str) -> None:
    error = refused(**{PREFIX + name.replace("-", "_").upper(): value})

    assert name in error.message
    assert f"`{name}:`" in error.recovery_hint
    assert "hunter2" not in str(error) + error.recovery_hint


@pytest.mark.parametrize("name", [name for name in GIVEN if not name.startswith(PREFIX)])
def test_no_missing_variable_of_the_runner_is_a_traceback(name: str) -> None:
    try:
        read_environment({key: value for key, value in GIVEN.items() if key != name})
    except DevflowError as error:
        assert error.code == "config_invalid"
        assert name in error.message


@pytest.mark.parametrize("repository", ["octo", "octo/answers/x", "octo/an swers", "octo/a\n::error::x", ""])
def test_a_repository_that_has_no_such_name_is_refused(repository: str) -> None:
    refused(GITHUB_REPOSITORY=repository)


def test_no_secret_is_shown_with_the_surroundings() -> None:
    shown = repr(read_environment(GIVEN | SECRETS))

    assert not any(secret in shown for secret in (*SECRETS.values(), "pa%2Fss", "pa/ss"))


def test_every_secret_is_to_be_masked_in_each_of_its_forms() -> None:
    found = secrets_in(GIVEN | SECRETS)

    basic = base64.b64encode(b"x-access-token:ghs_the-token").decode()
    assert set(found) == {*SECRETS.values(), "pa%2Fss", "pa/ss", basic}
    assert [len(one) for one in found] == sorted(map(len, found), reverse=True)


def test_secrets_are_found_where_nothing_else_is_right() -> None:
    assert "sk-the-key" in secrets_in({"DEVFLOW_INPUT_OPENAI_API_KEY": "sk-the-key"})
    assert secrets_in({"DEVFLOW_INPUT_DATABASE_URL": "postgresql://[u:p@h"}) == ("postgresql://[u:p@h",)


def test_the_sandboxes_are_those_of_the_engine() -> None:
    assert SANDBOXES == MODES
