"""The action and the workflow files: valid by GitHub's schemas, clean for the linters, by the rules of the house."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.action.environment import PREFIX
from app.action.summary import OUTPUTS
from tests.conformance.backends.steps import Event, Workflow

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted([*(ROOT / ".github" / "workflows").glob("*.yml"), *(ROOT / "examples").glob("*.yml")])
EXAMPLES = [path for path in WORKFLOWS if path.parent.name == "examples" or path.name == "devflow.yml"]
ACTION = ROOT / "action.yml"
BUILT_IN = {path.stem for path in (ROOT / "engine" / "builtin" / "workflows").glob("*.yaml")}
PERMISSIONS = {"contents": "write", "issues": "write", "pull-requests": "write", "checks": "write"}
# The package has an actionlint of 2022. These are younger, and each of them is in GitHub's documentation.
YOUNGER = (
    r'unexpected key "queue" for "concurrency" section\. expected one of "cancel-in-progress", "group"',
    r'label "ubuntu-24\.04" is unknown\. .*',
    r'undefined variable "vars"\. .*',
)


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file; the key `on` comes as a word, not as a truth value."""
    return dict(yaml.load(path.read_text(), Loader=yaml.BaseLoader))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every step of a workflow or of the action."""
    document = load(path)
    for job in [document["runs"]] if "runs" in document else document["jobs"].values():
        yield from job.get("steps", [])


def tool(name: str) -> str:
    """Return a program of the environment that the tests run in."""
    return str(Path(sys.executable).with_name(name))


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=lambda path: path.name)
def test_the_file_is_valid_by_githubs_schema(path: Path) -> None:
    schema = "vendor.github-actions" if path == ACTION else "vendor.github-workflows"

    checked = run(tool("check-jsonschema"), "--builtin-schema", schema, str(path))

    assert checked.returncode == 0, checked.stdout


def in_page(name: str) -> str:
    """Return the workflow file that a page tells people to copy."""
    text = (ROOT / name).read_text()
    (found,) = re.findall(r"^ *```yaml\n( *name: Devflow\n.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found)


def test_the_workflow_in_the_readme_is_valid_and_that_of_the_page_on_the_action(tmp_path: Path) -> None:
    (tmp_path / "devflow.yml").write_text(in_page("README.md"))

    checked = run(
        tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(tmp_path / "devflow.yml")
    )

    assert checked.returncode == 0, checked.stdout
    assert in_page("README.md") == in_page("docs/action.md")


EVENTS = {
    "a label": Event("issues", {"action": "labeled", "label": {"name": "Devflow:bugfix"}}),
    "another label": Event("issues", {"action": "labeled", "label": {"name": "bug"}}),
    "a command": Event("issue_comment", {"action": "created", "comment": {"body": "/approve"}}),
    "other words": Event("issue_comment", {"action": "created", "comment": {"body": "Thank you"}}),
    "an edit": Event("issue_comment", {"action": "edited", "comment": {"body": "/approve"}}),
    "a review": Event("pull_request_review", {"action": "submitted"}),
    "a push": Event("push", {}),
    "an hour": Event("schedule", {"schedule": "17 * * * *"}),
    "by hand": Event("workflow_dispatch", {"inputs": None}),
}


@pytest.mark.parametrize(
    ("name", "starting"),
    [
        # the name of the label is looked at by the step alone
        ("minimal.yml", {"a label", "another label", "a command", "a review"}),
        ("postgres.yml", {"a label", "a command", "a review"}),
        ("scheduled.yml", {"an hour", "by hand"}),
    ],
)
def test_an_example_starts_for_its_events_and_no_others(name: str, starting: set[str]) -> None:
    workflow = Workflow(ROOT / "examples" / name)

    assert {event for event in EVENTS if workflow.starts(EVENTS[event])} == starting


def test_zizmor_finds_nothing() -> None:
    files = [str(path) for path in (ACTION, *WORKFLOWS)]

    checked = run(tool("zizmor"), "--offline", "--no-progress", "--config", ".github/zizmor.yml", *files)

    assert checked.returncode == 0, checked.stdout
    assert "No findings to report" in checked.stdout


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with actionlint, installed by its hash."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node is not installed on this machine")
    folder = tmp_path_factory.mktemp("actionlint")
    shutil.copytree(ROOT / "tests" / "actionlint", folder, dirs_exist_ok=True)
    installed = run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
    if installed.returncode != 0:
        pytest.skip(f"the package actionlint cannot be installed here: {installed.stderr.strip()[-300:]}")
    return folder


def test_actionlint_finds_nothing(actionlint: Path) -> None:
    checked = run("node", "lint.mjs", *map(str, WORKFLOWS), cwd=actionlint)

    assert checked.returncode == 0, checked.stderr
    found = [
        item for item in json.loads(checked.stdout) if not any(re.fullmatch(rule, item["message"]) for rule in YOUNGER)
    ]
    assert found == []


def test_actionlint_would_find_something(actionlint: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: ${{ x }}\n"
    )

    checked = run("node", "lint.mjs", str(tmp_path / "broken.yml"), cwd=actionlint)

    assert [item["kind"] for item in json.loads(checked.stdout)] == ["expression"]


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=lambda path: path.name)
def test_foreign_actions_are_pinned_by_their_commit_and_say_their_version(path: Path) -> None:
    for line in path.read_text().splitlines():
        used = re.match(r"\s*(?:- )?uses: *(\S+)(.*)", line)
        if used and not used.group(1).startswith("OWNER/devflow@"):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used.group(1)), line
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", used.group(2)), line


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=lambda path: path.name)
def test_no_expression_stands_inside_of_a_script(path: Path) -> None:
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_checkout_leaves_its_credential(path: Path) -> None:
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]

    assert all(step.get("with", {}).get("persist-credentials") == "false" for step in checkouts)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_jobs_name_their_permissions_and_nothing_cancels_them(path: Path) -> None:
    document = load(path)

    assert document.get("permissions", {}) == {}
    for job in document["jobs"].values():
        assert job["permissions"] == PERMISSIONS
        concurrency = job.get("concurrency") or document["concurrency"]
        assert concurrency["queue"] == "max"
        assert "cancel-in-progress" not in concurrency
    assert "pull_request_target" not in document["on"]


def test_the_minimal_example_is_short() -> None:
    lines = [line for line in (ROOT / "examples" / "minimal.yml").read_text().splitlines() if not line.startswith("#")]

    assert len(lines) <= 15


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_use_inputs_outputs_and_workflows_that_there_are(path: Path) -> None:
    action = load(ACTION)
    for step in steps(path):
        if step.get("uses", "").startswith("OWNER/devflow@"):
            assert set(step["with"]) <= set(action["inputs"])
            assert step["with"].get("workflow", "bugfix") in {*BUILT_IN, "${{ inputs.workflow }}"}
    for label in re.findall(r"devflow:([a-z]+)`", path.read_text()):
        assert label in BUILT_IN
    named = re.findall(r"steps\.devflow\.outputs\.([\w-]+)", path.read_text())
    assert set(named) <= set(action["outputs"])


def test_every_input_reaches_the_program_by_its_own_variable() -> None:
    action = load(ACTION)
    handed = {name: text for step in steps(ACTION) for name, text in step.get("env", {}).items()}

    for name in action["inputs"]:
        variable = "DEVFLOW_WANTED_PYTHON" if name == "python" else PREFIX + name.replace("-", "_").upper()
        assert handed[variable] == f"${{{{ inputs.{name} }}}}"


def test_the_outputs_are_those_of_the_program() -> None:
    action = load(ACTION)
    called = load(ROOT / ".github" / "workflows" / "devflow.yml")["on"]["workflow_call"]

    assert tuple(action["outputs"]) == OUTPUTS
    assert [spec["value"] for spec in action["outputs"].values()] == [
        f"${{{{ steps.run.outputs.{name} }}}}" for name in OUTPUTS
    ]
    assert tuple(called["outputs"]) == OUTPUTS


def test_a_caller_of_the_workflow_can_say_what_a_user_of_the_action_can() -> None:
    called = load(ROOT / ".github" / "workflows" / "devflow.yml")["on"]["workflow_call"]
    action = load(ACTION)

    # a checkout, which a recording lies in, and a Python of their own are nothing that a caller could bring
    left_out = {"cassette", "python", "prepare-sandbox"}
    assert set(action["inputs"]) - left_out == (set(called["inputs"]) | set(called["secrets"])) - {
        "runs-on",
        "timeout-minutes",
    }
