"""Rights that GitHub does not give: said once where they are missed, nothing lost, and made up for when granted."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import UUID

import pytest

from app.github.hub import GitHub
from engine.store.database import Database
from tests.support.github_app import github_by_token
from tests.support.shown import Stage, stage

ALL = {"contents": "write", "issues": "write", "pull-requests": "write", "checks": "write", "statuses": "write"}


def without(*names: str) -> dict[str, str]:
    return {name: level for name, level in ALL.items() if name not in names}


def next_job(on: Stage, permissions: Mapping[str, str] = ALL) -> AbstractAsyncContextManager[GitHub]:
    """What the next job of the workflow reaches GitHub by: a token of its own, in a process of its own."""
    return github_by_token(on.github, on.database, on.github.actions_token(on.hub, permissions), on.clock)


async def again_by(on: Stage, app: GitHub, run_id: UUID) -> None:
    on.app = app
    projector = on.projector()
    await projector.reconsider(run_id)
    await projector.project(run_id)


async def test_with_every_right_a_jobs_token_shows_what_an_app_shows(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, permissions=ALL) as on:
        run_id = await on.at_gate()
        await on.show(run_id)

        assert on.pull().author.login == "github-actions[bot]"
        assert on.comment("/gate/").issue is on.pull()
        assert on.comment("/status").issue is on.hub.issues[0]
        assert [check.app.slug for check in on.hub.check_runs] == ["github-actions"]
        assert on.app.refusals.errors == []
        before = len(on.writes)
        await on.show(run_id)
        assert len(on.writes) == before


async def test_a_pull_request_that_may_not_be_opened_is_said_once_and_the_gate_stands_on_the_issue(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database, permissions=ALL) as on:
        on.hub.actions_may_open_pulls = False
        run_id = await on.at_gate()
        await on.show(run_id)
        await on.show(run_id)

        assert [error.code for error in on.app.refusals.errors] == ["pull_request_forbidden"]
        said = on.comment("/refused/pull_request_forbidden").body
        assert "Settings > Actions > General > Workflow permissions" in said
        assert "Allow GitHub Actions to create and approve pull requests" in said
        assert on.comment("/gate/").issue is on.hub.issues[0]
        assert len(on.github.calls("POST", "/pulls")) == 1, "within one job nothing about it changes"
        assert (await on.projection(run_id))["again_at"] is None, "no job waits for it"


async def test_the_next_job_opens_the_pull_request_when_the_setting_was_changed(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database, permissions=ALL) as on:
        on.hub.actions_may_open_pulls = False
        run_id = await on.at_gate()
        await on.show(run_id)
        async with next_job(on) as app:
            await again_by(on, app, run_id)
            assert on.hub.pulls == []
            assert len(on.comments("/refused/")) == 1
        on.hub.actions_may_open_pulls = True

        async with next_job(on) as app:
            await again_by(on, app, run_id)
            assert on.app.refusals.errors == []

        assert on.pull().state == "open"
        told = on.comment("/refused/")
        assert told.minimized_reason == "resolved"
        assert "GitHub lets Devflow do it now" in told.body


@pytest.mark.parametrize(
    ("missing", "permission"),
    [(("pull-requests",), "pull-requests: write"), (("checks", "statuses"), "checks: write")],
)
async def test_a_missing_permission_is_named_on_the_issue(
    tmp_path: Path, database: Database, missing: tuple[str, ...], permission: str
) -> None:
    async with stage(tmp_path, database, permissions=without(*missing)) as on:
        run_id = await on.at_gate()
        await on.show(run_id)

        (error,) = on.app.refusals.errors
        assert (error.code, error.details["permission"]) == ("permission_missing", permission)
        said = on.comment("/refused/permission_missing/")
        assert f"add `{permission}` to `permissions:` of the workflow" in said.body.replace("Add", "add")
        assert said.issue is on.hub.issues[0]
        assert on.comment("/status").issue is on.hub.issues[0], "all else is shown"


async def test_without_check_runs_a_status_does_and_nothing_is_missed(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, permissions=without("checks")) as on:
        run_id = await on.at_gate()
        await on.show(run_id)

        assert on.app.refusals.errors == []
        assert on.hub.check_runs == []
        assert on.hub.commit_statuses != []


async def test_where_nothing_may_be_written_the_process_still_learns_why(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, permissions=without("issues", "pull-requests")) as on:
        run_id = await on.at_gate()
        await on.show(run_id)

        named = {error.details["permission"] for error in on.app.refusals.errors}
        assert named == {"issues: write", "pull-requests: write"}
        assert on.hub.issues[0].comments == []
        asked = len(on.writes)
        await on.show(run_id)
        assert len(on.writes) == asked, "what is refused for the whole job is not asked again"


async def test_an_app_tells_of_a_missing_right_and_asks_again_later(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        forbidden = on.github.plan(
            "POST", "*/pulls", status=403, times=1, body={"message": "Resource not accessible by integration"}
        )
        run_id = await on.at_gate()
        await on.show(run_id)
        assert "pull-requests: write" in on.comment("/refused/").body

        on.clock.step(180)
        await on.sweep()

        assert forbidden.hits == 1
        assert on.pull().state == "open"
        assert on.comment("/refused/").minimized_reason == "resolved"


async def test_whoever_gave_the_token_is_told_to_decide_by_a_comment(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, permissions=ALL) as on:
        run_id = await on.at_gate()
        token = on.github.personal_token(on.github.person("ada"))
        async with github_by_token(on.github, on.database, token, on.clock) as app:
            on.app = app
            await on.show(run_id)

        assert on.pull().author.login == "ada"
        (gate,) = [one.body for one in on.pull().comments if "/gate/" in one.body.split("\n")[0]]
        assert "ada opened the pull request, and GitHub lets nobody review their own" in gate
