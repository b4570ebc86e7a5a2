"""What is wrong before a run exists: told with a code and the next thing to do, and nothing is left behind."""

from pathlib import Path

import pytest

from tests.model_server import Script, serving
from tests.support.cli import Answer
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import commit_files, git, make_repository, write_files
from tests.support.scenes import CODE, SOLO, Scene, script

WORKER = """name: worker
version: 1
backend: openai
model: scripted
prompt: Work.
capabilities: [spec_write]
consent: {reasons: [cost], text: It costs money.}
"""


class Refusals:
    """Runs commands that must be refused, and looks for what they leave."""

    def __init__(self, devflow: ForkedCli, scene: Scene) -> None:
        self.devflow = devflow
        self.scene = scene
        self.before = self._refs()

    def run(self, code: str, *options: str, env: dict[str, str] | None = None, stdin: str | bytes = b"") -> str:
        """Start a run that is refused with `code`; returns the message and the hint, the same in both forms."""
        command = [*self.scene.run(), *options]
        as_json = self.devflow.run(*command, "--json", env=env, stdin=stdin)
        assert (as_json.code, as_json.error) == (2, code), as_json
        error = as_json.json["error"]
        assert list(error) == ["code", "kind", "message", "recovery_hint"]
        assert as_json.err == ""
        as_text = self.devflow.run(*command, env=env, stdin=stdin)
        assert (as_text.code, as_text.out) == (2, "")
        assert as_text.err == f"error: {error['message']}\n  code: {code}\n  next: {error['recovery_hint']}\n"
        return f"{error['message']}\n{error['recovery_hint']}"

    def assert_nothing_is_left(self) -> None:
        """Assert that no run, branch or worktree came of all this."""
        assert self.devflow.run("runs", "--json", code=0).json == {"runs": []}
        assert self._refs() == self.before
        assert git(self.scene.repository, "status", "--porcelain") == ""
        workspaces = self.devflow.data_dir / "workspaces"
        assert not workspaces.exists() or not list(workspaces.iterdir())

    def _refs(self) -> str:
        return git(self.scene.repository, "for-each-ref")


@pytest.fixture
def refusals(devflow: ForkedCli, scene: Scene) -> Refusals:
    """Refusals of the sample repository; no model is configured."""
    return Refusals(devflow, scene)


def test_a_repository_that_cannot_be_worked_on(refusals: Refusals, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    bare, empty = tmp_path / "bare", tmp_path / "empty"
    git(tmp_path, "init", "--quiet", "--bare", str(bare))
    git(tmp_path, "init", "--quiet", str(empty))
    outer = make_repository(tmp_path / "outer", {"a": "1\n"})
    make_repository(outer / "inner", {"b": "2\n"})
    commit_files(outer, {"a": "2\n"})

    assert "--repo" in refusals.run("repository_not_found", "--repo", str(tmp_path / "nowhere"))
    refusals.run("repository_not_found", "--repo", str(plain))
    refusals.run("repository_bare", "--repo", str(bare))
    refusals.run("repository_empty", "--repo", str(empty))
    assert "inner" in refusals.run("nested_repository", "--repo", str(outer))
    assert "main" in refusals.run("base_not_found", "--base", "mian")
    refusals.assert_nothing_is_left()


def test_an_issue_that_cannot_be_read(refusals: Refusals, tmp_path: Path) -> None:
    blank, latin, huge, hidden = (tmp_path / name for name in ("blank", "latin", "huge", "hidden"))
    blank.write_text(" \n\t\n")
    latin.write_bytes("# Schön\n".encode("latin-1"))
    huge.write_text("x" * 1_000_001)
    hidden.write_text("<!-- nobody sees this -->\n")

    refusals.run("issue_invalid", "--issue", str(blank))
    assert "UTF-8" in refusals.run("issue_invalid", "--issue", str(latin))
    assert "1000000" in refusals.run("issue_invalid", "--issue", str(huge))
    refusals.run("issue_invalid", "--issue", str(hidden))
    assert "nowhere.md" in refusals.run("issue_invalid", "--issue", "nowhere.md")
    refusals.run("issue_invalid", "--issue", "-", stdin=b"a\x00b")
    refusals.assert_nothing_is_left()


def test_names_that_nothing_has(refusals: Refusals) -> None:
    assert "development" in refusals.run("workflow_not_found", "--workflow", "developmnt")
    cassette = ["--cassette", str(refusals.scene.cassette)]
    assert "recorded-author" in refusals.run("persona_not_found", *cassette, "--persona", "author=recorded-autor")
    assert "roles: author" in refusals.run("binding_unsatisfied", *cassette, "--persona", "autor=recorded-author")
    assert "ROLE=NAME" in refusals.run("usage", *cassette, "--persona", "author")
    refusals.run("config_invalid", "--cassette", "nowhere.yaml")
    refusals.assert_nothing_is_left()


def test_files_with_mistakes_are_told_with_file_and_line(refusals: Refusals) -> None:
    commit_files(
        refusals.scene.repository,
        {
            ".devflow/workflows/wrong.yaml": SOLO.replace("name: solo", "name: wrong").replace(
                "role: author", "role: x"
            ),
            ".devflow/workflows/unknown.yaml": SOLO.replace("name: solo", "name: unknown").replace("spec@1", "spec@9"),
            ".devflow/workflows/check.yaml": CODE.replace("name: code", "name: check").replace("use: all", "use: lint"),
        },
    )

    assert ".devflow/workflows/wrong.yaml:" in refusals.run("config_invalid", "--workflow", "wrong")
    assert "dev/spec@1" in refusals.run("schema_not_found", "--workflow", "unknown")
    assert "answer" in refusals.run("config_invalid", "--workflow", "check")
    commit_files(refusals.scene.repository, {".github/devflow.yml": "workflow: solo\nchekcs: {}\n"})
    assert ".github/devflow.yml:2" in refusals.run("config_invalid")
    refusals.before = git(refusals.scene.repository, "for-each-ref")
    refusals.assert_nothing_is_left()


def test_nobody_to_do_the_work(refusals: Refusals) -> None:
    told = refusals.run("binding_unsatisfied")
    assert "OPENAI_API_KEY" in told
    assert "author" in told
    with serving(Script(models=["small", "large"])) as server:
        env = {"OPENAI_BASE_URL": server.base_url}
        told = refusals.run("backend_unavailable", "--model", "medium", env=env)
        assert "small" in told
        assert "large" in told
        assert "RUN" not in told
        refusals.run("price_unknown", "--model", "small", "--budget-usd", "1", env=env)
        assert server.requests == []
    with serving(Script(api_key="right")) as server:
        env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-wrong-0123456789"}
        told = refusals.run("backend_unavailable", "--model", "scripted", env=env)
        assert "sk-wrong" not in told
    gone = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert "127.0.0.1:9" in refusals.run("backend_unavailable", "--model", "scripted", env=gone)
    refusals.assert_nothing_is_left()


def test_a_database_or_sandbox_that_is_not_there(refusals: Refusals, tmp_path: Path) -> None:
    gone = "postgresql://ada:hunter2@127.0.0.1:9/devflow"
    cassette = ["--cassette", str(refusals.scene.cassette)]
    told = refusals.run("database_unavailable", *cassette, env={"DEVFLOW_DATABASE_URL": gone})
    assert "127.0.0.1" in told
    assert "hunter2" not in told
    assert "DEVFLOW_DATABASE_URL" in refusals.run("config_invalid", env={"DEVFLOW_DATABASE_URL": "mysql://hunter2@x"})
    assert "HEARTBEAT" in refusals.run("config_invalid", env={"DEVFLOW_HEARTBEAT_SECONDS": "often"})
    shown = refusals.devflow.run("show", "abcd", "--json", env={"DEVFLOW_DATABASE_URL": gone})
    assert shown.error == "database_unavailable"

    # a PATH with git and no bubblewrap
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "sh"):
        (programs / name).symlink_to(Path("/usr/bin") / name)
    told = refusals.run("sandbox_unavailable", *cassette, "--sandbox", "bwrap", env={"PATH": str(programs)})
    assert "bubblewrap" in told
    refusals.assert_nothing_is_left()


def test_consent_is_asked_for_granted_listed_and_revoked(devflow: ForkedCli, scene: Scene) -> None:
    # arrange: the role's only persona asks for consent
    commit_files(scene.repository, {".devflow/personas/worker.yaml": WORKER})
    refusals = Refusals(devflow, scene)
    repo = ["--repo", str(scene.repository)]
    with serving(script()) as server:
        devflow.env["OPENAI_BASE_URL"] = server.base_url
        choose = ["--persona", "author=worker", "--approve", "always"]

        # act and assert: asked, granted, used
        told = refusals.run("consent_required", *choose)
        assert "worker" in told
        assert "devflow consent grant" in told
        refusals.assert_nothing_is_left()
        granted = devflow.run("consent", "grant", "worker", *repo, "--as", "ada", code=0)
        assert "ada consents to worker" in granted.out
        listed = devflow.run("consent", "list", "--json", code=0).json["consents"]
        assert [(row["persona"], row["by"], row["revoked_at"]) for row in listed] == [("worker", "ada", None)]
        assert devflow.run(*scene.run("solo", *choose, "--json"), code=0).json["state"] == "completed"

        # revoked: asked again; and so where the persona has changed
        devflow.run("consent", "revoke", "worker", *repo, code=0)
        assert "revoked" in devflow.run("consent", "list", code=0).out
        refused(devflow.run(*scene.run("solo", *choose, "--json")), "consent_required")
        refused(devflow.run("consent", "revoke", "worker", *repo, "--json"), "persona_not_found")
        devflow.run("consent", "grant", "worker", *repo, code=0)
        commit_files(scene.repository, {".devflow/personas/worker.yaml": WORKER.replace("Work.", "Work hard.")})
        refused(devflow.run(*scene.run("solo", *choose, "--json")), "consent_required")
    refused(devflow.run("consent", "grant", "wroker", *repo, "--json"), "persona_not_found")


def test_a_mistyped_command_is_a_usage_error(devflow: ForkedCli, scene: Scene) -> None:
    for arguments in (
        ["run", "--repo", str(scene.repository)],
        scene.run("solo", "--budget-usd", "free"),
        scene.run("solo", "--budget-usd", "0"),
        scene.run("solo", "--approve", "sometimes"),
        ["runs", "--state", "sleeping"],
        ["show"],
        ["frobnicate"],
    ):
        answer = devflow.run(*arguments, code=2)
        assert answer.out == ""
        assert answer.err


def test_validate_names_file_line_what_was_found_and_what_is_allowed(devflow: ForkedCli, tmp_path: Path) -> None:
    good = Scene(tmp_path / "good").repository
    assert "no problems" in devflow.run("validate", good, code=0).out
    assert devflow.run("validate", "--json", cwd=good, code=0).json["problems"] == []
    write_files(good, {".devflow/workflows/solo.yaml": SOLO.replace("timeout_seconds: 60", "timeout_seconds: soon")})

    bad = devflow.run("validate", good, code=2)
    problems = devflow.run("validate", good, "--json", code=2).json["problems"]

    line = 1 + SOLO[: SOLO.index("timeout_seconds")].count("\n")
    assert f".devflow/workflows/solo.yaml:{line}" in bad.out
    assert [(one["file"], one["line"]) for one in problems] == [(".devflow/workflows/solo.yaml", line)]
    assert "soon" in problems[0]["found"]
    assert problems[0]["allowed"]
    devflow.run("validate", tmp_path / "nowhere", code=2)


def refused(answer: Answer, code: str) -> None:
    """Assert that the command was refused with `code`."""
    assert (answer.code, answer.error) == (2, code), answer
