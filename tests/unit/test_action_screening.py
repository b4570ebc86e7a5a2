"""Which events a step goes on with, seen from the event alone; and which issue they are about."""

import json
from typing import Any, cast

import pytest

from app.action.screening import issue_of, issue_of_branch, screen
from app.github import events
from app.github.answers import pull_of
from app.github.client import GitHubRepository
from app.github.reading import Fields
from app.github.shapes import Pull
from app.inbound.router import router

ADA = {"id": 1, "login": "ada", "type": "User"}
BOT = {"id": 2, "login": "github-actions[bot]", "type": "Bot"}
REPOSITORY = {"id": 4711, "full_name": "octo/answers", "default_branch": "main", "private": False}
ISSUE = {
    "number": 7,
    "id": 70,
    "title": "The answer is wrong",
    "body": "",
    "state": "open",
    "updated_at": "2026-11-21T12:00:00Z",
    "user": ADA,
    "labels": [],
}


def body(action: str, sender: dict[str, Any] = ADA, **parts: Any) -> bytes:
    return json.dumps({"action": action, "sender": sender, "repository": REPOSITORY, **parts}).encode()


def comment(text: str, author: dict[str, Any] = ADA, **more: Any) -> dict[str, Any]:
    at = "2026-11-21T12:00:00Z"
    return {"id": 5, "node_id": "C", "user": author, "body": text, "created_at": at, "updated_at": at, **more}


def pull(repository_id: int | None = 4711, ref: str = "devflow/7-the-answer-is-wrong-0a1b2c3d") -> dict[str, Any]:
    return {
        "number": 9,
        "id": 90,
        "node_id": "P",
        "draft": True,
        "state": "open",
        "head": {"ref": ref, "sha": "0" * 40, "repo": None if repository_id is None else {"id": repository_id}},
        "base": {"ref": "main"},
        "title": "Answer",
        "body": "",
        "html_url": "https://github.example/octo/answers/pull/9",
        "user": BOT,
    }


def review(state: str, text: str = "", author: dict[str, Any] = ADA) -> dict[str, Any]:
    return {
        "id": 6,
        "node_id": "R",
        "user": author,
        "state": state,
        "body": text,
        "commit_id": "0" * 40,
        "submitted_at": "2026-11-21T12:00:00Z",
    }


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("issues", body("labeled", issue=ISSUE, label={"name": "devflow"})),
        ("issues", body("labeled", issue=ISSUE, label={"name": "any other, which the configuration may name"})),
        ("issues", body("closed", issue=ISSUE)),
        ("issue_comment", body("created", issue=ISSUE, comment=comment("/approve"))),
        ("issue_comment", body("created", issue=ISSUE, comment=comment("/aprove"))),
        ("issue_comment", body("created", issue=ISSUE | {"pull_request": {}}, comment=comment("/devflow help"))),
        ("pull_request_review", body("submitted", pull_request=pull(), review=review("approved"))),
        ("pull_request_review", body("submitted", pull_request=pull(), review=review("changes_requested"))),
        ("pull_request_review", body("submitted", pull_request=pull(), review=review("commented", "/approve"))),
        ("pull_request", body("closed", pull_request=pull())),
        ("push", body("", ref="refs/heads/devflow/7-x-0a1b2c3d", before="0" * 40, after="1" * 40, deleted=False)),
    ],
)
def test_what_may_be_ours_is_gone_on_with(name: str, data: bytes) -> None:
    screened = screen(name, data)
    assert screened.event is not None
    assert screened.event.repository.id == 4711


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("issues", body("labeled", BOT, issue=ISSUE, label={"name": "devflow"}), "a bot put the label on"),
        ("issues", body("labeled", issue=ISSUE | {"pull_request": {}}, label={"name": "devflow"}), "on a pull request"),
        ("pull_request", body("labeled", pull_request=pull(), label={"name": "devflow"}), "on a pull request"),
        ("issues", body("opened", issue=ISSUE), "this kind of event (issues)"),
        ("issue_comment", body("created", issue=ISSUE, comment=comment("looks good")), "no command"),
        ("issue_comment", body("created", issue=ISSUE, comment=comment("> /approve")), "no command"),
        ("issue_comment", body("created", issue=ISSUE, comment=comment("`/approve`")), "no command"),
        ("issue_comment", body("created", BOT, issue=ISSUE, comment=comment("/approve", BOT)), "no person"),
        (
            "issue_comment",
            body("created", issue=ISSUE, comment=comment("<!-- devflow:run/x/status -->\n/approve")),
            "no person",
        ),
        ("pull_request_review", body("submitted", pull_request=pull(), review=review("commented", "fine")), "verdict"),
        ("pull_request_review", body("submitted", pull_request=pull(4712), review=review("approved")), "a fork"),
        ("pull_request_review", body("submitted", pull_request=pull(None), review=review("approved")), "a fork"),
        ("pull_request_review", body("submitted", BOT, pull_request=pull(), review=review("approved", "", BOT)), "bot"),
        ("pull_request", body("closed", pull_request=pull(4712)), "a fork"),
        ("push", body("", ref="refs/heads/main", before="0" * 40, after="1" * 40, deleted=False), "no run's"),
        ("workflow_run", body("completed"), "this kind of event"),
        ("issues", b"{", "cannot be read"),
        ("issue_comment", body("created", issue=ISSUE), "cannot be read"),
    ],
)
def test_what_is_none_of_ours_ends_with_a_reason(name: str, data: bytes, why: str) -> None:
    screened = screen(name, data)
    assert screened.event is None
    assert why in screened.why


@pytest.mark.parametrize("branch", ["$(touch${IFS}pwned)", "devflow/7-$(touch${IFS}pwned)-0a1b2c3d"])
async def test_a_branch_of_any_name_is_only_a_name(branch: str) -> None:
    on_pull = ISSUE | {"number": 9, "pull_request": {}}
    said = screen("issue_comment", body("created", issue=on_pull, comment=comment("/approve"))).event
    review_of_it = body("submitted", pull_request=pull(ref=branch), review=review("approved"))
    reviewed = screen("pull_request_review", review_of_it).event

    assert isinstance(said, events.CommentCreated)
    assert isinstance(reviewed, events.ReviewSubmitted)
    assert await issue_of(cast(GitHubRepository, None), reviewed) is None
    assert issue_of_branch(branch) is None


class Pulls:
    """A GitHub that shows one pull request."""

    def __init__(self, repository_id: int | None, ref: str) -> None:
        self._pull = pull_of(Fields(pull(repository_id, ref)))

    async def pull(self, number: int) -> Pull:
        return self._pull


@pytest.mark.parametrize(
    ("repository_id", "ref", "issue"),
    [
        (4711, "devflow/7-the-answer-is-wrong-0a1b2c3d", 7),
        (4711, "notes", 9),
        (4712, "devflow/7-the-answer-is-wrong-0a1b2c3d", None),
        (4712, "notes", None),
        (None, "notes", None),
    ],
)
async def test_a_comment_on_a_pull_request_is_about_its_branchs_issue_and_from_a_fork_about_none(
    repository_id: int | None, ref: str, issue: int | None
) -> None:
    on_pull = ISSUE | {"number": 9, "pull_request": {}}
    event = screen("issue_comment", body("created", issue=on_pull, comment=comment("/devflow help"))).event
    assert event is not None
    assert await issue_of(cast(GitHubRepository, Pulls(repository_id, ref)), event) == issue


async def test_a_review_of_a_pull_request_of_peoples_own_is_about_no_issue() -> None:
    data = body("submitted", pull_request=pull(ref="notes"), review=review("approved"))
    event = screen("pull_request_review", data).event
    assert event is not None
    assert await issue_of(cast(GitHubRepository, Pulls(4711, "notes")), event) is None


def test_every_event_that_has_a_handler_is_gone_on_with_or_ends_for_a_reason_of_its_own() -> None:
    assert router.kinds, "the handlers are registered by importing the screening"
    assert events.IssueLabeled in router.kinds


@pytest.mark.parametrize(
    ("branch", "issue"),
    [
        ("devflow/7-the-answer-is-wrong-0a1b2c3d", 7),
        ("devflow/7-0a1b2c3d", None),
        ("devflow/07-x-0a1b2c3d", None),
        ("devflow/7-x-0a1b2c3", None),
        ("feature/devflow/7-x-0a1b2c3d", None),
        ("devflow/7-$(touch x)-0a1b2c3d", None),
    ],
)
def test_a_runs_branch_names_its_issue(branch: str, issue: int | None) -> None:
    assert issue_of_branch(branch) == issue
