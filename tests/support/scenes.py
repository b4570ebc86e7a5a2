"""A small repository with short workflows of its own, and what agents do there: recorded, or by the scripted server."""

from pathlib import Path

from tests.model_server import Json, Script, calls
from tests.support import cassettes
from tests.support.cassettes import call, submit
from tests.support.repositories import make_repository

ISSUE = "# The answer is wrong\n\nanswer.py says 41. Everybody knows that it is forty-two.\n"

_SPEC_PHASE = """
  - key: spec
    title: Specify
    role: author
    instructions: Say what is wanted.
    timeout_seconds: 60
    max_revisions: 1
    expected_artifact: {path: out/spec.json, schema: dev/spec@1}
    gates: [%s]
"""
_CHANGE_PHASE = """
  - key: change
    title: Change
    role: author
    instructions: Make the change.
    timeout_seconds: 60
    expected_artifact: {path: out/change.json, schema: dev/change@1}
    gates: [%s]
    checks: [{use: all, expect: pass}]
"""
_HEAD = """name: %s
version: 1
roles:
  - {id: author, required_capabilities: [%s]}
phases:"""
SOLO = _HEAD % ("solo", "spec_write") + _SPEC_PHASE % "spec_approval"
PAIR = (
    _HEAD % ("pair", "spec_write")
    + _SPEC_PHASE % "spec_approval"
    + (_CHANGE_PHASE % "").replace("role: author", "role: builder")
).replace("phases:", "  - {id: builder, required_capabilities: [code_write]}\nphases:")
CODE = _HEAD % ("code", "code_write") + _CHANGE_PHASE % "change_approval"
TWO_PEOPLE = _HEAD % ("two_people", "spec_write") + _SPEC_PHASE % "{key: spec_approval, required_approvals: 2}"
CONFIG = "workflow: solo\nchecks:\n  answer: {run: 'grep -q 42 answer.py', timeout_seconds: 20}\n"
FILES = {
    "answer.py": "ANSWER = 41\n",
    ".github/devflow.yml": CONFIG,
    ".devflow/workflows/solo.yaml": SOLO,
    ".devflow/workflows/pair.yaml": PAIR,
    ".devflow/workflows/code.yaml": CODE,
    ".devflow/workflows/two_people.yaml": TWO_PEOPLE,
}
_EDIT = {"path": "answer.py", "old": "41", "new": "42"}
TURNS = {
    "spec/1/1": [submit(cassettes.SPEC)],
    "spec/2/1": [submit({**cassettes.SPEC, "approach": "Change the constant, and nothing else."})],
    "plan/1/1": [submit(cassettes.PLAN)],
    "change/1/1": [[call("edit_file", **_EDIT), *submit(cassettes.CHANGE)]],
    "implement/1/1": [[call("edit_file", **_EDIT), *submit(cassettes.CHANGE)]],
    "review/1/1": [submit(cassettes.APPROVED)],
    "verify/1/1": [submit(cassettes.VERIFIED)],
}


def script(**options: object) -> Script:
    """Return a script for all phases of `development` and of the workflows here; `options` are fields of `Script`."""

    def rule(title: str, *turns: Json) -> Json:
        return {"when": f"# Phase: {title}", "turns": list(turns)}

    def submits(artifact: Json) -> Json:
        return calls(("submit_artifact", {"artifact": artifact}))

    edit = calls(("edit_file", _EDIT))
    rules = [
        rule("Specify", calls(("read_file", {"path": "answer.py"})), submits(cassettes.SPEC)),
        rule("Plan the work", submits(cassettes.PLAN)),
        rule("Implement the plan", edit, submits(cassettes.CHANGE)),
        rule("Change", edit, submits(cassettes.CHANGE)),
        rule("Review the change", submits(cassettes.APPROVED)),
        rule("Verify the result", submits(cassettes.VERIFIED)),
    ]
    return Script(rules=rules, **options)  # type: ignore[arg-type]


class Scene:
    """A repository, an issue and a cassette in one folder."""

    def __init__(self, folder: Path, files: dict[str, str] | None = None, issue: str = ISSUE) -> None:
        self.repository = make_repository(folder / "repository", FILES | (files or {}))
        self.issue = folder / "issue.md"
        self.issue.write_text(issue)
        self.cassette = cassettes.write_cassette(folder / "cassette.yaml", TURNS)

    def run(self, workflow: str = "solo", *options: str) -> list[str]:
        """Return the arguments of `devflow run`, unconfined because what the agents do is known."""
        run = ["run", "--repo", str(self.repository), "--issue", str(self.issue), "--workflow", workflow]
        return [*run, "--sandbox", "none", *options]

    def recorded(self, workflow: str = "solo", *options: str) -> list[str]:
        """Return the arguments of `devflow run` with the recorded agent."""
        return self.run(workflow, "--cassette", str(self.cassette), *options)
