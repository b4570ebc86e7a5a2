"""Turns a webhook request into a typed event: bytes in, a value out, nothing asked of anybody.

The inbox calls `parse` long after the door has stored the bytes. Events and actions that nothing here reacts to are
None; a body that is not what GitHub documents is `Unreadable`. Adding an event: its class in `event_types`, its reader
and its row in `_READERS` below, and a handler in `app/inbound`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.github.answers import comment_of, person_of, pull_of, review_of
from app.github.event_types import (
    BranchDeleted,
    CheckRerequested,
    CommentCreated,
    CommentDeleted,
    CommentEdited,
    CommentEvent,
    Event,
    InstallationChanged,
    IssueClosed,
    IssueDeleted,
    IssueEdited,
    IssueEvent,
    IssueLabeled,
    IssueRef,
    IssueReopened,
    IssueTransferred,
    IssueUnlabeled,
    PullClosed,
    PullEvent,
    PullLabeled,
    PullReopened,
    PullSynchronized,
    Pushed,
    Repository,
    RepositoryDeleted,
    RepositoryEdited,
    RepositoryEvent,
    RepositoryName,
    RepositoryRenamed,
    RepositoryTransferred,
    ReviewDismissed,
    ReviewSubmitted,
)
from app.github.reading import Fields, Unreadable, load_object
from app.github.shapes import Person, Pull

__all__ = [
    "BranchDeleted",
    "CheckRerequested",
    "CommentCreated",
    "CommentDeleted",
    "CommentEdited",
    "CommentEvent",
    "Event",
    "InstallationChanged",
    "IssueClosed",
    "IssueDeleted",
    "IssueEdited",
    "IssueEvent",
    "IssueLabeled",
    "IssueRef",
    "IssueReopened",
    "IssueTransferred",
    "IssueUnlabeled",
    "PullClosed",
    "PullEvent",
    "PullLabeled",
    "PullReopened",
    "PullSynchronized",
    "Pushed",
    "Repository",
    "RepositoryDeleted",
    "RepositoryEdited",
    "RepositoryEvent",
    "RepositoryName",
    "RepositoryRenamed",
    "RepositoryTransferred",
    "ReviewDismissed",
    "ReviewSubmitted",
    "Unreadable",
    "parse",
]

_BRANCH = "refs/heads/"
_OF_EVERY_EVENT = {"action", "changes", "enterprise", "installation", "organization", "repository", "sender"}


@dataclass(frozen=True)
class _Body:
    """A webhook's body, and its parts that every event shares."""

    fields: Fields
    action: str

    @property
    def sender(self) -> Person:
        return person_of(self.fields.maybe_child("sender"))

    @property
    def installation_id(self) -> int | None:
        installation = self.fields.maybe_child("installation")
        return installation.number("id") if installation else None

    @property
    def repository(self) -> Repository:
        fields = self.fields.child("repository")
        full_name = fields.text("full_name")
        return Repository(
            id=fields.number("id"),
            full_name=full_name,
            default_branch=fields.text("default_branch"),
            private=fields.flag("private"),
            owner=full_name.partition("/")[0],
        )

    @property
    def issue(self) -> IssueRef:
        fields = self.fields.child("issue")
        return IssueRef(
            number=fields.number("number"),
            id=fields.number("id"),
            title=fields.text("title"),
            body=fields.maybe_text("body"),
            state=fields.maybe_text("state"),
            updated_at=fields.time("updated_at"),
            author=person_of(fields.maybe_child("user")),
            labels=tuple(label.text("name") for label in fields.children("labels")),
            is_pull=fields.has("pull_request"),
        )

    @property
    def pull(self) -> Pull:
        return pull_of(self.fields.child("pull_request"))


def parse(event: str, body: bytes) -> Event | None:
    """Return the event that a delivery means, None where it is not one of ours.

    `event` is the header X-GitHub-Event. Raises `Unreadable` for a body that is not what GitHub documents.
    """
    reader = _READERS.get(event)
    if reader is None:
        return None
    fields = load_object(body)
    _check_kind(event, fields)
    return reader(_Body(fields, fields.maybe_text("action")))


def _check_kind(event: str, fields: Fields) -> None:
    """Raise `Unreadable` for a body of another event: the signature does not cover the header that names it.

    A deleted comment would else be a deleted issue or a deleted repository to whoever sends a body that they kept.
    """
    others: set[str] = set()
    if event == "issues":
        others = {"comment"} & fields.data.keys()
    elif event == "repository":
        others = fields.data.keys() - _OF_EVERY_EVENT
    if others:
        raise Unreadable(f"{sorted(others)[0]} is not part of the event {event}")


def _issue(body: _Body) -> Event | None:
    kinds: dict[str, type[IssueEvent]] = {
        "closed": IssueClosed,
        "reopened": IssueReopened,
        "deleted": IssueDeleted,
        "transferred": IssueTransferred,
        "edited": IssueEdited,
    }
    labelings: dict[str, type[IssueLabeled | IssueUnlabeled]] = {
        "labeled": IssueLabeled,
        "unlabeled": IssueUnlabeled,
    }
    if kind := kinds.get(body.action):
        return kind(
            repository=body.repository, installation_id=body.installation_id, sender=body.sender, issue=body.issue
        )
    if labeling := labelings.get(body.action):
        # a label that was deleted from the repository altogether is taken off without a name
        label = body.fields.maybe_child("label")
        if label is None:
            return None
        return labeling(
            repository=body.repository,
            installation_id=body.installation_id,
            sender=body.sender,
            issue=body.issue,
            label=label.text("name"),
        )
    return None


def _comment(body: _Body) -> Event | None:
    kinds: dict[str, type[CommentEvent]] = {
        "created": CommentCreated,
        "edited": CommentEdited,
        "deleted": CommentDeleted,
    }
    kind = kinds.get(body.action)
    if kind is None:
        return None
    return kind(
        repository=body.repository,
        installation_id=body.installation_id,
        sender=body.sender,
        issue=body.issue,
        comment=comment_of(body.fields.child("comment")),
    )


def _review(body: _Body) -> Event | None:
    kinds: dict[str, type[ReviewSubmitted | ReviewDismissed]] = {
        "submitted": ReviewSubmitted,
        "dismissed": ReviewDismissed,
    }
    kind = kinds.get(body.action)
    if kind is None:
        return None
    return kind(
        repository=body.repository,
        installation_id=body.installation_id,
        sender=body.sender,
        pull=body.pull,
        review=review_of(body.fields.child("review")),
    )


def _pull(body: _Body) -> Event | None:
    if body.action == "closed":
        pull = body.pull
        return PullClosed(
            repository=body.repository,
            installation_id=body.installation_id,
            sender=body.sender,
            pull=pull,
            merged=pull.merged,
        )
    if body.action == "labeled":
        return PullLabeled(
            repository=body.repository,
            installation_id=body.installation_id,
            sender=body.sender,
            pull=body.pull,
            label=body.fields.child("label").text("name"),
        )
    kinds: dict[str, type[PullEvent]] = {"reopened": PullReopened, "synchronize": PullSynchronized}
    kind = kinds.get(body.action)
    if kind is None:
        return None
    return kind(repository=body.repository, installation_id=body.installation_id, sender=body.sender, pull=body.pull)


def _push(body: _Body) -> Event | None:
    ref = body.fields.text("ref")
    if not ref.startswith(_BRANCH):
        return None
    pusher = body.fields.maybe_child("pusher")
    return Pushed(
        repository=body.repository,
        installation_id=body.installation_id,
        sender=body.sender,
        ref=ref,
        branch=ref.removeprefix(_BRANCH),
        before=body.fields.text("before"),
        after=body.fields.text("after"),
        deleted=body.fields.flag("deleted"),
        pusher=pusher.maybe_text("name") if pusher else "",
    )


def _delete(body: _Body) -> Event | None:
    if body.fields.text("ref_type") != "branch":
        return None
    return BranchDeleted(
        repository=body.repository,
        installation_id=body.installation_id,
        sender=body.sender,
        branch=body.fields.text("ref"),
    )


def _check_run(body: _Body) -> Event | None:
    return _rerequested(body, body.fields.child("check_run")) if body.action == "rerequested" else None


def _check_suite(body: _Body) -> Event | None:
    return _rerequested(body, body.fields.child("check_suite")) if body.action == "rerequested" else None


def _rerequested(body: _Body, check: Fields) -> Event:
    return CheckRerequested(
        repository=body.repository,
        installation_id=body.installation_id,
        sender=body.sender,
        head_sha=check.text("head_sha"),
        external_id=check.maybe_text("external_id"),
    )


def _installation(body: _Body) -> Event | None:
    if body.action not in ("created", "deleted", "suspend", "unsuspend", "new_permissions_accepted"):
        return None
    body.fields.child("installation").child("account")  # other events name no more of an installation than its id
    named = _names(body, "repositories")
    return InstallationChanged(
        repository=None,
        installation_id=body.fields.child("installation").number("id"),
        sender=body.sender,
        action=body.action,
        added=named if body.action == "created" else (),
        removed=named if body.action == "deleted" else (),
    )


def _installation_repositories(body: _Body) -> Event | None:
    if body.action not in ("added", "removed"):
        return None
    return InstallationChanged(
        repository=None,
        installation_id=body.fields.child("installation").number("id"),
        sender=body.sender,
        action=body.action,
        added=_names(body, "repositories_added"),
        removed=_names(body, "repositories_removed"),
    )


def _names(body: _Body, field: str) -> tuple[RepositoryName, ...]:
    if not body.fields.has(field):
        return ()
    return tuple(
        RepositoryName(item.number("id"), item.text("full_name"), item.flag("private"))
        for item in body.fields.children(field)
    )


def _repository(body: _Body) -> Event | None:
    kinds: dict[str, type[RepositoryEvent]] = {
        "renamed": RepositoryRenamed,
        "transferred": RepositoryTransferred,
        "edited": RepositoryEdited,
        "deleted": RepositoryDeleted,
    }
    kind = kinds.get(body.action)
    if kind is None:
        return None
    return kind(repository=body.repository, installation_id=body.installation_id, sender=body.sender)


_READERS: dict[str, Callable[[_Body], Event | None]] = {
    "issues": _issue,
    "issue_comment": _comment,
    "pull_request_review": _review,
    "pull_request": _pull,
    "push": _push,
    "delete": _delete,
    "check_run": _check_run,
    "check_suite": _check_suite,
    "installation": _installation,
    "installation_repositories": _installation_repositories,
    "repository": _repository,
}
