"""The minimal example through `act`, which does what GitHub's runner does, on this machine and without a container."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.action_runner.runner import ROOT

ACT = Path(sys.executable).with_name("act")
HOSTILE = (
    "$(touch pwned) `touch pwned` ${{ github.token }} '; touch pwned #\n"
    "::set-output name=state::forged\n::error::forged"
)
PROGRAM = """
import json, os
event = json.load(open(os.environ["GITHUB_EVENT_PATH"]))
seen = {name: value for name, value in os.environ.items() if name.startswith(("DEVFLOW_INPUT_", "GITHUB_"))}
open(os.environ["SEEN"], "w").write(json.dumps(seen | {"title": event["issue"]["title"]}))
with open(os.environ["GITHUB_OUTPUT"], "a") as outputs:
    outputs.write("state=completed\\n")
"""
CACHE = """
name: cache
description: finds nothing and keeps nothing
inputs: {path: {description: where}, key: {description: what}}
outputs: {cache-hit: {description: never, value: ""}}
runs:
  using: composite
  steps: [{shell: bash, run: "true"}]
"""

pytestmark = pytest.mark.skipif(not ACT.exists(), reason="act is not installed for this machine")


@pytest.fixture
def action(tmp_path: Path) -> Path:
    """The action with a program that writes down what it is given, and with nothing to install."""
    folder = tmp_path / "action"
    shutil.copytree(ROOT / "action", folder / "action")
    shutil.copy(ROOT / "action.yml", folder)
    (folder / "requirements").mkdir()
    (folder / "requirements" / "runtime.txt").touch()
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "cli.py").write_text(PROGRAM)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache action without a service behind it."""
    for name in ("restore", "save"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "action.yml").write_text(CACHE)
    return tmp_path / "cache"


def pinned_cache() -> str:
    """Return how the action names the cache action, without the part of it."""
    line = next(line for line in (ROOT / "action.yml").read_text().splitlines() if "actions/cache/restore@" in line)
    return "actions/cache@" + line.partition("@")[2].split()[0]


def repository(folder: Path) -> Path:
    """Make the repository of a user with the minimal example in it."""
    (folder / ".github" / "workflows").mkdir(parents=True)
    example = (ROOT / "examples" / "minimal.yml").read_text()
    assert ", queue: max" in example
    # act does not know this key yet
    (folder / ".github" / "workflows" / "devflow.yml").write_text(example.replace(", queue: max", ""))
    git = ("git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", "-C", str(folder))
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://github.com/octo/answers"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=begin"], check=True)
    return folder


def run(tmp_path: Path, action: Path, cache: Path, event_name: str, event: dict[str, object]) -> str:
    """Run the example for one event and return act's log."""
    (tmp_path / "event.json").write_text(json.dumps(event))
    (tmp_path / "home").mkdir()
    command = [
        *(str(ACT), event_name, "--eventpath", str(tmp_path / "event.json")),
        *("-P", "ubuntu-24.04=-self-hosted", "--pull=false", "--action-offline-mode", "--no-cache-server"),
        *("--local-repository", f"OWNER/devflow@v1={action}", "--local-repository", f"{pinned_cache()}={cache}"),
        *("--secret", "OPENAI_API_KEY=sk-of-the-user", "--secret", "GITHUB_TOKEN=ghs_of-the-job"),
        *("--env", f"SEEN={tmp_path / 'seen.json'}"),
    ]
    python = Path(os.path.realpath(sys.executable)).parent
    env = {"HOME": str(tmp_path / "home"), "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=repository(tmp_path / "work"), env=env, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_label_reaches_the_program_and_hostile_words_do_nothing(tmp_path: Path, action: Path, cache: Path) -> None:
    event = {"action": "labeled", "label": {"name": "devflow"}, "issue": {"number": 12, "title": HOSTILE}}

    log = run(tmp_path, action, cache, "issues", event)

    seen = json.loads((tmp_path / "seen.json").read_text())
    assert (seen["GITHUB_EVENT_NAME"], seen["GITHUB_REPOSITORY"]) == ("issues", "octo/answers")
    assert seen["DEVFLOW_INPUT_OPENAI_API_KEY"] == "sk-of-the-user"
    assert seen["DEVFLOW_INPUT_GITHUB_TOKEN"] == "ghs_of-the-job"
    assert seen["title"] == HOSTILE
    assert "set-output:: state=completed" in log
    assert "forged" not in log
    assert "sk-of-the-user" not in log
    assert list(tmp_path.rglob("pwned")) == []


@pytest.mark.parametrize(("body", "starts"), [("Thank you, that is nice.", False), ("/approve", True)])
def test_a_comment_without_a_command_starts_no_job(
    tmp_path: Path, action: Path, cache: Path, body: str, starts: bool
) -> None:
    event = {"action": "created", "comment": {"body": body}, "issue": {"number": 12, "title": "t"}}

    run(tmp_path, action, cache, "issue_comment", event)

    assert (tmp_path / "seen.json").exists() is starts
