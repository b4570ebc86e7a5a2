"""A step whose work ends in a way that nobody foresaw still tells the runner, with a code and without a secret."""

import asyncio
import json
from pathlib import Path

import pytest

from app.action import running

TOKEN = "ghs_token-of-the-job-0123456789"


def variables(folder: Path, **more: str) -> dict[str, str]:
    (folder / "event.json").write_text(json.dumps({}))
    return {
        "GITHUB_EVENT_NAME": "issues",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "octo/answers",
        "GITHUB_REPOSITORY_ID": "4711",
        "GITHUB_RUN_ID": "1",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_OUTPUT": str(folder / "outputs"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "RUNNER_TEMP": str(folder / "temp"),
        "DEVFLOW_INPUT_GITHUB_TOKEN": TOKEN,
        **more,
    }


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> tuple[int, str, str]:
    for name, value in variables(folder, **more).items():
        monkeypatch.setenv(name, value)
    code = asyncio.run(running.run_action())
    return code, (folder / "outputs").read_text(), (folder / "summary").read_text()


def test_a_mistake_of_our_own_has_a_code_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def act(given: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(running, "act", act)
    code, outputs, summary = run(tmp_path, monkeypatch)
    said = capsys.readouterr().out

    assert code == 1
    assert "internal_error" in outputs
    assert "internal_error" in summary
    assert "::error title=Devflow%3A internal_error::ZeroDivisionError" in said
    assert said.count(TOKEN) == said.count(f"::add-mask::{TOKEN}") == 1


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("GITHUB_REPOSITORY_ID", "", "config_invalid"),
        ("DEVFLOW_INPUT_BUDGET_USD", "much", "config_invalid"),
        ("DEVFLOW_INPUT_CASSETTE", "/no/such/file.yaml", "config_invalid"),
        ("GITHUB_EVENT_PATH", "/no/such/event.json", "config_invalid"),
    ],
)
def test_what_a_step_is_given_wrong_is_an_output_an_annotation_and_a_summary(
    name: str,
    value: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_code, outputs, summary = run(tmp_path, monkeypatch, **{name: value})

    assert exit_code == 1
    assert code in outputs
    assert code in summary
    assert name != "GITHUB_EVENT_PATH" or "docs/action.md has the workflow file" in summary
    assert f"::error title=Devflow%3A {code}::" in capsys.readouterr().out
