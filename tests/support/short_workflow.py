"""A workflow of two phases that has everything a crash can hit: code, a check, gates and a review that sends back."""

from pathlib import Path

from tests.support import cassettes
from tests.support.cassettes import call, submit
from tests.support.repositories import make_repository

WORKFLOW = """
name: short
version: 1
description: A change with a check and a gate, and a review that may send it back.
roles:
  - {id: author, required_capabilities: [code_write]}
  - {id: reviewer, required_capabilities: [code_review], distinct_from: [author]}
phases:
  - key: change
    title: Change
    risk: low
    role: author
    instructions: Make the change that the issue asks for.
    expected_artifact: {path: out/change.json, schema: dev/change@1}
    gates: [change_approval]
    checks: [{use: answer, expect: pass}]
  - key: review
    title: Review
    risk: low
    role: reviewer
    instructions: Look at the change.
    expected_artifact: {path: out/review.json, schema: dev/review@1}
    gates: []
    on_changes_requested: change
"""
FILES = {
    "answer.py": "ANSWER = 41\n",
    ".github/devflow.yml": "checks:\n  answer: {run: 'test -s answer.py'}\n",
    ".devflow/workflows/short.yaml": WORKFLOW,
}
ISSUE = "# The answer is wrong\n\nIt is 41 and should be 42.\n"
ROUNDS = [("change", 1), ("review", 1), ("change", 2), ("review", 2)]
TURNS = {
    "change/1/1": [
        [call("edit_file", path="answer.py", old="41", new="43")],
        [call("run_command", command="cat answer.py")],
        submit(cassettes.CHANGE),
    ],
    "review/1/1": [submit(cassettes.CHANGES_REQUESTED)],
    "change/2/1": [[call("edit_file", path="answer.py", old="43", new="42"), *submit(cassettes.CHANGE)]],
    "review/2/1": [submit(cassettes.APPROVED)],
}


class Place:
    """A repository, an issue and a cassette in one folder, ready for `devflow run`."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None) -> None:
        self.repository = make_repository(folder / "repository", files or FILES)
        self.data_dir = folder / "data"
        self.issue = folder / "issue.md"
        self.issue.write_text(ISSUE)
        self.cassette = cassettes.write_cassette(folder / "cassette.yaml", TURNS)

    @property
    def run(self) -> list[str]:
        """The arguments of `devflow run` for the recorded agent, unconfined because its commands are known."""
        run = ["run", "--repo", str(self.repository), "--issue", str(self.issue), "--workflow", "short", "--json"]
        return [*run, "--cassette", str(self.cassette), "--sandbox", "none", "--as", "ada"]
