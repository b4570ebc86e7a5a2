"""Webhook bodies become typed events, as GitHub sends them and as it documents them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.github import events
from app.github.events import Event, parse
from app.github.shapes import GHOST, Person
from tests.github_double import ZERO, GitHubDouble, Pull, Repository, User


@dataclass
class Story:
    """A repository in which things happen, and the bodies that GitHub would send of them."""

    github: GitHubDouble
    repository: Repository
    ada: User
    seen: int = field(default=0)

    def told(self) -> list[tuple[str, Event | None]]:
        """Parse what was sent since the last time; returns (event name, event)."""
        new = self.github.deliveries[self.seen :]
        self.seen += len(new)
        return [(delivery.event, parse(delivery.event, delivery.body)) for delivery in new]

    def events(self) -> list[Event]:
        """Return what was told since the last time and means something here."""
        return [event for _, event in self.told() if event is not None]

    def pull(self) -> Pull:
        """Open a pull request from the branch `topic`."""
        self.repository.commit("topic", {"a.txt": "a"}, self.ada)
        pull = self.repository.open_pull(self.ada, "A pull", "topic", body="It closes nothing")
        self.told()
        return pull


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A double that keeps its webhooks to itself."""
    with GitHubDouble(tmp_path) as github:
        ada = github.person("ada")
        repository = github.repository("octo/bills", private=True)
        github.app.events += ["check_run"]
        yield Story(github, repository, ada, len(github.deliveries))


def test_a_label_names_the_issue_as_it_was_and_who_put_it_on(story: Story) -> None:
    issue = story.repository.open_issue(story.github.person("bob"), "Round the shares", "They do not add up")
    story.told()

    issue.label(story.ada, "devflow")
    issue.unlabel(story.ada, "devflow")

    labeled, unlabeled = story.events()
    assert isinstance(labeled, events.IssueLabeled)
    assert labeled.label == "devflow"
    assert labeled.sender == Person(story.ada.id, "ada")
    assert labeled.installation_id == story.repository.installation_id
    assert labeled.repository == events.Repository(story.repository.id, "octo/bills", "main", True, "octo")
    assert (labeled.issue.number, labeled.issue.id, labeled.issue.title) == (1, issue.id, "Round the shares")
    assert (labeled.issue.state, labeled.issue.labels, labeled.issue.is_pull) == ("open", ("devflow",), False)
    assert labeled.issue.author.login == "bob"
    assert labeled.issue.updated_at.utcoffset() is not None
    assert isinstance(unlabeled, events.IssueUnlabeled)
    assert unlabeled.label == "devflow"


def test_an_issue_is_edited_closed_and_opened_again(story: Story) -> None:
    issue = story.repository.open_issue(story.ada, "T")
    issue.edit(story.ada, title="U")
    issue.close(story.ada)
    issue.reopen(story.ada)

    assert [type(event) for event in story.events()] == [
        events.IssueEdited,
        events.IssueClosed,
        events.IssueReopened,
    ]


def test_a_comment_says_who_wrote_it_where_and_whether_an_app_did(story: Story) -> None:
    issue = story.repository.open_issue(story.ada, "T")
    pull = story.pull()
    issue.comment(story.ada, "/approve")
    pull.comment(story.github.app.bot, "a report")

    by_person, by_app = story.events()

    assert isinstance(by_person, events.CommentCreated)
    assert (by_person.comment.body, by_person.is_pull, by_person.comment.via_app) == ("/approve", False, False)
    assert by_person.comment.author == by_person.sender == Person(story.ada.id, "ada")
    assert isinstance(by_app, events.CommentCreated)
    assert (by_app.is_pull, by_app.comment.via_app, by_app.sender.is_bot) == (True, True, True)
    assert by_app.comment.author.is_bot


def test_a_comment_that_is_changed_or_deleted_is_another_event(story: Story) -> None:
    issue = story.repository.open_issue(story.ada, "T")
    comment = issue.comment(story.ada, "Looks good")
    issue.edit_comment(story.ada, comment, "/approve")
    issue.delete_comment(story.ada, comment)

    assert [type(event) for event in story.events()] == [
        events.CommentCreated,
        events.CommentEdited,
        events.CommentDeleted,
    ]


@pytest.mark.parametrize(
    ("verdict", "state"),
    [("approve", "approved"), ("request_changes", "changes_requested"), ("comment", "commented")],
)
def test_a_review_names_the_commit_that_it_saw(story: Story, verdict: str, state: str) -> None:
    pull = story.pull()
    old = pull.head_sha
    story.repository.commit("topic", {"a.txt": "b"}, story.ada)
    story.told()

    pull.review(story.github.person("bob"), verdict, "words", commit_id=old)

    (event,) = story.events()
    assert isinstance(event, events.ReviewSubmitted)
    assert (event.review.state, event.review.body, event.review.commit_id) == (state, "words", old)
    assert event.review.author.login == "bob"
    assert (event.pull.number, event.pull.head_ref, event.pull.head_sha) == (pull.number, "topic", pull.head_sha)
    assert event.pull.head_sha != old
    assert not event.from_fork


def test_a_review_is_dismissed(story: Story) -> None:
    pull = story.pull()
    review = pull.review(story.github.person("bob"), "approve")
    pull.dismiss_review(story.ada, review)

    _, event = story.events()
    assert isinstance(event, events.ReviewDismissed)
    assert (event.review.id, event.review.state) == (review.id, "dismissed")


def test_a_push_a_new_head_and_a_deleted_branch(story: Story) -> None:
    pull = story.pull()
    before = pull.head_sha
    story.repository.commit("topic", {"a.txt": "b"}, story.ada)

    pushed, synchronized = story.events()

    assert isinstance(pushed, events.Pushed)
    assert (pushed.branch, pushed.before, pushed.after, pushed.deleted) == ("topic", before, pull.head_sha, False)
    assert isinstance(synchronized, events.PullSynchronized)
    assert synchronized.pull.head_sha == pull.head_sha

    story.repository.delete_branch("topic", story.ada)

    deleted, gone, closed = story.events()
    assert isinstance(deleted, events.BranchDeleted)
    assert deleted.branch == "topic"
    assert isinstance(gone, events.Pushed)
    assert (gone.deleted, gone.after) == (True, ZERO)
    assert isinstance(closed, events.PullClosed)
    assert not closed.merged


def test_a_pull_request_is_labelled_merged_or_opened_again(story: Story) -> None:
    pull = story.pull()
    pull.label(story.ada, "devflow")
    pull.close(story.ada)
    pull.reopen(story.ada)
    pull.merge(story.ada)

    labelled, *told = [event for event in story.events() if isinstance(event, events.PullEvent)]
    assert isinstance(labelled, events.PullLabeled)
    assert (labelled.label, labelled.pull.number, labelled.sender.login) == ("devflow", pull.number, "ada")
    assert [type(event) for event in told] == [events.PullClosed, events.PullReopened, events.PullClosed]
    assert [event.merged for event in told if isinstance(event, events.PullClosed)] == [False, True]


def test_a_repository_is_renamed_and_deleted(story: Story) -> None:
    story.repository.rename("octo/invoices")
    story.repository.delete()

    renamed, deleted = story.events()
    assert isinstance(renamed, events.RepositoryRenamed)
    assert (renamed.repository.id, renamed.repository.full_name) == (story.repository.id, "octo/invoices")
    assert isinstance(deleted, events.RepositoryDeleted)


def test_the_app_is_installed_given_more_suspended_and_removed(story: Story) -> None:
    story.seen = 0
    other = story.github.repository("octo/other")
    story.github.suspend(other)
    story.github.unsuspend(other)
    story.github.uninstall(other)
    story.github.uninstall(story.repository)

    told = [event for event in story.events() if isinstance(event, events.InstallationChanged)]

    assert [event.action for event in told] == ["created", "added", "suspend", "unsuspend", "removed", "deleted"]
    assert [[name.full_name for name in event.added] for event in told] == [
        ["octo/bills"],
        ["octo/other"],
        [],
        [],
        [],
        [],
    ]
    assert [[name.id for name in event.removed] for event in told][-2:] == [[other.id], [story.repository.id]]
    assert all(event.repository is None for event in told)


# What the double does not do, in the form that GitHub documents.
COMMON: dict[str, Any] = {
    "repository": {
        "id": 7,
        "full_name": "octo/bills",
        "default_branch": "main",
        "private": False,
        "owner": {"login": "octo", "id": 8},
    },
    "installation": {"id": 9},
    "sender": {"login": "ada", "id": 10, "type": "User"},
}
ISSUE = {
    "number": 3,
    "id": 4,
    "title": "T",
    "body": None,
    "state": "open",
    "updated_at": "2026-11-20T12:00:00Z",
    "user": None,
    "labels": [{"name": "devflow"}],
}


def body(**parts: Any) -> bytes:
    """A webhook's body with the parts that all have."""
    return json.dumps(COMMON | parts).encode()


def test_a_check_is_asked_for_again() -> None:
    run = parse("check_run", body(action="rerequested", check_run={"head_sha": "a" * 40, "external_id": "run/x"}))
    suite = parse("check_suite", body(action="rerequested", check_suite={"head_sha": "b" * 40}))

    assert isinstance(run, events.CheckRerequested)
    assert (run.head_sha, run.external_id) == ("a" * 40, "run/x")
    assert isinstance(suite, events.CheckRerequested)
    assert (suite.head_sha, suite.external_id) == ("b" * 40, "")


@pytest.mark.parametrize(
    ("action", "kind"), [("deleted", events.IssueDeleted), ("transferred", events.IssueTransferred)]
)
def test_an_issue_goes_away(action: str, kind: type[Event]) -> None:
    event = parse("issues", body(action=action, issue=ISSUE))

    assert type(event) is kind
    assert isinstance(event, events.IssueEvent)
    assert event.issue.author == GHOST  # its account was deleted


@pytest.mark.parametrize(
    ("action", "kind"), [("transferred", events.RepositoryTransferred), ("edited", events.RepositoryEdited)]
)
def test_a_repository_changes_hands_or_settings(action: str, kind: type[Event]) -> None:
    assert type(parse("repository", body(action=action))) is kind


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("ping", b"{}"),
        ("star", b"not even JSON"),
        ("", b""),
        ("issues", body(action="opened", issue=ISSUE)),
        ("issues", body(action="assigned", issue=ISSUE)),
        ("issues", body(action="unlabeled", issue=ISSUE)),  # the label was deleted from the repository
        ("issue_comment", body(action="pinned")),
        ("pull_request", body(action="assigned")),
        ("pull_request_review", body(action="edited")),
        ("check_run", body(action="created")),
        ("installation", body(action="new")),
        ("repository", body(action="privatized")),
        ("push", body(ref="refs/tags/v1")),
        ("delete", body(ref="v1", ref_type="tag")),
    ],
)
def test_what_nothing_here_reacts_to_is_no_event(event: str, payload: bytes) -> None:
    assert parse(event, payload) is None


@pytest.mark.parametrize(
    ("person", "is_bot"),
    [
        ({"login": "renovate[bot]", "id": 1, "type": "Bot"}, True),
        ({"login": "odd", "id": 1, "type": "Bot"}, True),
        ({"login": "Renovate[BOT]", "id": 1}, True),
        ({"login": "bot", "id": 1, "type": "User"}, False),
        ({"login": "acme", "id": 1, "type": "Organization"}, False),
    ],
)
def test_a_bot_is_known_by_its_type_or_by_its_name(person: dict[str, Any], is_bot: bool) -> None:
    event = parse("issues", body(action="closed", issue=ISSUE, sender=person))

    assert event is not None
    assert event.sender.is_bot is is_bot


def test_a_pull_request_from_a_fork_is_told_apart() -> None:
    head = {"ref": "main", "sha": "a" * 40, "repo": {"id": 99}}
    pull = {
        "number": 1,
        "id": 2,
        "node_id": "PR_x",
        "state": "open",
        "head": head,
        "base": {"ref": "main"},
        "title": "T",
        "html_url": "https://github.com/octo/bills/pull/1",
    }

    theirs = parse("pull_request", body(action="synchronize", pull_request=pull))
    gone = parse("pull_request", body(action="synchronize", pull_request=pull | {"head": head | {"repo": None}}))

    assert isinstance(theirs, events.PullEvent)
    assert theirs.from_fork
    assert isinstance(gone, events.PullEvent)
    assert gone.from_fork


def test_text_that_no_database_can_hold_is_replaced() -> None:
    raw = body(action="labeled", issue=ISSUE | {"title": "a\0b\ud800c"}, label={"name": "devflow"})

    event = parse("issues", raw)

    assert isinstance(event, events.IssueLabeled)
    assert event.issue.title == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
